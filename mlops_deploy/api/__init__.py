"""The façade: one module per verb, which takes ports as arguments and returns a result. Never prints."""
