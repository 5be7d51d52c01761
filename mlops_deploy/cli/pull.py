"""`mlops-deploy pull`: a model from a registry or the store to a folder, verified, whole or not at all."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from mlops_deploy.cli import options, wiring
from mlops_deploy.cli.console import story
from mlops_deploy.cli.project import find_project

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlops_deploy.api.origins import Origin
    from mlops_deploy.api.pull import Pulled
    from mlops_deploy.store.layout import LayoutStore


@click.command("pull")
@click.argument("ref")
@click.argument("folder", type=options.SomePath(), metavar="DIR")
@click.option("--expect", type=options.SomeText(), metavar="ID", help="The content id that it must have.")
@click.option("--verify", "rehash", is_flag=True, help="Hash a model that is already there.")
@options.store_folder
@options.config_file
@options.insecure_registries
@options.output
def pull(
    ref: str,
    folder: Path,
    expect: str | None,
    rehash: bool,  # noqa: FBT001 - click passes options by name
    store: Path | None,
    file: Path,
    environment: str | None,
    insecure_registries: tuple[str, ...],
    output: Literal["text", "json"],
) -> None:
    """Bring a model to DIR/v/<content id>, whole or not at all; the link DIR/<model name> names it.

    REF begins with a registry's host, or names a carrier in the store. The files are verified while they are written.
    A model that is there is not fetched again, and an interrupted pull goes on where it ended. It does what the
    carrier's deploy.sh does on a volume, and any mix of both may run at once.
    """
    from mlops_deploy.api.pull import pull_from
    from mlops_deploy.spec.refs import ContentId

    content_id = None if expect is None else ContentId(expect)
    origin = _origin(ref, insecure_registries, lambda: find_project(file, environment).store(store))
    with story() as telling:
        pulled = pull_from(origin, Path.cwd() / folder, telling, content_id=content_id, rehash=rehash)
    click.echo(json.dumps(_document(pulled)) if output == "json" else pulled.line)


def _origin(ref: str, insecure: tuple[str, ...], store: "Callable[[], LayoutStore]") -> "Origin":
    from mlops_deploy.api.origins import RegistryOrigin, StoreOrigin
    from mlops_deploy.api.registry_images import registry_ref
    from mlops_deploy.spec.refs import ImageRef

    if "/" in ref:
        ImageRef.parse(ref)  # what is wrong with it, rather than that no store has it
    if (remote := registry_ref(ref)) is not None:
        return RegistryOrigin(wiring.registries(insecure), remote)
    place = store()
    return StoreOrigin(place, place.find(ref))


def _document(pulled: "Pulled") -> dict[str, object]:
    return {
        "name": pulled.name,
        "content_id": str(pulled.content_id),
        "digest": str(pulled.digest),
        "path": str(pulled.path),
        "state": "found" if pulled.found else "copied",
        "bytes_pulled": pulled.bytes_pulled,
        "bytes_adopted": pulled.bytes_adopted,
        "seconds": round(pulled.seconds, 3),
    }
