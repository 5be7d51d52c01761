"""`mlops-deploy build-model`: a model becomes a carrier."""

import json
import os
import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from mlops_deploy.cli import options, wiring
from mlops_deploy.cli.console import story
from mlops_deploy.cli.project import Project, find_project

if TYPE_CHECKING:
    from mlops_deploy.api.build_model import ModelBuild
    from mlops_deploy.oci.destination import Destination
    from mlops_deploy.oci.image import Carrier
    from mlops_deploy.oci.metadata import ModelCard
    from mlops_deploy.oci.types import Platform
    from mlops_deploy.ports import Story
    from mlops_deploy.spec.refs import Digest, ImageRef
    from mlops_deploy.store.layout import LayoutStore
    from mlops_deploy.store.log import Built


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The options of one call."""

    path: Path | None
    name: str | None
    tags: tuple[str, ...]
    load: bool
    store: Path | None
    archive: str | None
    shells: tuple[Path, ...]
    builder: Literal["native", "docker"]
    digest_file: Path | None
    file: Path
    environment: str | None
    output: Literal["text", "json"]


@click.command("build-model")
@click.argument("path", required=False, type=options.SomePath())
@click.option("--name", metavar="N", help="The model's name. By default from mlops.yml, else from PATH.")
@click.option("-t", "--tag", "tags", multiple=True, metavar="NAME:TAG", help="A name for the image; may be repeated.")
@click.option("--load", is_flag=True, help="Load it into the Docker Engine.")
@click.option("--store", type=options.SomePath(), metavar="DIR", help="Write it into an OCI layout folder.")
@click.option("--archive", metavar="FILE|-", help="Write it as one tar for docker, podman, skopeo or containerd.")
@click.option(
    "--shell",
    "shells",
    multiple=True,
    type=options.SomePath(),
    metavar="PATH",
    help="A static busybox; once per platform.",
)
@click.option(
    "--builder",
    type=click.Choice(["native", "docker"]),
    default="native",
    show_default=True,
    help="Who builds; docker builds into the engine.",
)
@click.option("--digest-file", type=options.SomePath(), metavar="FILE", help="Write the digest there, too.")
@options.config_file
@options.output
def build_model(**chosen: object) -> None:
    """Build the carrier image of a model.

    PATH is a file or a folder, by default the model of mlops.yml. Without a destination the carrier goes to
    .mlops/store and, when one answers, into the Docker Engine. One read of the model serves all destinations.
    """
    choices = Choices(**chosen)  # type: ignore[arg-type]  # click has checked the types
    project = find_project(choices.file, choices.environment)
    with story() as telling:
        outcome = _build(choices, project, telling)
    _report(choices, outcome)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was built, under which names and which digest, and what it took."""

    carrier: "Carrier"
    name: str
    tags: tuple[str, ...]
    digest: "Digest"
    bytes_read: int
    bytes_sent: int
    seconds: float


def _build(choices: Choices, project: Project, telling: "Story") -> Outcome:
    from mlops_deploy.api.build_model import ModelBuild
    from mlops_deploy.api.shells import choose_shells
    from mlops_deploy.store.lockfile import pin_shells

    path = _path(choices, project)
    tags = tuple(_tag(text) for text in choices.tags)
    card = model_card(choices.name, project, path)
    shells = choose_shells(choices.shells, project.lock, telling)
    build = ModelBuild(path=path, card=card, shells=shells, tags=tags)
    if choices.digest_file:
        _require_outside(choices.digest_file, path, "the digest file")
    outcome = (_build_with_docker if choices.builder == "docker" else _build_natively)(choices, project, build, telling)
    if project.lock:
        pin_shells(project.lock, shells)
    return outcome


def _build_natively(choices: Choices, project: Project, build: "ModelBuild", telling: "Story") -> Outcome:
    from mlops_deploy.api.build_model import build_model

    places = _destinations(choices, project, build, telling)
    built = build_model(build, places, project.cache(), telling)
    return Outcome(
        carrier=built.carrier,
        name=str(build.tags[0]) if build.tags else build.image,
        tags=tuple(str(name) for name in build.names(built.carrier)),
        digest=built.carrier.digest,
        bytes_read=built.bytes_read,
        bytes_sent=sum(_sent(place) for place in places),
        seconds=built.seconds,
    )


