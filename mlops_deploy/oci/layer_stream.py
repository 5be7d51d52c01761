"""A layer as it comes from where it is stored: what is left out is not asked for, and nothing past its size is read."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Final, Protocol

from mlops_deploy.oci.types import Descriptor
from mlops_deploy.oci.untar import CHUNK, TarDamageError
from mlops_deploy.spec.refs import Digest

_WORTH_ASKING: Final = 2**20
"""Bytes from which leaving them out is worth a request of its own."""


class Layers(Protocol):
    """Where blobs can be read from any offset."""

    def read(self, digest: Digest, *, start: int, size: int) -> Iterator[bytes]:
        """The bytes of a blob of `size` bytes from `start` on; raises `FileNotFoundError` when it is not there."""
        ...


class LayerStream:
    """The source of a tar that begins at `start` of a layer."""

    def __init__(self, layers: Layers, layer: Descriptor, start: int = 0) -> None:
        self._layers = layers
        self._layer = layer
        self._asked = start
        self._pieces: Iterator[bytes] | None = None
        self._rest = memoryview(b"")

    @property
    def at_end(self) -> bool:
        """Whether all of the layer has been read, or left out."""
        return not self._rest and self._asked >= self._layer.size

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the layer's end."""
        if not self._rest:
            self._rest = memoryview(self._next())
        piece, self._rest = self._rest[:size], self._rest[size:]
        # Most pieces are taken whole, and then not copied.
        whole = piece.obj
        return whole if isinstance(whole, bytes) and len(whole) == len(piece) else bytes(piece)

    def skip(self, size: int) -> None:
        """Leave bytes out, without asking for them when they are many."""
        held = min(size, len(self._rest))
        self._rest = self._rest[held:]
        size -= held
        if size >= _WORTH_ASKING:
            self.close()
            self._asked += size
            return
        while size and (piece := self.read(size)):
            size -= len(piece)

    def exactly(self, size: int) -> Iterator[bytes]:
        """The next `size` bytes; raises `TarDamageError` when the layer ends before."""
        while size:
            if not (piece := self.read(min(size, CHUNK))):
                raise TarDamageError("it ends too early")
            yield piece
            size -= len(piece)

    def close(self) -> None:
        """Ask for no more."""
        close = getattr(self._pieces, "close", None)
        self._pieces = None
        if close is not None:
            with suppress(OSError):
                close()

    def _next(self) -> bytes:
        left = self._layer.size - self._asked
        if left <= 0:
            return b""
        if self._pieces is None:
            self._pieces = iter(self._layers.read(self._layer.digest, start=self._asked, size=self._layer.size))
        piece = next(self._pieces, b"")
        # Whether it ends where it should is asked for too: what comes may be cut into pieces just there.
        if len(piece) > left or (len(piece) == left and next(self._pieces, b"")):
            raise TarDamageError(f"it has more than {self._layer.size:,} bytes")
        self._asked += len(piece)
        return piece
