"""The store as a place that a carrier is streamed to."""

from collections.abc import Callable, Sequence

from mlops_deploy.oci.destination import Destination
from mlops_deploy.oci.image import Carrier
from mlops_deploy.oci.partial import PartialFile, reporting
from mlops_deploy.oci.stream import LayerSink, LayerSource
from mlops_deploy.oci.types import Descriptor
from mlops_deploy.spec.refs import Digest, ImageRef
from mlops_deploy.store.files import unheard
from mlops_deploy.store.layout import LayoutStore
from mlops_deploy.store.log import Built


class StoreDestination(Destination):
    """Writes a carrier into a store, which is made when it is not there.

    A failed build leaves no temporary file, at most whole blobs that nobody names, and no store that it made and that
    has nothing in it. `tell` hears when another process keeps this one waiting.
    """

    def __init__(
        self, store: LayoutStore, entry: Callable[[Carrier], Built], tell: Callable[[str], None] = unheard
    ) -> None:
        self.store = store
        self._entry = entry
        self._tell = tell
        self._made = False
        self._what = f"the store `{store.path}`"
        self._partial: PartialFile | None = None

    def sink(self) -> LayerSink:
        """Itself: one layer after the other."""
        return self

    def has(self, carrier: Carrier) -> bool:
        """Whether every blob is there."""
        documents = (blob.descriptor for blob in carrier.documents)
        return all(self.store.has_blob(descriptor) for descriptor in (*carrier.layers, *documents))

    def wants(self, layer: Descriptor) -> bool:
        """Whether the blob is missing."""
        return not self.store.has_blob(layer)

    def begin(self, layer: LayerSource) -> None:
        """Open a temporary file, if there is room for the layer: a full disk is found before the model is read."""
        with reporting(self._what):
            if self._partial is None:
                self._made = not self.store.path.exists()
                self.store.create()
            self._partial = self.store.new_blob()
            self._partial.reserve(layer.size)

    def write(self, block: memoryview) -> None:
        """Write."""
        with reporting(self._what):
            self._opened().write(block)

    def end(self, digest: Digest) -> None:
        """Flush, and rename to the digest."""
        with reporting(self._what):
            self._opened().commit(self.store.blob_path(digest))

    def finish(self, carrier: Carrier, names: Sequence[ImageRef]) -> None:
        """Write the documents, then name the carrier and log the build."""
        with reporting(self._what):
            if self._partial is None:  # every layer was there: what killed builds left is not swept yet
                self.store.create()
            for blob in carrier.documents:
                self.store.put_blob(blob)
            self.store.record(self._entry(carrier), names, carrier.index.descriptor, self._tell)

    def abort(self) -> None:
        """Remove the layer that was being written, and a store that was made for it and is still empty."""
        if self._partial:
            self._partial.discard()
        if self._made:
            self.store.remove_empty()

    def _opened(self) -> PartialFile:
        if self._partial is None:
            raise AssertionError("bytes of a layer that was not begun")
        return self._partial
