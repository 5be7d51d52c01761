"""The bytes of a layer's tar: sorted entries, time 0, fixed owners and modes, a frozen trailer.

What is written here decides digests. A change of a single byte needs a new `REVISION`.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, assert_never

from mlops_deploy.oci.inventory import SourceFile

REVISION: Final = 1
"""Raised whenever the bytes made for the same input change; part of every cached layer's key."""

RECORD: Final = 512
TRAILER: Final = bytes(2 * RECORD)
_LONGEST_PLAIN_NAME: Final = 100
_LARGEST_PLAIN_SIZE: Final = 8**11


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A directory, owned by `owner` (user and group)."""

    name: str
    owner: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A small file whose bytes are at hand."""

    name: str
    data: bytes
    executable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A symbolic link."""

    name: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A file of the model, read when the layer is streamed."""

    name: str
    file: SourceFile


Entry = Folder | Text | Link | ModelFile


def header(entry: Entry) -> bytes:
    """The header of an entry; a PAX record precedes it where ustar cannot say it (long or non-ASCII names, 8 GiB)."""
    match entry:
        case Folder():
            return _member(entry.name, kind=tarfile.DIRTYPE, mode=0o755, owner=entry.owner)
        case Text():
            return file_header(entry.name, len(entry.data), executable=entry.executable)
        case Link():
            return _member(entry.name, kind=tarfile.SYMTYPE, mode=0o777, target=entry.target)
        case ModelFile():
            return file_header(entry.name, entry.file.size)
        case _:
            assert_never(entry)


def file_header(name: str, size: int, *, executable: bool = False) -> bytes:
    """The header of a plain file of `size` bytes, mode 0644 (0755 when it is executable), owner 0:0."""
    if executable:
        return _member(name, mode=0o755, size=size)
    if size < _LARGEST_PLAIN_SIZE and len(name) <= _LONGEST_PLAIN_NAME and name.isascii():
        return _plain_file_header(name.encode(), size)
    return _member(name, mode=0o644, size=size)


def padding(size: int) -> bytes:
    """The zeros after `size` bytes of content, up to a whole record."""
    return bytes(-size % RECORD)


def layer_size(entries: tuple[Entry, ...]) -> int:
    """Bytes of the whole tar, known before any of it is made."""
    return sum(len(header(entry)) + _padded(content_size(entry)) for entry in entries) + len(TRAILER)


def content_size(entry: Entry) -> int:
    """Bytes of an entry's content, without padding."""
    match entry:
        case Folder() | Link():
            return 0
        case Text():
            return len(entry.data)
        case ModelFile():
            return entry.file.size
        case _:
            assert_never(entry)


def folders_of(names: tuple[str, ...]) -> Iterator[Folder]:
    """Each folder that the names need, parents first; the same names give the same folders in every layer."""
    needed = {parent for name in names for parent in _parents(name)}
    for name in sorted(needed, key=str.encode):
        yield Folder(name=name)


def _parents(name: str) -> Iterator[str]:
    at = name.find("/")
    while at >= 0:
        yield name[:at]
        at = name.find("/", at + 1)


def _padded(size: int) -> int:
    return size + -size % RECORD


def _member(
    name: str, *, kind: bytes = tarfile.REGTYPE, mode: int, size: int = 0, owner: int = 0, target: str = ""
) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size, info.linkname = kind, mode, size, target
    info.uid = info.gid = owner
    info.mtime = 0
    return info.tobuf(format=tarfile.PAX_FORMAT, encoding="utf-8", errors="strict")


def _plain_file_header(name: bytes, size: int) -> bytes:
    # What tarfile writes for such a member, five times as fast: it matters for a hundred thousand small files.
    fields = b"%-100b0000644\x000000000\x000000000\x00%011o\x0000000000000\x00" % (name.ljust(100, b"\0"), size)
    rest = b"0" + bytes(100) + b"ustar\x0000" + bytes(247)
    checksum = sum(fields) + sum(rest) + 8 * ord(" ")
    return fields + b"%06o\x00 " % checksum + rest
