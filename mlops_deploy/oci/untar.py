"""Reads tars strictly and as a stream: plain files, folders and symbolic links, and nothing else.

A general reader follows sparse maps, global records and lengths that somebody else wrote; this one stops at them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, Protocol, assert_never

from mlops_deploy.oci.names import shown
from mlops_deploy.oci.tar import RECORD, Folder, Link, file_header, header

CHUNK: Final = 2**20
_ZEROS: Final = bytes(RECORD)
# A path has at most 2,048 bytes; what else a carrier's record says is short.
_LONGEST_RECORDS: Final = 16 * 2**10
_CHECKSUM: Final = slice(148, 156)
_KINDS: Final = {b"1": "a hard link", b"3": "a device", b"4": "a device", b"6": "a FIFO", b"S": "a sparse file"}


class Kind(Enum):
    """What a member is."""

    FILE = b"0"
    LINK = b"2"
    FOLDER = b"5"


class TarDamageError(ValueError):
    """Not a tar, or one with something in it that no carrier has; what follows in it is not looked at."""


class Source(Protocol):
    """What a tar is read from."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""
        ...

    def skip(self, size: int, /) -> None:
        """Leave bytes out; past the end it is no error yet."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A member as its header says; `exact` when the header is byte for byte as our own writer makes it."""

    name: str
    kind: Kind
    size: int
    mode: int
    owner: int
    target: str
    offset: int
    exact: bool = False


class TarReader:
    """The members of a tar, in order. The content of one can be read until the next is asked for."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._offset = 0
        self._left = 0
        self._padding = 0

    def members(self) -> Iterator[Member]:
        """Raise `TarDamageError` for what is none of ours; end after the trailer's two records."""
        while (first := self._exactly(RECORD)) != _ZEROS:
            member = self._member(first)
            self._left, self._padding = member.size, -member.size % RECORD
            yield member
            self._leave()
        if self._exactly(RECORD) != _ZEROS:
            raise TarDamageError("its trailer is damaged")

    def content(self) -> Iterator[bytes]:
        """What is left of the member's content, in pieces of at most 1 MiB."""
        while self._left:
            yield self._some(min(CHUNK, self._left))

    def leave_out(self, size: int) -> None:
        """Let `content` begin that many bytes later; at most what is left of it."""
        self._source.skip(size)
        self._offset += size
        self._left -= size

    def _member(self, first: bytes) -> Member:
        records: dict[str, str] = {}
        raw = last = _checked(first)
        if first[156:157] == b"x":
            size = _octal(first[124:136])
            if size > _LONGEST_RECORDS:
                raise TarDamageError(f"an extended header has {size:,} bytes")
            said = self._exactly(size + -size % RECORD)
            records = _records(said[:size])
            last = _checked(self._exactly(RECORD))
            raw = first + said + last
        return _described(last, records, raw, self._offset)

    def _leave(self) -> None:
        if self._left:
            self._source.skip(self._left)
            self._offset += self._left
            self._left = 0
        if any(self._exactly(self._padding)):
            raise TarDamageError("there are bytes between two members")

    def _some(self, size: int) -> bytes:
        piece = self._source.read(size)
        if not piece:
            raise TarDamageError("it ends too early")
        self._offset += len(piece)
        self._left -= min(self._left, len(piece))
        return piece

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self._some(size - len(data))
        return data


def _checked(record: bytes) -> bytes:
    total = sum(record) - sum(record[_CHECKSUM]) + 8 * ord(" ")
    if record[_CHECKSUM] != b"%06o\0 " % total:
        raise TarDamageError("a header's checksum is wrong")
    return record


def _described(record: bytes, records: Mapping[str, str], raw: bytes, offset: int) -> Member:
    name = records.get("path") or _text(record[345:500], record[:100])
    try:
        kind = Kind(record[156:157].replace(b"\0", b"0"))
    except ValueError:
        what = _KINDS.get(record[156:157], f"a member of type {record[156:157]!r}")
        raise TarDamageError(f"{shown(name)} is {what}") from None
    if kind is Kind.FOLDER:
        name = name.removesuffix("/")
    size = _decimal(records["size"]) if "size" in records else _octal(record[124:136])
    if size and kind is not Kind.FILE:
        raise TarDamageError(f"{shown(name)} has content, but is no file")
    mode, owner = _octal(record[100:108]), _octal(record[108:116])
    target = _text(b"", record[157:257])
    member = Member(name=name, kind=kind, size=size, mode=mode, owner=owner, target=target, offset=offset)
    return replace(member, exact=raw == _as_written(member))


def _as_written(member: Member) -> bytes:
    match member.kind:
        case Kind.FILE:
            return file_header(member.name, member.size, executable=member.mode == 0o755)  # noqa: PLR2004 - the mode of a program
        case Kind.FOLDER:
            return header(Folder(name=member.name, owner=member.owner))
        case Kind.LINK:
            return header(Link(name=member.name, target=member.target))
        case _:
            assert_never(member.kind)


def _records(data: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    while at < len(data):
        length = re.match(rb"([1-9][0-9]{0,5}) ([^=\n]+)=", data[at:])
        end = at + int(length[1]) if length else 0
        if not length or end > len(data) or data[end - 1 : end] != b"\n" or end <= at + length.end():
            raise TarDamageError("an extended header is damaged")
        found[_utf8(length[2])] = _utf8(data[at + length.end() : end - 1])
        at = end
    return found


def _octal(field: bytes) -> int:
    digits = field.rstrip(b"\0 ")
    if not re.fullmatch(rb"[0-7]*", digits):
        raise TarDamageError("a header's number is damaged")
    return int(digits or b"0", 8)


def _decimal(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise TarDamageError("an extended header's size is damaged")
    return int(text)


def _text(prefix: bytes, field: bytes) -> str:
    name = field.partition(b"\0")[0]
    before = prefix.partition(b"\0")[0]
    return _utf8(before + b"/" + name if before else name)


def _utf8(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise TarDamageError("a name is not valid UTF-8") from None
