"""What a model needs, read from its files and never executed, and whether a server has it."""
