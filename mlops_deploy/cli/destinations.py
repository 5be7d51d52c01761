"""Where a carrier goes: the store, the engine, an archive, registries; each is looked at before anything is built."""

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISDIR
from typing import TYPE_CHECKING

import click

from mlops_deploy.cli import wiring
from mlops_deploy.cli.project import Project
from mlops_deploy.cli.streams import require_stdout
from mlops_deploy.errors import DeployError, UnreachableError, UnusableInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlops_deploy.api.build_model import ModelBuild
    from mlops_deploy.api.pushing import RegistryDestination
    from mlops_deploy.oci.destination import Destination
    from mlops_deploy.oci.image import Carrier
    from mlops_deploy.oci.types import Platform
    from mlops_deploy.ports import Engine, Story
    from mlops_deploy.spec.refs import Digest, ImageRef
    from mlops_deploy.store.cache import DigestCache
    from mlops_deploy.store.log import Built

STDOUT = Path("-")
"""The archive that is a stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The places that the options of one call name."""

    load: bool
    store: Path | None
    archive: Path | None
    pushes: "tuple[RegistryDestination, ...]"

    @property
    def nothing(self) -> bool:
        """Whether no place was named."""
        return not (self.load or self.store or self.archive or self.pushes)

    @property
    def only_pushes(self) -> bool:
        """Whether registries alone were named."""
        return bool(self.pushes) and not (self.load or self.store or self.archive)


def destinations(project: Project, build: "ModelBuild", telling: "Story", wanted: Wanted) -> "list[Destination]":
    """The places that were named; when none was, the project's store and the engine, if one answers."""
    from mlops_deploy.api.loading import EngineDestination

    platform = _platform(build)
    places: list[Destination] = []
    # They are completed in this order: what others see gets its names when all else has worked.
    if (engine := _engine(telling, required=wanted.load) if wanted.load or wanted.nothing else None) is not None:
        places.append(EngineDestination(engine, platform))
    if wanted.archive is not None:
        places.append(_archive(wanted.archive, project, build, platform))
    if wanted.store is not None or wanted.nothing:
        places.append(store_destination(project, build, telling, wanted.store))
    return [*places, *wanted.pushes]


def push_refs(_: click.Context, __: click.Parameter, value: tuple[str, ...]) -> "tuple[ImageRef, ...]":
    """Click callback: read each REF of a push before any work starts."""
    return tuple(_push_ref(text) for text in value)


def _push_ref(text: str) -> "ImageRef":
    """`NAME[:TAG]` with a registry."""
    from mlops_deploy.spec.refs import ImageRef

    ref = ImageRef.parse(text)
    if ref.digest is not None:
        raise UnusableInputError(
            f"`{text}` has a digest, which follows from what is pushed", hint="push to `NAME:TAG`, or to `NAME` alone"
        )
    if ref.host is None:
        raise UnusableInputError(f"`{text}` names no registry to push to", hint=_with_registry(ref))
    ref.require_free_tag()
    return ref


def _with_registry(ref: "ImageRef") -> str:
    """What to say instead of a name without a registry, which may be a registry without a name."""
    if (ref.name == "localhost" or "." in ref.name) and (ref.tag is None or ref.tag.isdecimal()):
        return f"put a name behind a registry: `{ref}/NAME:TAG`; or a registry in front of a name"
    return f"put its host in front: `registry.example.com/{ref}`, `docker.io/USER/{ref}`"


def push_destinations(
    refs: "Sequence[ImageRef]", abreast: int, insecure: "Sequence[str]" = (), cache: "DigestCache | None" = None
) -> "tuple[RegistryDestination, ...]":
    """One place for each repository, with all tags that it gets; later ones of a registry take over from earlier."""
    from mlops_deploy.api.pushing import RegistryDestination

    registries = wiring.registries(insecure)
    tags: dict[str, list[str | None]] = {}
    for ref in refs:
        tags.setdefault(ref.name, []).append(ref.tag)
    first = {ref.name: ref for ref in reversed(refs)}
    return tuple(
        RegistryDestination(
            registries.repository(first[name]),
            tuple(dict.fromkeys(tags[name])),
            siblings=[other for other in list(tags)[:number] if first[other].host == first[name].host],
            abreast=abreast,
            cache=cache,
        )
        for number, name in enumerate(tags)
    )


