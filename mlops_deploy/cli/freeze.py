"""`mlops-deploy freeze`: no release until somebody lifts it."""

import click

from mlops_deploy.cli import options
from mlops_deploy.cli.place import Place, placed


@click.command("freeze")
@click.option(
    "-m", "--message", type=options.SomeText(), metavar="TEXT", required=True, help="Why; for others to read."
)
@placed
def freeze(message: str, place: Place) -> None:
    """Let no release begin until unfreeze; who tries is told why (exit code 3).

    What runs goes on: traffic, and a release that has begun. Refused while another freeze stands.
    """
    from mlops_deploy.api import freeze as api

    if not message.strip() or not message.isprintable():
        raise click.UsageError("the reason must be one line that can be read")
    set_ = api.freeze(place.service(), message.strip())
    click.echo(f"frozen by `{set_.by}`: {set_.reason}", err=True)
    click.echo(f"next: {place.command('unfreeze')}", err=True)
