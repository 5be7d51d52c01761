"""`mlops-deploy compat`: which models fit which servers."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import click

from mlops_deploy.cli import options, wiring
from mlops_deploy.cli.project import find_project
from mlops_deploy.errors import RefusedError

if TYPE_CHECKING:
    from mlops_deploy.api.fitting import Fit

_HEADINGS: Final = ("model", "server", "fits", "why")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The options of one call."""

    carrier: str | None
    server: str | None
    store: Path | None
    insecure_registries: tuple[str, ...]
    file: Path
    environment: str | None
    output: Literal["text", "json", "markdown"]


@click.command("compat")
@click.argument("carrier", required=False, type=options.SomeText())
@click.argument("server", required=False, type=options.SomeText(), callback=options.image_ref)
@options.store_folder
@options.insecure_registries
@options.config_file
@click.option(
    "--output",
    type=click.Choice(["text", "json", "markdown"]),
    default="text",
    show_default=True,
    help="Form of the result.",
)
def compat(**chosen: object) -> int:
    """Compare what a model needs with what a server image provides; exit code 9 when they do not fit.

    What a model needs was read from its files when its carrier was built, or is declared at `model.requires`. CARRIER
    is a name in the store, an archive, or REGISTRY/NAME:TAG; without SERVER, or without both, all that are at hand are
    compared: the newest carrier of each model, and the server images in the engine. The exit code is 9 when CARRIER
    fits none of the servers that it is compared with.
    """
    from mlops_deploy.oci.names import printable

    choices = Choices(**chosen)  # type: ignore[arg-type]  # click has checked the types
    found = _fits(choices)
    for line in _lines(choices, found):
        click.echo(line if choices.output == "json" else printable(line))
    nowhere = bool(found) and all(fit.level == "fail" for fit in found)
    return RefusedError.exit_code if nowhere and choices.carrier is not None else 0


def _fits(choices: Choices) -> "tuple[Fit, ...]":
    from mlops_deploy.api import fitting
    from mlops_deploy.oci.names import printable

    project = find_project(choices.file, choices.environment, named=False)
    places = fitting.Places(
        spec=project.spec,
        store=project.store(choices.store),
        engine=wiring.engine(),
        registries=partial(wiring.registries, choices.insecure_registries),
    )
    models = (fitting.named_model(choices.carrier, places),) if choices.carrier else fitting.newest_models(places)
    servers = (fitting.named_server(choices.server, places),) if choices.server else fitting.servers_at_hand(places)
    for what, there, how in (("carrier", models, "build-model"), ("server image", servers, "build-server")):
        if not there:
            click.echo(f"there is no {what} to compare; `mlops-deploy {how}` makes one", err=True)
    for server in servers:
        if not server.labelled:
            text = f"`{server.ref}` itself does not say what it provides: it has no label `io.mlops-deploy.provides`"
            click.echo(printable(f"{text}, as images of `mlops-deploy build-server` have"), err=True)
    return tuple(fitting.fits(models, servers))


def _lines(choices: Choices, found: "Sequence[Fit]") -> Iterator[str]:
    match choices.output:
        case "json":
            yield json.dumps([_document(fit) for fit in found], indent=2)
        case "markdown":
            yield from (
                "| " + " | ".join(row) + " |" for row in (_HEADINGS, ("---",) * len(_HEADINGS), *map(_row, found))
            )
        case "text" if choices.server is not None:
            yield from (line for fit in found for line in _whole(fit))
        case "text":
            yield from _table([_HEADINGS, *map(_row, found)] if found else [])


def _document(fit: "Fit") -> dict[str, object]:
    verdicts = [{"level": one.level, "about": one.about, "said": one.said, "fix": one.fix} for one in fit.verdicts]
    return {"model": fit.model.ref, "server": fit.server.ref, "level": fit.level, "verdicts": verdicts}


def _row(fit: "Fit") -> tuple[str, ...]:
    """One line for each pair: the worst that is said of it."""
    worst = next((one for one in fit.verdicts if one.level == fit.level != "ok"), None)
    return (fit.model.ref, fit.server.ref, fit.level, f"{worst.about}: {worst.said}" if worst else "")


def _whole(fit: "Fit") -> Iterator[str]:
    yield f"{fit.model.ref} on {fit.server.ref}: {fit.level}"
    rows = [(one.about, one.level, one.said) for one in fit.verdicts]
    yield from (f"  {line}" for line in _table(rows))
    if not rows:
        yield "  nothing is known of what the model needs"
    yield from dict.fromkeys(f"fix: {one.fix}" for one in fit.verdicts if one.fix)


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
