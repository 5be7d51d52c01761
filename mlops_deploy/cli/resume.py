"""`mlops-deploy resume`: somebody else's release, or an interrupted one, is finished."""

import click

from mlops_deploy.cli import options
from mlops_deploy.cli.place import Place, placed
from mlops_deploy.cli.result import carry_out


@click.command()
@placed
@options.output
def resume(place: Place, output: str) -> None:
    """Go on with the release that has not ended, forward or back, from whatever machine.

    It looks at the slots and the router first, and repeats the step that was begun.
    """
    from mlops_deploy.api import decisions

    carry_out(place, output, lambda story: decisions.resume(place.service(), story.witness))
