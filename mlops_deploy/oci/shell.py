"""The shell of a carrier: a static busybox per platform. An input like the model, pinned by its sha256."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.oci.packing import LayerPlan
from mlops_deploy.oci.tar import Entry, Folder, Link, Text
from mlops_deploy.oci.types import Platform
from mlops_deploy.spec.refs import Digest, ImageRef

NONROOT: Final = 65532
"""The user of rendered bootstraps: the image has an empty /model of theirs, so a fresh volume there is theirs too."""

_LARGEST: Final = 16 * 2**20
_ARCHITECTURES: Final = {0x3E: "amd64", 0xB7: "arm64"}
_ELF64_HEADER: Final = struct.Struct("<4sBB10xHHIQQQIHHH")
_PT_INTERP: Final = 3
_ANOTHER: Final = "name a static busybox with `--shell PATH`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """A static busybox: its bytes, the platform they run on, their digest, and where they came from.

    `image` is the image of a registry that it was taken out of, with its digest.
    """

    binary: bytes
    platform: Platform
    digest: Digest
    source: str
    image: ImageRef | None = None


def read_shell(path: Path) -> Shell:
    """Read a static busybox; raise `UnusableInputError` for anything else, saying what it is not."""
    try:
        if path.exists() and not path.is_file():
            raise UnusableInputError(f"the shell `{path}` is not a file", hint=_ANOTHER)
        with path.open("rb") as file:
            binary = file.read(_LARGEST + 1)
    except OSError as error:
        raise UnusableInputError(f"the shell `{path}` cannot be read: {error.strerror}") from error
    return shell_of(binary, str(path))


def shell_of(binary: bytes, source: str, image: ImageRef | None = None) -> Shell:
    """The shell of these bytes; raises as `read_shell` does."""
    if len(binary) > _LARGEST or b"BusyBox v" not in binary:
        raise UnusableInputError(
            f"the shell `{source}` is not a busybox", hint="install `busybox-static`, or name another"
        )
    platform, digest = _platform(source, binary), Digest(sha256(binary).hexdigest())
    return Shell(binary=binary, platform=platform, digest=digest, source=source, image=image)


def _platform(path: str, binary: bytes) -> Platform:
    try:
        magic, wide, little, _, machine, _, _, at, _, _, _, size, count = _ELF64_HEADER.unpack_from(binary)
        kinds = [struct.unpack_from("<I", binary, at + n * size)[0] for n in range(count)]
    except (struct.error, OverflowError):
        magic, wide, little, machine, kinds = b"", 0, 0, 0, []
    if (magic, wide, little) != (b"\x7fELF", 2, 1) or machine not in _ARCHITECTURES:
        raise UnusableInputError(f"the shell `{path}` is no program for linux/amd64 or linux/arm64", hint=_ANOTHER)
    if _PT_INTERP in kinds:
        raise UnusableInputError(
            f"the shell `{path}` is linked dynamically, so it cannot run alone in an image",
            hint=f"install `busybox-static`, or {_ANOTHER}",
        )
    return Platform("linux", _ARCHITECTURES[machine])


def shell_layer(shell: Shell, applets: Sequence[str]) -> LayerPlan:
    """The first layer: the busybox, a link for each applet in use, and the empty folder that a volume is mounted at."""
    links = (Link(name=f"bin/{applet}", target="busybox") for applet in sorted(applets))
    entries: tuple[Entry, ...] = (
        Folder(name="bin"),
        Text(name="bin/busybox", data=shell.binary, executable=True),
        *links,
        Folder(name="model", owner=NONROOT),
    )
    return LayerPlan(entries=entries)
