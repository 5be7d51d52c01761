"""Where the blobs of a carrier can be read from: an OCI layout folder, or an archive file; nothing is unpacked."""

import os
import posixpath
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol, Self

from mlops_deploy.errors import ContentMismatchError, DeployError, UnusableInputError
from mlops_deploy.oci.inventory import MOST_ENTRIES
from mlops_deploy.oci.names import shown
from mlops_deploy.oci.untar import CHUNK, Kind, Member, TarDamageError, TarReader
from mlops_deploy.spec.refs import Digest

_OURS: Final = re.compile(rb"blobs/|/sha256/|layers/|oci-layout")
_BLOCKING: Final = 2**20
_MOST_LINKS: Final = 4


class Blobs(Protocol):
    """Blobs by digest, and the documents beside them by name (`oci-layout`, `index.json`, …)."""

    def read(self, digest: Digest) -> Iterator[bytes]:
        """The blob in pieces of at most 1 MiB; raises `FileNotFoundError` when it is not there."""
        ...

    def beside(self, name: str) -> Iterator[bytes]:
        """A document beside the blobs, as `read` gives a blob."""
        ...


@dataclass(frozen=True, slots=True)
class LayoutBlobs:
    """The blobs of a layout folder."""

    folder: Path

    def read(self, digest: Digest) -> Iterator[bytes]:
        """See `Blobs`."""
        return self.beside(f"blobs/sha256/{digest.hex}")

    def beside(self, name: str) -> Iterator[bytes]:
        """See `Blobs`."""
        with open_plain(self.folder / name) as file:
            yield from _pieces(file, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveBlobs:
    """The blobs of an archive file, at their offsets."""

    path: Path
    places: dict[str, Member]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Look at all headers of the archive.

        Raises `UnusableInputError` for a file that is no archive of images, `ContentMismatchError` for a damaged one.
        """
        places: dict[str, Member] = {}
        with open_plain(path) as file:
            first = file.read(512)
            file.seek(0)
            try:
                _look(file, places)
            except TarDamageError as damage:
                if _OURS.search(first[:100]) or any(_OURS.match(name.encode()) for name in places):
                    raise _damaged(path, str(damage)) from damage
                raise _foreign(path) from damage
        if "index.json" not in places:
            if any(_OURS.match(name.encode()) for name in places):
                raise _damaged(path, "`index.json` is missing")
            raise _foreign(path)
        return cls(path=path, places=places)

    def read(self, digest: Digest) -> Iterator[bytes]:
        """See `Blobs`."""
        return self.beside(f"blobs/sha256/{digest.hex}")

    def beside(self, name: str) -> Iterator[bytes]:
        """See `Blobs`."""
        member = self.resolved(name)
        if member is None:
            raise FileNotFoundError(name)
        with open_plain(self.path) as file:
            file.seek(member.offset)
            yield from _pieces(file, member.size)

    def resolved(self, name: str) -> Member | None:
        """The file of that name, also behind links; None when there is none."""
        for _ in range(_MOST_LINKS):
            member = self.places.get(name)
            if member is None or member.kind is not Kind.LINK:
                return member
            name = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.target))
        return None


def open_plain(path: Path) -> BinaryIO:
    """Open a plain file; `FileNotFoundError` for anything else, without waiting for it; `DeployError` as it says."""
    try:
        file = _opened(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise FileNotFoundError(str(path)) from error
    except OSError as error:
        raise DeployError(f"`{path}` cannot be read: {os.strerror(error.errno or 0).lower()}") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise FileNotFoundError(str(path))
    return file


def _opened(path: Path) -> BinaryIO:
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.fdopen(handle, "rb")
    except OSError:  # a folder, whose handle Python leaves open
        os.close(handle)
        raise


class _Seeking:
    """A file as the source of a tar."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._end = os.fstat(file.fileno()).st_size
        self.read = file.read

    def skip(self, size: int) -> None:
        self._file.seek(min(self._file.tell() + size, self._end))


def _look(file: BinaryIO, places: dict[str, Member]) -> None:
    for member in TarReader(_Seeking(file)).members():
        name = posixpath.normpath(member.name)
        if member.kind is Kind.FOLDER:
            continue
        if name in places:
            raise TarDamageError(f"{shown(name)} is there twice")
        if len(places) >= MOST_ENTRIES:
            raise TarDamageError(f"it has more than {MOST_ENTRIES:,} members")
        places[name] = member
    # General writers fill up their last block with zeros.
    if any(file.read(_BLOCKING)) or file.read(1):
        raise TarDamageError("something follows its end")


def _damaged(path: Path, why: str) -> ContentMismatchError:
    return ContentMismatchError(
        f"the archive `{path}` is damaged: {why}", hint="`mlops-deploy build-model --archive` makes it again"
    )


def _foreign(path: Path) -> UnusableInputError:
    return UnusableInputError(
        f"`{path}` is not an archive of a carrier", hint="`mlops-deploy build-model --archive` makes one"
    )


def _pieces(file: BinaryIO, size: int | None) -> Iterator[bytes]:
    left = size
    while piece := file.read(CHUNK if left is None else min(CHUNK, left)):
        if left is not None:
            left -= len(piece)
        yield piece
