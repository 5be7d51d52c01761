"""What joblib compresses: decompressed as it passes, so far and no further, and searched as a pickle."""

import bz2
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from mlops_deploy.compat import pickles
from mlops_deploy.compat.reader import Parser, Peek, Reader, told
from mlops_deploy.spec.requires import Sniffed

_READ: Final = 64 * 2**10
_PIECE: Final = 256 * 2**10
_MOST: Final = 128 * 2**20
"""Bytes of content that are looked at: a small file may hold a thousand times its size."""

_MEMORY: Final = 32 * 2**20
"""What decompressing xz may take; its usual settings need a quarter of that."""

_LZ4: Final = re.compile(rb"\x04\x22\x4d\x18.{7,24}\x80[\x02-\x05]", re.DOTALL)
"""A frame's head, and after it the beginning of a pickle, which nothing before it could have shortened."""


class _Engine(Protocol):
    def pieces(self, block: bytes) -> Iterator[bytes]: ...


class _Zlib:
    def __init__(self, wbits: int) -> None:
        self._engine = zlib.decompressobj(wbits)

    def pieces(self, block: bytes) -> Iterator[bytes]:
        """What `block` decompresses to, in pieces of limited size."""
        while block and not self._engine.eof:
            yield self._engine.decompress(block, _PIECE)
            block = self._engine.unconsumed_tail


class _Other:
    def __init__(self, engine: bz2.BZ2Decompressor | lzma.LZMADecompressor) -> None:
        self._engine = engine

    def pieces(self, block: bytes) -> Iterator[bytes]:
        """What `block` decompresses to, in pieces of limited size."""
        if self._engine.eof:
            return
        yield self._engine.decompress(block, _PIECE)
        while not (self._engine.eof or self._engine.needs_input):
            yield self._engine.decompress(b"", _PIECE)


_KINDS: Final[tuple[tuple[re.Pattern[bytes], Callable[[], _Engine]], ...]] = (
    (re.compile(rb"\x1f\x8b\x08"), lambda: _Zlib(31)),
    (re.compile(rb"BZh[1-9]1AY&SY"), lambda: _Other(bz2.BZ2Decompressor())),
    (re.compile(rb"\xfd7zXZ\x00"), lambda: _Other(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY))),
    (re.compile(rb"\x5d\x00\x00"), lambda: _Other(lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_MEMORY))),
    (re.compile(rb"\x78[\x01\x5e\x9c\xda]"), lambda: _Zlib(15)),
)


def begin(head: bytes) -> Parser | None:
    """The parser when `head` begins something compressed in a way that joblib writes."""
    for pattern, engine in _KINDS:
        if pattern.match(head):
            return _parse(engine())
    # Python has no lz4, and neither have servers by default: what it holds stays unknown.
    return told(Sniffed(format="joblib-lz4")) if _LZ4.match(head) else None


def _parse(engine: _Engine) -> Parser:
    inner = Reader(_pickle())
    left = _MOST
    while not inner.done and left > 0:
        block = yield _READ
        for piece in engine.pieces(block):
            inner.feed(piece)
            left -= len(piece)
            if inner.done or left <= 0:
                break
        if len(block) < _READ:
            break
    return inner.found()


def _pickle() -> Parser:
    head = yield Peek(2)
    if not pickles.begin(head):
        return Sniffed()
    return (yield from pickles.parse(compressed=True))
