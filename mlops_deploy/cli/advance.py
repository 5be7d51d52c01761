"""`mlops-deploy advance`: the decision that a release waits for."""

import click

from mlops_deploy.cli import options
from mlops_deploy.cli.place import Place, placed
from mlops_deploy.cli.result import carry_out


@click.command()
@placed
@options.output
def advance(place: Place, output: str) -> None:
    """Let the release that waits for a decision go on, as `release --until ready` left it."""
    from mlops_deploy.api import decisions

    carry_out(place, output, lambda story: decisions.advance(place.service(), story.witness))
