"""mlops-deploy: from a model file to a served, switchable, observable endpoint."""

__version__ = "0.1.0"
