"""Zip archives, told apart by what they list at their end: Keras, torch, TorchScript, skops."""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

from mlops_deploy.compat import pickles
from mlops_deploy.compat.reader import Parser, Peek, Rest
from mlops_deploy.compat.versions import at_least
from mlops_deploy.spec.requires import Sniffed

_MAGIC: Final = b"PK\x03\x04"
_END: Final = b"PK\x05\x06"
_HEAD: Final = 256 * 2**10
_MOST_ENTRIES: Final = 20_000
_TAIL: Final = 768 * 2**10
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_LARGEST: Final = 512 * 2**10
"""Bytes of one entry that is read, before and after decompression."""

_MOST_HEADERS: Final = 16
"""How many headers with the entry's name may stand before the entry itself, as in archives that hold archives."""


def begin(head: bytes) -> Parser | None:
    """The parser when `head` begins an archive."""
    return _parse() if head.startswith(_MAGIC) else None


def _parse() -> Parser:
    head = yield Peek(_HEAD)
    tail = yield Rest(_TAIL)
    if _END not in tail:
        return Sniffed(damaged="it begins as an archive, and lacks the table of contents that ends one")
    archive = _Archive(head, tail)
    names = archive.names
    if "schema.json" in names:
        return _skops(archive)
    if {"metadata.json", "config.json"} <= names and (text := archive.read("metadata.json")):
        version = json.loads(text).get("keras_version")
        return Sniffed(format="keras", requires=at_least("keras", version)) if version else Sniffed()
    top = {name.partition("/")[0] for name in names}
    if len(top) == 1 and f"{(folder := top.pop())}/data.pkl" in names:
        code = any(name.startswith(f"{folder}/code/") for name in names)
        modules = set() if code else pickles.imports(archive.read(f"{folder}/data.pkl") or b"")
        more = pickles.needed(modules, {})
        requires = ("torch>=1.6", *(one for one in more if one != "torch"))
        return Sniffed(format="torchscript" if code else "torch", requires=tuple(sorted(requires)))
    return Sniffed()


def _skops(archive: "_Archive") -> Sniffed:
    schema = archive.read("schema.json")
    if schema is None:
        return Sniffed(format="skops")
    return Sniffed(format="skops", requires=_in_schema(json.loads(schema)))


def _in_schema(schema: Mapping[str, object]) -> tuple[str, ...]:
    modules: set[str] = set()
    versions: set[str] = set()
    waiting: list[object] = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            waiting += node.values()
            if isinstance(module := node.get("__module__"), str):
                modules.add(module)
            content = node.get("_sklearn_version")
            if isinstance(content, dict) and isinstance(text := content.get("content"), str):
                versions.add(text.strip('"'))
    return pickles.needed(modules, {"scikit-learn": min(versions)} if versions else {})


class _Archive:
    """What is known of an archive from its beginning and its end."""

    def __init__(self, head: bytes, tail: bytes) -> None:
        self._parts = (head, tail)
        listed = zipfile.ZipFile(io.BytesIO(tail)).filelist
        if len(listed) > _MOST_ENTRIES:
            raise ValueError("too many entries")
        self._entries = {entry.filename: entry for entry in listed}

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._entries)

    def read(self, name: str) -> bytes | None:
        """An entry's content, where it is small and near the beginning or the end."""
        entry = self._entries[name]
        if max(entry.file_size, entry.compress_size) > _LARGEST:
            return None
        places = ((part, at) for part in self._parts for at in _places(part, entry.filename.encode()))
        found = (_content(part, at, entry) for part, at in islice(places, _MOST_HEADERS))
        return next((data for data in found if data is not None), None)


def _places(part: bytes, name: bytes) -> Iterator[int]:
    """Where the content of an entry `name` may begin."""
    at = part.find(_MAGIC)
    while 0 <= at <= len(part) - _LOCAL.size:
        *_, named, more = _LOCAL.unpack_from(part, at)
        begins = at + _LOCAL.size
        if part[begins : begins + named] == name:
            yield begins + named + more
        at = part.find(_MAGIC, at + 1)


def _content(part: bytes, at: int, entry: zipfile.ZipInfo) -> bytes | None:
    """What stands at `at`, when it is the content of `entry` and all of it is here."""
    data = part[at : at + entry.compress_size]
    if entry.compress_type == zipfile.ZIP_DEFLATED:
        data = zlib.decompressobj(-15).decompress(data, _LARGEST)
    return data if len(data) == entry.file_size and zlib.crc32(data) == entry.CRC else None
