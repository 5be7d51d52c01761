"""`mlops-deploy build-model`: a model becomes a carrier."""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Literal

import click

from mlops_deploy.cli import options, wiring
from mlops_deploy.cli.console import story
from mlops_deploy.cli.destinations import (
    STDOUT,
    Wanted,
    check_digest_file,
    destinations,
    push_destinations,
    push_refs,
    write_digest,
)
from mlops_deploy.cli.model import model_build
from mlops_deploy.cli.project import Project, find_project

if TYPE_CHECKING:
    from mlops_deploy.api.build_model import ModelBuild
    from mlops_deploy.oci.image import Carrier
    from mlops_deploy.ports import Story
    from mlops_deploy.spec.deploy import WebModel
    from mlops_deploy.spec.refs import Digest, ImageRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The options of one call."""

    path: Path | str | None
    sha256: str | None
    name: str | None
    tags: tuple[str, ...]
    load: bool
    store: Path | None
    archive: Path | None
    pushes: "tuple[ImageRef, ...]"
    parallel: int
    insecure_registries: tuple[str, ...]
    shells: tuple[str, ...]
    builder: Literal["native", "docker"]
    digest_file: Path | None
    file: Path
    environment: str | None
    output: Literal["text", "json"]


def _hex64(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch("[0-9a-f]{64}", value):
        raise click.BadParameter("expected 64 lower-case hex digits")
    return value


@click.command("build-model")
@click.argument("path", metavar="[PATH|URL]", required=False, type=options.SomePathOrUrl())
@click.option("--sha256", callback=_hex64, metavar="HEX", help="What the file behind a URL must hash to.")
@click.option(
    "--name", type=options.SomeText(), metavar="N", help="The model's name. By default from mlops.yml, else from PATH."
)
@click.option("-t", "--tag", "tags", multiple=True, metavar="NAME:TAG", help="A name for the image; may be repeated.")
@click.option(
    "--push",
    "pushes",
    multiple=True,
    type=options.SomeText(),
    callback=push_refs,
    metavar="REF",
    help="Send it to a registry as HOST/NAME[:TAG] while it is read; may be repeated.",
)
@click.option("--load", is_flag=True, help="Load it into the Docker Engine.")
@click.option("--store", type=options.SomePath(), metavar="DIR", help="Write it into an OCI layout folder.")
@click.option(
    "--archive",
    type=options.SomePath(),
    metavar="FILE|-",
    help="Write it as one tar for docker, podman, skopeo (oci-archive:FILE:TAG) or containerd.",
)
@click.option(
    "--shell",
    "shells",
    multiple=True,
    type=options.SomeText(),
    metavar="PATH|REF",
    help="A static busybox, once per platform; or a busybox image REGISTRY/NAME:TAG, for all that it has.",
)
@click.option(
    "--builder",
    type=click.Choice(["native", "docker"]),
    default="native",
    show_default=True,
    help="Who builds; docker builds into the engine.",
)
@click.option(
    "--parallel",
    type=click.IntRange(1, 16),
    metavar="N",
    default=4,
    show_default=True,
    help="Layers sent at the same time where all places are registries.",
)
@options.insecure_registries
@click.option("--digest-file", type=options.SomePath(), metavar="FILE", help="Write the digest there, too.")
@options.config_file
@options.output
def build_model(**chosen: object) -> None:
    """Build the carrier image of a model.

    PATH is a file or a folder, by default the model of mlops.yml; URL is one file behind https://, which is streamed
    and not kept. Without a destination the carrier goes to
    .mlops/store and, when one answers, into the Docker Engine. One read of the model serves all destinations; what a
    registry has is not sent again, and a push that was broken off goes on with the layers that are missing.
    """
    choices = Choices(**chosen)  # type: ignore[arg-type]  # click has checked the types
    project = replace(find_project(choices.file, choices.environment), insecure=choices.insecure_registries)
    with story() as telling:
        outcome = _build(choices, project, telling)
    _report(choices, outcome)
    if choices.archive != STDOUT:
        click.echo(f"next: {_next_command(choices, project, outcome)}", err=True)


def _source(choices: Choices, project: Project) -> "Path | WebModel | None":
    """What is to be built, where it is not the project's as it stands; `--sha256` counts more than the project's."""
    from mlops_deploy.spec.deploy import WebModel

    configured = project.spec.model.web if project.spec and choices.path is None else None
    url = choices.path if isinstance(choices.path, str) else (configured.url if configured else None)
    if url is None and choices.sha256 is not None:
        raise click.UsageError("`--sha256` is for a model behind a URL: name that too")
    if url is None or (configured and choices.sha256 is None):
        return None if choices.path is None else Path(choices.path)
    return WebModel(url=url, sha256=choices.sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was built, under which names and which digest, and what it took."""

    carrier: "Carrier"
    name: str
    tags: tuple[str, ...]
    digest: "Digest"
    pushed: tuple[str, ...] = ()
    bytes_read: int
    bytes_sent: int
    seconds: float


