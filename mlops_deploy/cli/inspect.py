"""`mlops-deploy inspect`: all that a carrier says of itself, without unpacking it."""

import json
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from mlops_deploy.cli import options, wiring
from mlops_deploy.cli.project import find_project

if TYPE_CHECKING:
    from mlops_deploy.api.carriers import Found
    from mlops_deploy.oci.view import CarrierView
    from mlops_deploy.store.layout import LayoutStore


@click.command("inspect")
@click.argument("ref")
@options.store_folder
@options.insecure_registries
@options.config_file
@options.output
def inspect(
    ref: str,
    *,
    store: Path | None,
    insecure_registries: tuple[str, ...],
    file: Path,
    environment: str | None,
    output: Literal["text", "json"],
) -> None:
    """Show a carrier: model, files, layers, platforms, labels.

    REF is a name in the store (NAME, NAME:TAG, NAME@sha256:…, twelve digits of a digest or content id), an archive, or
    REGISTRY/NAME:TAG.
    """
    from mlops_deploy.api.carriers import inspect_carrier

    found = looked_up(ref, find_project(file, environment).store(store), insecure_registries)
    carrier = inspect_carrier(found)
    document = _document(found, carrier)
    if output == "json":
        click.echo(json.dumps(document, indent=2))
    else:
        click.echo(_text(document))
        place = (("--store", store), ("-f", file if str(file) != options.CONFIG_FILE else None), ("-e", environment))
        insecure = (("--insecure-registry", host) for host in insecure_registries)
        chosen = [part for option, value in (*place, *insecure) if value for part in (option, str(value))]
        click.echo(f"next: {shlex.join(['mlops-deploy', 'verify', ref, *chosen])}", err=True)


def looked_up(ref: str, store: "LayoutStore", insecure: Sequence[str]) -> "Found":
    """The carrier that `ref` names; of one that was found in a registry it is told what the name means there now."""
    from mlops_deploy.api.carriers import find_carrier

    found = find_carrier(ref, store, partial(wiring.registries, insecure))
    if found.remote is not None:
        click.echo(f"in the registry: `{found.remote.ref}`", err=True)
    return found


def _document(found: "Found", carrier: "CarrierView") -> dict[str, object]:
    listing, stored = carrier.listing, found.stored
    return {
        "name": listing.card.name,
        "digest": str(carrier.digest),
        "content_id": str(listing.content_id),
        "tags": list(found.names),
        "registry": found.registry,
        "built": stored.time if stored else None,
        "source": stored.source if stored else None,
        "size": sum(file.size for file in listing.files),
        "formats": list(listing.card.formats),
        "requires": list(listing.card.requires),
        "licence": listing.card.licence,
        "signature": listing.card.signature,
        "platforms": {
            str(image.platform): {
                "manifest": str(image.manifest.digest),
                "config": str(image.config.digest),
                "layers": [{"digest": str(layer.digest), "size": layer.size} for layer in image.layers],
            }
            for image in carrier.images
        },
        "labels": dict(carrier.labels),
        "files": [{"path": file.path, "size": file.size, "sha256": file.sha256} for file in listing.files],
    }


def _text(document: dict[str, object]) -> str:
    from mlops_deploy.oci.names import printable

    lines: list[str] = []
    for key, value in document.items():
        match value:
            case None | []:
                continue
            case dict() | list():
                lines.append(f"{key}:")
                lines += [f"  {line}" for line in _nested(value)]
            case _:
                lines.append(f"{key + ':':<12} {value}")
    return "\n".join(printable(line) for line in lines)


def _nested(value: dict[str, object] | list[object]) -> list[str]:
    if isinstance(value, list):
        return [_row(entry) for entry in value]
    lines: list[str] = []
    for key, inner in value.items():
        if isinstance(inner, (dict, list)):
            lines += [f"{key}:", *(f"  {line}" for line in _nested(inner))]
        else:
            lines.append(f"{key}: {inner}")
    return lines


def _row(entry: object) -> str:
    match entry:
        case {"path": path, "size": int(size), "sha256": digest}:
            return f"{digest}  {size:>15,}  {path}"
        case {"digest": digest, "size": int(size)}:
            return f"{digest}  {size:>15,}"
        case _:
            return str(entry)
