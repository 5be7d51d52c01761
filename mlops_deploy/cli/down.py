"""`mlops-deploy down`: end a service in order."""

import sys
from typing import TYPE_CHECKING

import click

from mlops_deploy.cli.console import story
from mlops_deploy.cli.place import Place, placed
from mlops_deploy.errors import InterruptedByUserError

if TYPE_CHECKING:
    from mlops_deploy.spec.deploy import DeploySpec


@click.command("down")
@click.option("--volumes", is_flag=True, help="Remove the models and the state too, and the history with it.")
@click.option("--force", is_flag=True, help="Also while a release is open, which ends here, or a freeze stands.")
@click.option("--yes", is_flag=True, help="Do not ask; without a terminal nothing is asked anyway.")
@placed
def down(volumes: bool, force: bool, yes: bool, place: Place) -> None:  # noqa: FBT001 - click's flags
    """End the service: close the router, stop both slots, remove everything but the volumes.

    Requests that were taken are answered first, for as long as release.drain says. The volumes that stay hold the
    models and the history. May be repeated.
    """
    service = place.service()
    if not yes and sys.stdin.isatty() and sys.stderr.isatty():
        kept = "with its models and its history" if volumes else "its models and its history stay"
        question = f"take down `{service.spec.project}` on target `{service.target_name}` ({kept})?"
        if not click.confirm(question, err=True):
            raise InterruptedByUserError("not taken down: nothing was changed", hint="`--yes` does not ask")
    from mlops_deploy.api import down as api
    from mlops_deploy.api.service import find_native

    with story() as telling:
        found = api.down(service, telling, volumes=volumes, force=force)
    if found.release is not None:
        click.echo(f"warning: release `{found.release}` was open, and has ended here", err=True)
    if not found.running and find_native(service) is not None:
        project = service.spec.project
        click.echo(f"warning: `{project}` was released with `--native`, and that job goes on", err=True)
        click.echo(f"next: nomad job stop {project}", err=True)
        return
    what = "is down" if found.running else "was not running"
    volume = f"; {_gone(service.spec, service.target_name)}" if volumes else ""
    click.echo(f"`{service.spec.project}` {what}{volume}", err=True)
    click.echo(f"next: {place.command('release')}", err=True)


def _gone(spec: "DeploySpec", target: str) -> str:
    """What `--volumes` has removed, and what it leaves: a host volume belongs to its cluster, and others may use it."""
    if target == "nomad" and spec.nomad.volume.kind == "host":
        return f"its state is removed, its models stay in the host volume `{spec.nomad.volume.name}`"
    return "its volumes are removed"
