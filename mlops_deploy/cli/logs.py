"""`mlops-deploy logs`: what a task wrote."""

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from mlops_deploy.cli.console import harmless
from mlops_deploy.cli.place import Place, placed

if TYPE_CHECKING:
    from mlops_deploy.ports import Task
    from mlops_deploy.release.state import Slot


@click.command("logs")
@click.option("--slot", type=click.Choice(["a", "b"]), help="Which slot.  [default: the live one]")
@click.option(
    "--task",
    type=click.Choice(["server", "bootstrap", "router"]),
    default="server",
    show_default=True,
    help="Which task.",
)
@click.option(
    "-n", "tail", type=click.IntRange(min=0), metavar="N", default=100, show_default=True, help="How many last lines."
)
@click.option("--follow", is_flag=True, help="Go on with every new line until Ctrl-C.")
@placed
def logs(slot: "Slot | None", task: "Task", tail: int, follow: bool, place: Place) -> None:  # noqa: FBT001 - a flag
    """Show what a task wrote, as it wrote it: by default the server of the live slot.

    The bootstrap copies the model before its server starts.
    """
    from mlops_deploy.api.logs import find_source, read_logs

    service = place.service()
    source = find_source(service, task, slot)
    written = False
    with suppress(KeyboardInterrupt):  # how following ends well
        for line in read_logs(service, source, tail, follow=follow):
            written = True
            click.echo(harmless(line) if sys.stdout.isatty() else line)
            if follow:
                sys.stdout.flush()
    if not written:
        click.echo(f"the {source.name} has written nothing", err=True)
        click.echo(f"next: {place.command('status')}", err=True)
