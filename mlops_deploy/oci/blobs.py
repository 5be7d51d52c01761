"""Where the blobs of a carrier can be read from: an OCI layout folder, or an archive file; nothing is unpacked."""

import json
import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.oci.types import REF_NAME
from mlops_deploy.spec.refs import Digest

CHUNK = 2**20


class Blobs(Protocol):
    """Blobs by digest."""

    def read(self, digest: Digest) -> Iterator[bytes]:
        """The blob in pieces of at most 1 MiB; raises `FileNotFoundError` when it is not there."""
        ...


@dataclass(frozen=True, slots=True)
class LayoutBlobs:
    """The blobs of a layout folder."""

    folder: Path

    def read(self, digest: Digest) -> Iterator[bytes]:
        """See `Blobs`."""
        with (self.folder / "blobs" / "sha256" / digest.hex).open("rb") as file:
            yield from _pieces(file, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveBlobs:
    """The blobs of an archive file, at their offsets; `named` are its carriers, as tag and index digest."""

    path: Path
    places: dict[str, tuple[int, int]]
    named: tuple[tuple[str, Digest], ...]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Look at the headers of an archive with an OCI `index.json`; raise `UnusableInputError` for another file."""
        try:
            with tarfile.open(path, "r:") as tar:
                members = {member.name: member for member in tar}
                index = tar.extractfile(members["index.json"])
                entries = json.load(index)["manifests"] if index else []
            named = tuple((str(entry["annotations"][REF_NAME]), Digest.parse(entry["digest"])) for entry in entries)
        except (tarfile.TarError, OSError, ValueError, KeyError, TypeError, UnusableInputError) as error:
            raise UnusableInputError(
                f"`{path}` is not an archive of a carrier", hint="`mlops-deploy build-model --archive` makes one"
            ) from error
        blobs = {name.rpartition("/")[2]: _resolved(name, members) for name in members if name.startswith("blobs/")}
        places = {name: (found.offset_data, found.size) for name, found in blobs.items() if found}
        return cls(path=path, places=places, named=named)

    def read(self, digest: Digest) -> Iterator[bytes]:
        """See `Blobs`."""
        if digest.hex not in self.places:
            raise FileNotFoundError(digest.hex)
        offset, size = self.places[digest.hex]
        with self.path.open("rb") as file:
            file.seek(offset)
            yield from _pieces(file, size)


def _resolved(name: str, members: dict[str, tarfile.TarInfo]) -> tarfile.TarInfo | None:
    member = members[name]
    if member.issym():
        member = members.get(posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname)), member)
    return member if member.isreg() else None


def _pieces(file: BinaryIO, size: int | None) -> Iterator[bytes]:
    left = size
    while piece := file.read(CHUNK if left is None else min(CHUNK, left)):
        if left is not None:
            left -= len(piece)
        yield piece
