"""`mlops-deploy copy`: a carrier goes from a store or registry to another."""

import json
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Final, Literal

import click

from mlops_deploy.cli import options, wiring
from mlops_deploy.cli.console import story
from mlops_deploy.cli.project import Project, find_project

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlops_deploy.api.carriers import Found
    from mlops_deploy.api.copying import Copied, How, Place
    from mlops_deploy.api.registry_images import FindRegistries
    from mlops_deploy.ports import Story
    from mlops_deploy.spec.refs import ImageRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The options of one call."""

    src: str
    dst: str
    store: Path | None
    insecure_registries: tuple[str, ...]
    file: Path
    environment: str | None
    output: Literal["text", "json"]


@click.command("copy")
@click.argument("src", type=options.SomeText())
@click.argument("dst", type=options.SomeText())
@options.store_folder
@options.insecure_registries
@options.config_file
@options.output
def copy(**chosen: object) -> None:
    """Copy a carrier from a registry or the store to another, with all platforms and by the same digest.

    REGISTRY/NAME:TAG is in a registry; a name without a registry is in the store. The tag of DST may be left out.
    What is there already is not sent, within one registry nothing is; a second run goes on where one was cut.
    """
    choices = Choices(**chosen)  # type: ignore[arg-type]  # click has checked the types
    project = find_project(choices.file, choices.environment)
    with story() as telling:
        copied = _copy(choices, project, telling)
    _report(choices, copied)


def _copy(choices: Choices, project: Project, telling: "Story") -> "Copied":
    from mlops_deploy.api.copy_places import require_nameable
    from mlops_deploy.api.copying import copy_carrier
    from mlops_deploy.spec.refs import ImageRef

    registries = cache(partial(wiring.registries, choices.insecure_registries))
    target = ImageRef.parse(choices.dst)
    found = _source(choices, project, registries)
    require_nameable(target, found.digest)
    telling.say(f"copying `{_called(choices, found)}`")
    return copy_carrier(found, _place(choices, project, target, found, registries, telling), telling)


def _source(choices: Choices, project: Project, registries: "FindRegistries") -> "Found":
    from mlops_deploy.api.carriers import find_carrier, found_in_registry
    from mlops_deploy.api.registry_images import look_up, registry_ref

    ref = registry_ref(choices.src)
    if ref is None:
        return find_carrier(choices.src, project.store(choices.store), registries)
    return found_in_registry(look_up(ref, registries()))


def _place(
    choices: Choices,
    project: Project,
    target: "ImageRef",
    found: "Found",
    registries: "FindRegistries",
    telling: "Story",
) -> "Place":
    from mlops_deploy.api.copy_places import RegistryPlace, StorePlace

    if target.host is not None:
        return RegistryPlace(registries().repository(target), target)
    store = project.store(choices.store)
    project.require_no_input(store.path, "the store")
    return StorePlace(store, target, _called(choices, found), telling.say)


def _called(choices: Choices, found: "Found") -> str:
    return str(found.remote.ref) if found.remote else choices.src


_WORDS: "Final[Mapping[How, str]]" = {
    "sent": "copied",
    "mounted": "taken over inside the registry",
    "found": "there already",
}


def _report(choices: Choices, copied: "Copied") -> None:
    counts = ", ".join(f"{copied.layers[how]} {word}" for how, word in _WORDS.items() if copied.layers[how])
    click.echo(
        f"carrier of `{copied.name}`: content {copied.content_id.short}; layers: {counts}; "
        f"{copied.bytes_sent:,} bytes, {copied.seconds:.2f} s",
        err=True,
    )
    if choices.output == "text":
        click.echo(str(copied.ref))
        click.echo(
            f"next: mlops-deploy inspect {copied.ref.name}:{copied.ref.tag}{_place_options(choices, copied)}", err=True
        )
        return
    result = {
        "name": f"{copied.ref.name}:{copied.ref.tag}",
        "digest": str(copied.digest),
        "content_id": str(copied.content_id),
        "layers": dict(copied.layers),
        "bytes_sent": copied.bytes_sent,
        "seconds": round(copied.seconds, 3),
    }
    click.echo(json.dumps(result))


def _place_options(choices: Choices, copied: "Copied") -> str:
    """The options that find the copy."""
    if copied.ref.host is not None:
        return options.insecurely(choices.insecure_registries)
    return f" --store {quote(str(choices.store))}" if choices.store else ""
