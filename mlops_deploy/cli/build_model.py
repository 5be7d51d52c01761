"""`mlops-deploy build-model`: a model becomes a carrier."""

import click


@click.command("build-model")
def build_model() -> None:
    """Build the carrier image of a model."""
