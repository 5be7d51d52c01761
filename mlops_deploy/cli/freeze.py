"""`mlops-deploy freeze`: no release until somebody lifts it."""

import click

from mlops_deploy.cli import options
from mlops_deploy.cli.place import Place, placed


@click.command("freeze")
@click.option("-m", "reason", type=options.SomeText(), metavar="REASON", required=True, help="Why; for others to read.")
@placed
def freeze(reason: str, place: Place) -> None:
    """Let no release begin until unfreeze; who tries is told why (exit code 3).

    What runs goes on: traffic, and a release that has begun. Refused while another freeze stands.
    """
    from mlops_deploy.api import freeze as api

    if not reason.strip() or not reason.isprintable():
        raise click.UsageError("the reason must be one line that can be read")
    set_ = api.freeze(place.service(), reason.strip())
    click.echo(f"frozen by `{set_.by}`: {set_.reason}", err=True)
    click.echo(f"next: {place.command('unfreeze')}", err=True)
