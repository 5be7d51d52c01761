"""`mlops-deploy rollback`: what was live before takes the traffic back."""

import click

from mlops_deploy.cli import options
from mlops_deploy.cli.place import Place, placed
from mlops_deploy.cli.result import carry_out


@click.command()
@placed
@options.insecure_registries
@options.output
def rollback(place: Place, insecure_registries: tuple[str, ...], output: str) -> None:
    """Give the traffic back to what was live before; hot when that still runs in its slot.

    Needs no version. A second rollback goes forward again.
    """
    from mlops_deploy.api import decisions

    carry_out(place, output, lambda story: decisions.rollback(place.service(insecure_registries), story, story.witness))
