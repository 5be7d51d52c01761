"""`mlops-deploy history`: what was released when, by whom, and how it ended."""

import json
from typing import TYPE_CHECKING, Final, Literal

import click

from mlops_deploy.cli import options
from mlops_deploy.cli.place import Place, placed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlops_deploy.api.history import Record

_HEAD: Final = (
    "WHEN", "RELEASE", "BY", "STRATEGY", "FROM", "TO", "END", "CODE", "TOOK", "SWITCH", "REQUESTS", "FAILED",
)  # fmt: skip
_NUMBERS: Final = frozenset(_HEAD[7:])


@click.command("history")
@click.option(
    "-n", "count", type=click.IntRange(min=1), metavar="N", default=20, show_default=True, help="How many at most."
)
@options.output
@placed
def history(count: int, output: Literal["text", "json"], place: Place) -> None:
    """Show the releases so far, newest first: how each ended, and what the router counted meanwhile.

    They come from the journals beside the router, and are the same for whoever asks from wherever.
    """
    from mlops_deploy.api import history as api
    from mlops_deploy.api.service import find_native

    service = place.service()
    records = api.history(service, count)
    if output == "json":
        click.echo(json.dumps([_document(record) for record in records], indent=2))
        return
    if not records and find_native(service) is not None:
        project = service.spec.project
        click.echo(f"no releases: `{project}` was released with `--native`, and the versions of its job are the record")
        click.echo(f"next: nomad job history {project}", err=True)
        return
    if not records:
        click.echo("no releases: nothing runs, and the journals are beside the router, which comes back with a release")
        click.echo(f"next: {place.command('release')}", err=True)
        return
    click.echo("\n".join(_table(records)))
    click.echo(f"next: {place.command('status')}", err=True)


def _document(record: "Record") -> dict[str, object]:
    from mlops_deploy.cli.status_document import moment

    counts = record.traffic
    return {
        "release": record.release,
        "end": record.end,
        "at": None if record.at is None else moment(record.at),
        "by": record.by,
        "strategy": record.strategy,
        "from": record.before,
        "to": record.after,
        "exit_code": record.code,
        "reason": record.reason,
        "seconds": None if record.seconds is None else round(record.seconds, 3),
        "switch_ms": None if record.switch is None else round(record.switch * 1000, 1),
        "requests": counts.entry.requests if counts else None,
        "failed": counts.entry.failed if counts else None,
        "slots": {
            name: {"requests": lane.requests, "failed": lane.failed}
            for name, lane in ((("a", counts.a), ("b", counts.b)) if counts else ())
        },
        "uncounted": record.uncounted,
        "interrupted": record.interrupted,
        "taken_over_by": list(record.takers),
        "advanced_by": list(record.advancers),
    }


def _table(records: "Sequence[Record]") -> list[str]:
    from mlops_deploy.oci.names import printable

    rows = [_HEAD, *(_row(record) for record in records)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = []
    for row, record in zip(rows, (None, *records), strict=True):
        cells = (
            cell.rjust(width) if head in _NUMBERS else cell.ljust(width)
            for cell, width, head in zip(row, widths, _HEAD, strict=True)
        )
        lines.append("  ".join(cells).rstrip())
        lines += [f"{'':<{widths[0]}}  {note}" for note in (_notes(record) if record else ())]
    return [printable(line) for line in lines]


def _row(record: "Record") -> tuple[str, ...]:
    from datetime import datetime

    counts = record.traffic.entry if record.traffic else None
    return (
        "?" if record.at is None else f"{datetime.fromtimestamp(record.at).astimezone():%Y-%m-%d %H:%M:%S}",
        record.release,
        record.by or "?",
        record.strategy or "?",
        record.before or "-",
        record.after or "?",
        record.end,
        "-" if record.code is None else str(record.code),
        "-" if record.seconds is None else f"{record.seconds:.1f} s",
        "-" if record.switch is None else f"{record.switch * 1000:.1f} ms",
        f"{counts.requests:,}" if counts else "-",
        f"{counts.failed:,}" if counts else "-",
    )


def _notes(record: "Record") -> list[str]:
    """What a column has no room for."""
    notes = [] if record.reason is None else [f"because: {record.reason}"]
    if record.interrupted:
        notes.append("interrupted" + (f" {record.interrupted} times" if record.interrupted > 1 else ""))
    if record.takers:
        notes.append(f"taken over by {', '.join(record.takers)}")
    if record.advancers:
        notes.append(f"advanced by {', '.join(record.advancers)}")
    if record.uncounted:
        notes.append(f"not counted: {record.uncounted}")
    return notes