def store_destination(
    project: Project, build: "ModelBuild", telling: "Story", path: Path | None = None
) -> "Destination":
    """The store at `path`, by default the project's, as a place to build into."""
    from mlops_deploy.store.destination import StoreDestination

    store = project.store(path)
    project.require_no_input(store.path, "the store", build.path)
    _require_folder(store.path)
    return StoreDestination(store, lambda carrier: _entry(build, carrier), telling.say)


def check_digest_file(path: Path, project: Project, build: "ModelBuild", archive: Path | None) -> None:
    """Refuse a digest file that would replace what is read, or the archive, before anything is built."""
    others = (*_shells(build), *([archive] if archive is not None else []))
    project.require_no_input(path, "the digest file", build.path, *others)
    _require_file_place(path, "the digest file")


def write_digest(path: Path, digest: "Digest") -> None:
    """Write it whole, or into a pipe or device."""
    from mlops_deploy.oci.partial import reporting
    from mlops_deploy.store.files import write_named

    data = f"{digest}\n".encode()
    with reporting(f"the digest file `{path}`"):
        write_named(path, data)


def _shells(build: "ModelBuild") -> list[Path]:
    return [Path(shell.source) for shell in build.shells]


def _require_file_place(path: Path, what: str) -> None:
    """Refuse a place where no file can be: a folder, or a name in a folder that is not there."""
    with suppress(OSError):
        if S_ISDIR(path.stat().st_mode):
            raise UnusableInputError(f"{what} `{path}` is a folder", hint="name a file")
    try:
        usable = S_ISDIR(path.resolve().parent.stat().st_mode)
    except (OSError, RuntimeError) as error:
        raise _cannot_be_written(what, path, error) from error
    if not usable:
        raise _cannot_be_written(what, path, NotADirectoryError(0, "not a directory"))


def _cannot_be_written(what: str, path: Path, error: OSError | RuntimeError) -> Exception:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return UnusableInputError(
        f"{what} `{path}` cannot be written: {reason.lower()}", hint="make its folder, or name another place"
    )


def _require_folder(path: Path) -> None:
    try:
        usable = S_ISDIR(path.stat().st_mode)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _cannot_be_written("the store", path, error) from error
    if not usable:
        raise _cannot_be_written("the store", path, NotADirectoryError(0, "not a directory"))


def _engine(telling: "Story", *, required: bool) -> "Engine | None":
    engine = wiring.engine()
    if (trouble := engine.trouble()) is None:
        return engine
    if required:
        hint = "start Docker or set `DOCKER_HOST`; leave `--load` out for the store alone"
        raise UnreachableError(trouble, hint=hint)
    telling.say(f"{trouble}: the carrier goes to the store alone")
    return None


def _platform(build: "ModelBuild") -> "Platform":
    """The platform of this machine, where there is a shell for it."""
    from mlops_deploy.api.machine import this_platform
    from mlops_deploy.oci.types import Platform

    here = Platform("linux", this_platform().architecture)
    return next((shell.platform for shell in build.shells if shell.platform == here), build.shells[0].platform)


def _entry(build: "ModelBuild", carrier: "Carrier") -> "Built":
    from mlops_deploy.store.log import Built

    return Built(
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        name=build.card.name,
        digest=str(carrier.digest),
        content_id=str(carrier.content_id),
        tags=tuple(str(name) for name in build.names(carrier)),
        source=str(build.path.absolute()),
    )


def _archive(path: Path, project: Project, build: "ModelBuild", platform: "Platform") -> "Destination":
    from mlops_deploy.oci.archive import ArchiveFile, StreamedArchive

    if path != STDOUT:
        project.require_no_input(path, "the archive", build.path, *_shells(build))
        _require_file_place(path, "the archive")
        return ArchiveFile(path, platform)
    require_stdout()
    if sys.stdout.isatty():
        raise click.UsageError("an archive is not written to a terminal; pipe it, or name a file")
    return StreamedArchive(_to_stdout, platform)


def _to_stdout(data: bytes | memoryview) -> None:
    # Past Python's buffer, whose lock a reader that hangs would hold at the program's end.
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
