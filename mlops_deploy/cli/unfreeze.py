"""`mlops-deploy unfreeze`: releases may begin again."""

import click

from mlops_deploy.cli.place import Place, placed


@click.command("unfreeze")
@click.option("--force", is_flag=True, help="Also one that a release set because it could not turn back.")
@placed
def unfreeze(force: bool, place: Place) -> None:  # noqa: FBT001 - click's flag
    """Lift the freeze, so that releases may begin again.

    One that a release set because it could not turn back ends with abort; --force lifts it without mending anything.
    """
    from mlops_deploy.api import freeze as api

    lifted = api.unfreeze(place.service(), force=force)
    if lifted is None:
        click.echo("there is no freeze", err=True)
    else:
        click.echo(f"lifted the freeze by `{lifted.freeze.by}`: {lifted.freeze.reason}", err=True)
    if lifted is not None and lifted.stuck:
        click.echo(f"warning: release `{lifted.freeze.by}` is still open, and has not turned back", err=True)
        click.echo(f"next: {place.command('abort')}", err=True)
    else:
        click.echo(f"next: {place.command('release')}", err=True)
