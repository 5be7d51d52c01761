"""`mlops-deploy abort`: the release that has not ended turns back."""

import click

from mlops_deploy.cli import options
from mlops_deploy.cli.place import Place, placed
from mlops_deploy.cli.result import carry_out


@click.command()
@placed
@click.option("-m", "--message", type=options.SomeText(), metavar="TEXT", default="aborted", help="Why.")
@options.output
def abort(place: Place, message: str, output: str) -> None:
    """Turn the open release back: traffic as it was before it, its candidate stopped.

    One that is promoted already can only be finished. A journal that cannot be read is closed, traffic left alone.
    """
    from mlops_deploy.api import decisions

    carry_out(place, output, lambda story: decisions.abort(place.service(), message, story.witness))