def _build_with_docker(choices: Choices, project: Project, build: "ModelBuild", telling: "Story") -> Outcome:
    from mlops_deploy.api.docker_build import build_with_docker

    if choices.store or choices.archive:
        raise click.UsageError("`--builder docker` builds into the engine only; leave `--store` and `--archive` out")
    built = build_with_docker(build, wiring.runner(), wiring.engine(), project.cache(), telling)
    return Outcome(
        carrier=built.carrier,
        name=str(built.names[0]),
        tags=tuple(str(name) for name in built.names),
        digest=built.image_id,
        bytes_read=built.bytes_read,
        bytes_sent=built.bytes_sent,
        seconds=built.seconds,
    )


def _path(choices: Choices, project: Project) -> Path:
    if choices.path is not None:
        return choices.path
    if project.spec is None:
        raise click.UsageError("name a model: there is no `mlops.yml` here that names one")
    return project.spec.model.path


def model_card(name: str | None, project: Project, path: Path) -> "ModelCard":
    """What is declared about the model at `path`: by the project, if it is the project's; `name` comes first."""
    from mlops_deploy.errors import UnusableInputError
    from mlops_deploy.oci.metadata import ModelCard
    from mlops_deploy.spec.refs import is_model_name

    declared = project.spec.model if project.spec and _same(project.spec.model.path, path) else None
    name = name or (declared.name if declared else _name_from(path))
    if not is_model_name(name):
        raise UnusableInputError(
            f"`{name}` cannot name a model",
            hint="a name has lower-case letters, digits, `.`, `_` and `-`, and is not `v`; give one with `--name`",
        )
    if declared is None:
        return ModelCard(name=name)
    return ModelCard(name=name, requires=declared.requires, licence=declared.licence, signature=declared.signature)


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _name_from(path: Path) -> str:
    """`My Model.joblib` → `my-model`."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - a name that leads elsewhere is still the user's name
    stem = absolute.name if absolute.is_dir() else absolute.stem
    plain = re.sub(r"[^a-z0-9._-]+|[._-]{2,}", "-", stem.lower())
    return re.sub(r"[._-]{2,}", "-", plain).strip("._-")[:63].rstrip("._-")


def _tag(text: str) -> "ImageRef":
    from mlops_deploy.errors import UnusableInputError
    from mlops_deploy.spec.refs import ImageRef

    ref = ImageRef.parse(text)
    if ref.tag is None or ref.digest is not None:
        raise UnusableInputError(f"`{text}` is not `NAME:TAG`", hint="a version is a tag, such as `digits:1.2.0`")
    return ref


def _destinations(choices: Choices, project: Project, build: "ModelBuild", telling: "Story") -> "list[Destination]":
    from mlops_deploy.api.loading import EngineDestination
    from mlops_deploy.errors import UnreachableError

    by_default = not (choices.store or choices.load or choices.archive)
    platform = _platform(build)
    places: list[Destination] = []
    engine = wiring.engine() if choices.load or by_default else None
    if engine is not None and not engine.ping():
        if choices.load:
            raise UnreachableError(
                "no Docker Engine answers",
                hint="start Docker or set `DOCKER_HOST`; leave `--load` out for the store alone",
            )
        telling.say("no Docker Engine answers: the carrier goes to the store alone")
        engine = None
    # They are completed in this order: the store names what was built when all else has worked.
    if engine is not None:
        places.append(EngineDestination(engine, platform))
    if choices.archive:
        places.append(_archive(choices.archive, build, platform))
    if choices.store or by_default:
        places.append(store_destination(project.store(choices.store), build))
    return places


def _platform(build: "ModelBuild") -> "Platform":
    """The platform of this machine, where there is a shell for it."""
    import platform

    from mlops_deploy.oci.types import Platform

    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    here = Platform("linux", architecture)
    return next((shell.platform for shell in build.shells if shell.platform == here), build.shells[0].platform)


def store_destination(store: "LayoutStore", build: "ModelBuild") -> "Destination":
    """The store as a place to build into."""
    from mlops_deploy.store.destination import StoreDestination
    from mlops_deploy.store.log import Built

    _require_outside(store.path, build.path, "the store")

    def entry(carrier: "Carrier") -> "Built":
        return Built(
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            name=build.card.name,
            digest=str(carrier.digest),
            content_id=str(carrier.content_id),
            tags=tuple(str(name) for name in build.names(carrier)),
            source=str(build.path.absolute()),
        )

    return StoreDestination(store, entry)


def _archive(target: str, build: "ModelBuild", platform: "Platform") -> "Destination":
    from mlops_deploy.oci.archive import ArchiveFile, StreamedArchive

    if target != "-":
        _require_outside(Path(target), build.path, "the archive")
        return ArchiveFile(Path(target), platform)
    if sys.stdout is None or sys.stdout.isatty():
        raise click.UsageError("an archive is not written to a terminal; pipe it, or name a file")
    return StreamedArchive(_to_stdout, platform)


def _to_stdout(data: bytes | memoryview) -> None:
    # Past Python's buffer, whose lock a reader that hangs would hold at the program's end.
    from mlops_deploy.errors import DeployError

    view = memoryview(data)
    try:
        while view:
            view = view[os.write(1, view) :]
    except BrokenPipeError:
        raise
    except OSError as error:
        raise DeployError(
            f"the archive cannot be written to stdout: {os.strerror(error.errno or 0).lower()}"
        ) from error


def _require_outside(target: Path, model: Path, what: str) -> None:
    """What is written must not become, or replace, a part of what is read."""
    from mlops_deploy.errors import UnusableInputError
    from mlops_deploy.oci.inventory import OWN_FOLDER

    place, root = Path(os.path.realpath(target)), Path(os.path.realpath(model))
    if place.is_relative_to(root) and not place.is_relative_to(root / OWN_FOLDER):
        raise UnusableInputError(
            f"{what} `{target}` lies inside the model `{model}`", hint="name a place outside of it"
        )


def _sent(place: "Destination") -> int:
    from mlops_deploy.api.loading import EngineDestination

    return place.sent if isinstance(place, EngineDestination) else 0


def _report(choices: Choices, outcome: Outcome) -> None:
    metadata = outcome.carrier.metadata
    count = "1 file" if len(metadata.files) == 1 else f"{len(metadata.files):,} files"
    read = f"{outcome.bytes_read:,} bytes read" if outcome.bytes_read else "nothing had to be read"
    click.echo(
        f"carrier of `{metadata.card.name}`: content {metadata.content_id.short}, {count}, "
        f"{metadata.size:,} bytes; {read}, {outcome.seconds:.2f} s",
        err=True,
    )
    if choices.digest_file:
        _write(choices.digest_file, f"{outcome.digest}\n".encode())
    # Where the archive goes to stdout, the result would be in its way.
    click.echo(
        _json(outcome) if choices.output == "json" else f"{outcome.name}@{outcome.digest}", err=choices.archive == "-"
    )


def _write(path: Path, data: bytes) -> None:
    from mlops_deploy.oci.partial import reporting
    from mlops_deploy.store.files import replace_file

    with reporting(f"the digest file `{path}`"):
        if path.exists() and not path.is_file():
            path.write_bytes(data)
        else:
            replace_file(path.resolve(), data)


def _json(outcome: Outcome) -> str:
    return json.dumps(
        {
            "name": outcome.name,
            "tags": list(outcome.tags),
            "digest": str(outcome.digest),
            "content_id": str(outcome.carrier.content_id),
            "files": len(outcome.carrier.metadata.files),
            "bytes_read": outcome.bytes_read,
            "bytes_sent": outcome.bytes_sent,
            "seconds": round(outcome.seconds, 3),
        }
    )
