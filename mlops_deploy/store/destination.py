"""The store as a place that a carrier is streamed to."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mlops_deploy.errors import DeployError
from mlops_deploy.oci.image import Carrier
from mlops_deploy.oci.types import Descriptor
from mlops_deploy.spec.refs import Digest, ImageRef
from mlops_deploy.store.layout import LayoutStore
from mlops_deploy.store.log import Built

_WRITE_BACK: Final = 32 * 2**20

class StoreDestination:
    """Writes a carrier into a store; a failed build leaves no temporary file, at most whole blobs that nobody names."""

    def __init__(self, store: LayoutStore, entry: Callable[[Carrier], Built]) -> None:
        self.store = store
        self._entry = entry
        self._file: tuple[int, Path] | None = None
        self._written = 0

    def has(self, carrier: Carrier) -> bool:
        """Whether every blob is there."""
        documents = (blob.descriptor for blob in carrier.documents)
        return all(self.store.has_blob(descriptor) for descriptor in (*carrier.layers, *documents))

    def wants(self, layer: Descriptor) -> bool:
        """Whether the blob is missing."""
        return not self.store.has_blob(layer)

    def begin(self, size: int) -> None:
        """Open a temporary file and reserve the room, so that a full disk is found before the model is read."""
        with self._reporting():
            self._file = self.store.new_file()
            self._written = 0
            os.posix_fallocate(self._file[0], 0, size)

    def write(self, block: memoryview) -> None:
        """Write; now and then have the kernel begin to write back, so that the flush at the end is short."""
        with self._reporting():
            handle, _ = self._opened()
            while block:
                count = os.write(handle, block)
                block = block[count:]
                before, self._written = self._written, self._written + count
                if before // _WRITE_BACK < self._written // _WRITE_BACK:
                    os.posix_fadvise(handle, before // _WRITE_BACK * _WRITE_BACK, _WRITE_BACK, os.POSIX_FADV_DONTNEED)

    def end(self, digest: Digest) -> None:
        """Flush, and rename to the digest."""
        with self._reporting():
            handle, path = self._opened()
            os.fsync(handle)
            os.fchmod(handle, 0o644)
            path.replace(self.store.blob_path(digest))
            os.close(handle)
            self._file = None

    def finish(self, carrier: Carrier, names: Sequence[ImageRef]) -> None:
        """Write the documents, then name the carrier and log the build."""
        with self._reporting():
            for blob in carrier.documents:
                self.store.put_blob(blob)
            self.store.record(self._entry(carrier), names, carrier.index.descriptor)

    def abort(self) -> None:
        """Remove the layer that was being written."""
        if self._file:
            handle, path = self._file
            self._file = None
            os.close(handle)
            path.unlink(missing_ok=True)

    def _opened(self) -> tuple[int, Path]:
        if self._file is None:
            raise AssertionError("bytes of a layer that was not begun")
        return self._file

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DeployError(f"the store `{self.store.path}` cannot be written: {error.strerror}") from error
