"""The keeper: the one writer of a service's state folder. Standard library alone, and little of it: it starts often."""