def _build(choices: Choices, project: Project, telling: "Story") -> Outcome:
    from mlops_deploy.spec.url import shown_url
    from mlops_deploy.store.lockfile import pin_shells, pin_source

    build = model_build(
        project, telling, path=_source(choices, project), name=choices.name, tags=choices.tags, shells=choices.shells
    )
    if choices.digest_file is not None:
        check_digest_file(choices.digest_file, project, build, choices.archive)
    outcome = (_build_with_docker if choices.builder == "docker" else _build_natively)(choices, project, build, telling)
    if project.lock:
        pin_shells(project.lock, build.shells)
        if build.web is not None:
            pin_source(project.lock, shown_url(build.web.model.url), outcome.carrier.metadata.files[0].sha256)
    return outcome


def _build_natively(choices: Choices, project: Project, build: "ModelBuild", telling: "Story") -> Outcome:
    from mlops_deploy.api.build_model import build_model
    from mlops_deploy.api.loading import EngineDestination
    from mlops_deploy.api.pushing import RegistryDestination

    refs = choices.pushes
    pushes = push_destinations(refs, choices.parallel, choices.insecure_registries, project.cache()) if refs else ()
    wanted = Wanted(load=choices.load, store=choices.store, archive=choices.archive, pushes=pushes)
    if wanted.only_pushes and build.tags:
        raise click.UsageError("`-t` names what goes elsewhere than to a registry; `--push` REF has its own `:TAG`")
    places = destinations(project, build, telling, wanted)
    built = build_model(build, places, project.cache(), telling)
    pushed = tuple(f"{place.name}:{tag}" for place in pushes for tag in place.tags(built.carrier))
    names = () if wanted.only_pushes else tuple(str(name) for name in build.names(built.carrier))
    return Outcome(
        carrier=built.carrier,
        name=pushed[0] if pushed else str(build.tags[0] if build.tags else build.image),
        tags=(*names, *pushed),
        digest=built.carrier.digest,
        pushed=pushed,
        bytes_read=built.bytes_read,
        bytes_sent=sum(place.sent for place in places if isinstance(place, EngineDestination | RegistryDestination)),
        seconds=built.seconds,
    )


def _build_with_docker(choices: Choices, project: Project, build: "ModelBuild", telling: "Story") -> Outcome:
    from mlops_deploy.api.docker_build import build_with_docker

    if choices.store is not None or choices.archive is not None or choices.pushes:
        raise click.UsageError(
            "`--builder docker` builds into the engine only; leave `--store`, `--archive` and `--push` out"
        )
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


def _report(choices: Choices, outcome: Outcome) -> None:
    metadata = outcome.carrier.metadata
    count = "1 file" if len(metadata.files) == 1 else f"{len(metadata.files):,} files"
    read = f"{outcome.bytes_read:,} bytes read" if outcome.bytes_read else "nothing had to be read"
    click.echo(
        f"carrier of `{metadata.card.name}`: content {metadata.content_id.short}, {count}, "
        f"{metadata.size:,} bytes; {read}, {outcome.seconds:.2f} s",
        err=True,
    )
    if choices.digest_file is not None:
        write_digest(choices.digest_file, outcome.digest)
    # Where the archive goes to stdout, the result would be in its way.
    result = _json(outcome) if choices.output == "json" else f"{outcome.name}@{outcome.digest}"
    click.echo(result, err=choices.archive == STDOUT)


def _next_command(choices: Choices, project: Project, outcome: Outcome) -> str:
    """What reads what was built, from where it went."""
    ours = project.spec is not None and project.spec.model.name == outcome.carrier.metadata.card.name
    if outcome.pushed:
        ref = quote(f"{outcome.name}@{outcome.digest}")
        naming = options.naming(choices.file, choices.environment)
        asking = options.insecurely(choices.insecure_registries)
        return f"mlops-deploy {f'release --model {ref}{naming}' if ours else f'inspect {ref}'}{asking}"
    if choices.archive is not None:
        return f"mlops-deploy inspect {quote(str(choices.archive))}"
    if choices.store is not None:
        return f"mlops-deploy inspect {outcome.name} --store {quote(str(choices.store))}"
    if choices.load or choices.builder == "docker":
        return f"docker run --rm -v models:/model {outcome.tags[0]} sh -c /deploy.sh"
    if ours:
        return f"mlops-deploy release{options.naming(choices.file, choices.environment)}"
    return f"mlops-deploy serve {outcome.name}"


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
