"""`mlops-deploy status`: what is live, what is parked, who is at work. Looks only."""

import json
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import click

from mlops_deploy.cli import options
from mlops_deploy.cli.place import Place, placed
from mlops_deploy.cli.streams import colorful

if TYPE_CHECKING:
    from mlops_deploy.api.service import Service
    from mlops_deploy.api.status import Status
    from mlops_deploy.errors import UnreachableError
    from mlops_deploy.release.rolling import RollingView

    Look = Status | RollingView | UnreachableError | None


@click.command("status")
@click.option("-w", "--watch", is_flag=True, help="Look every second until Ctrl-C; JSON has a line for each change.")
@options.output
@placed
def status(watch: bool, output: Literal["text", "json"], place: Place) -> None:  # noqa: FBT001 - click's flag
    """Show what is live, the other slot, the router, and who is at work.

    Changes nothing. Also shows a release that has not ended, with its deadline and the commands that end it.
    """
    service = place.service()
    if watch:
        _watch(service, place, output)
        return
    from mlops_deploy.api import status as api

    found = api.status(service)
    if output == "json":
        click.echo(json.dumps(_document(service, place, found), indent=2))
        return
    from mlops_deploy.cli.status_text import status_lines

    click.echo("\n".join(status_lines(service, found, time.time())))
    click.echo(f"next: {_next(place, found)}", err=True)


def _next(place: Place, found: "Status | RollingView | None") -> str:
    from mlops_deploy.api.status import following

    return " or ".join(place.command(words) for words in following(found))


def _document(service: "Service", place: Place, found: "Status | RollingView | None") -> dict[str, object]:
    from mlops_deploy.cli.status_document import status_document

    return status_document(service, place, found)


def _watch(service: "Service", place: Place, output: str) -> None:
    """Until Ctrl-C, which is how a watch ends well."""
    from contextlib import suppress

    from mlops_deploy.api.status import watch

    looks = watch(service)
    with suppress(KeyboardInterrupt):
        if output == "json":
            _print(_documents(service, place, looks))
        elif sys.stdout.isatty() and colorful():
            _show(service, place, looks)
        else:
            from mlops_deploy.cli.status_changes import change_lines

            _print(change_lines(service, looks))


def _print(lines: Iterator[str]) -> None:
    for line in lines:
        click.echo(line)
        sys.stdout.flush()


def _documents(service: "Service", place: Place, looks: "Iterator[Look]") -> Iterator[str]:
    from mlops_deploy.cli.status_changes import facts

    before: dict[str, str] = {}
    for look in looks:
        if isinstance(look, Exception):
            found = {"error": look.message}
            document: dict[str, object] = dict(found)
        else:
            found, document = facts(look), _document(service, place, look)
        if found != before:
            yield json.dumps(document, separators=(",", ":"))
        before = found


def _show(service: "Service", place: Place, looks: "Iterator[Look]") -> None:
    """Refresh in place."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from mlops_deploy.cli.status_text import status_lines

    with Live(console=Console(highlight=False), auto_refresh=False, vertical_overflow="visible") as live:
        for look in looks:
            if isinstance(look, Exception):
                lines = [f"not reachable now: {look.message}", "it is tried again every second"]
            else:
                lines = [*status_lines(service, look, time.time()), f"next: {_next(place, look)}   (Ctrl-C ends this)"]
            live.update(Text("\n".join(lines)), refresh=True)
