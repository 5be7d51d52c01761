"""A registry as a destination: each layer is sent while it is read, the documents follow, the tag comes last."""

from collections.abc import Sequence

from mlops_deploy.oci.image import Carrier
from mlops_deploy.oci.stream import LayerSource
from mlops_deploy.oci.types import Descriptor
from mlops_deploy.ports import Repository, Upload
from mlops_deploy.spec.refs import Digest, ImageRef


class RegistryDestination:
    """Sends a carrier to `ref`, by its tag or, without one, the short tag that belongs to it alone."""

    def __init__(self, repository: Repository, ref: ImageRef) -> None:
        self._repository = repository
        self._ref = ref
        self._upload: Upload | None = None
        self.sent = 0

    def has(self, carrier: Carrier) -> bool:
        """Whether the registry has the whole carrier: an index cannot be there without what it names."""
        return self._repository.resolve(str(carrier.digest)) is not None

    def wants(self, layer: Descriptor) -> bool:
        """Whether the blob is missing."""
        return not self._repository.has(layer)

    def begin(self, layer: LayerSource) -> None:
        """Open an upload."""
        self._upload = self._repository.upload(layer.size, layer.again)

    def write(self, block: memoryview) -> None:
        """Send a block."""
        self._opened().write(block)
        self.sent += len(block)

    def end(self, digest: Digest) -> None:
        """Complete the blob."""
        self._opened().commit(digest)
        self._upload = None

    def finish(self, carrier: Carrier, names: Sequence[ImageRef]) -> None:  # noqa: ARG002 - it has a name of its own
        """Send the documents, then the tag."""
        for image in carrier.images:
            self._repository.put_blob(image.config)
            self._repository.put_document(str(image.manifest.descriptor.digest), image.manifest)
        self._repository.put_document(self._ref.tag or carrier.digest.short, carrier.index)

    def abort(self) -> None:
        """Give the open upload up; no tag has moved."""
        if self._upload is not None:
            self._upload.abort()

    def _opened(self) -> Upload:
        if self._upload is None:
            raise AssertionError("bytes of a layer that was not begun")
        return self._upload
