"""A blob that is hashed and counted while it is read, never past the size that it should have."""

from hashlib import sha256

from mlops_deploy.errors import ContentMismatchError
from mlops_deploy.oci.blobs import Blobs
from mlops_deploy.oci.documents import LARGEST_DOCUMENT
from mlops_deploy.oci.untar import CHUNK
from mlops_deploy.spec.refs import Digest


class HashedBlob:
    """A blob as a file; one of unknown size is a document. After `drain`, `problems` says what is wrong with it."""

    def __init__(self, blobs: Blobs, digest: Digest, size: int | None) -> None:
        self._pieces = blobs.read(digest)
        self._digest = digest
        self._size = size
        self._most = LARGEST_DOCUMENT if size is None else size
        self._hash = sha256()
        self._rest = memoryview(b"")
        self._count = 0
        self._missing = False
        self._wrong: str | None = None

    def read(self, size: int) -> bytes:
        """At most `size` bytes; empty at the end, or where the blob should have ended long ago."""
        if not self._rest:
            self._rest = memoryview(self._next())
        piece, self._rest = self._rest[:size], self._rest[size:]
        return bytes(piece)

    def skip(self, size: int) -> None:
        """Read, and forget."""
        while size and (piece := self.read(min(size, CHUNK))):
            size -= len(piece)

    def drain(self) -> None:
        """Read what is left, and forget it."""
        while self.read(CHUNK):
            pass

    def problems(self) -> tuple[str, ...]:
        """How the blob differs from what its descriptor says; nothing when it is whole."""
        if self._missing:
            return (f"the blob {self._digest} is missing",)
        if self._wrong is not None:
            return (self._wrong,)
        if self._count > self._most:
            return (f"it has more than {self._most:,} bytes",)
        found = []
        if self._size is not None and self._count != self._size:
            found.append(f"{self._count:,} bytes, expected {self._size:,}")
        if self._hash.hexdigest() != self._digest.hex:
            found.append(f"its digest is sha256:{self._hash.hexdigest()}, expected {self._digest}")
        return tuple(found)

    def _next(self) -> bytes:
        if self._count > self._most:
            return b""
        try:
            piece = next(self._pieces, b"")
        except FileNotFoundError:
            self._missing = True
            return b""
        except ContentMismatchError as error:
            self._wrong = error.message
            return b""
        self._hash.update(piece)
        self._count += len(piece)
        return piece


def read_document(blobs: Blobs, digest: Digest, size: int | None = None) -> tuple[bytes, tuple[str, ...]]:
    """A small blob, and its problems; no bytes when it is missing or too large to be a document."""
    if size is not None and size > LARGEST_DOCUMENT:
        return b"", (f"a document of {size:,} bytes, expected at most {LARGEST_DOCUMENT:,}",)
    blob = HashedBlob(blobs, digest, size)
    data = bytearray()
    while piece := blob.read(CHUNK):
        data += piece
    return bytes(data), blob.problems()
