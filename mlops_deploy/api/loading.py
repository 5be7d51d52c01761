"""The engine as a destination: it loads the carrier while the model is being read; nothing temporary on our disk."""

from collections.abc import Sequence

from mlops_deploy.api.conduit import Conduit
from mlops_deploy.errors import ContentMismatchError
from mlops_deploy.oci.archive import StreamedArchive
from mlops_deploy.oci.image import Carrier
from mlops_deploy.oci.types import Descriptor, Platform
from mlops_deploy.ports import Engine
from mlops_deploy.spec.refs import Digest, ImageRef


class EngineDestination:
    """Loads a carrier into an engine, under its tags and the short tag that belongs to it alone."""

    def __init__(self, engine: Engine, platform: Platform) -> None:
        self._engine = engine
        self._platform = platform
        self._conduit: Conduit | None = None
        self._archive: StreamedArchive | None = None

    @property
    def sent(self) -> int:
        """Bytes sent to the engine."""
        return self._archive.sent if self._archive else 0

    def has(self, carrier: Carrier) -> bool:
        """Whether the engine has this very image, under any name or none."""
        return self._present(carrier) is not None

    def wants(self, layer: Descriptor) -> bool:  # noqa: ARG002 - what is loaded is complete in itself
        """Always: the engine takes whole images."""
        return True

    def begin(self, size: int) -> None:
        """Start loading with the first layer."""
        self._opened().begin(size)

    def write(self, block: memoryview) -> None:
        """Send a block."""
        self._opened().write(block)

    def end(self, digest: Digest) -> None:
        """Complete a layer."""
        self._opened().end(digest)

    def finish(self, carrier: Carrier, names: Sequence[ImageRef]) -> None:
        """Complete the image and check that the engine has it; of an image that was there only the names are set."""
        if self._archive is not None and self._conduit is not None:
            self._archive.finish(carrier, names)
            self._conduit.close()
        found = self._present(carrier)
        if found is None:
            raise ContentMismatchError(f"the engine does not have `{names[0]}` after loading it")
        for name in names:
            if self._engine.image_id(str(name)) != found:
                self._engine.tag(str(found), str(name))

    def abort(self) -> None:
        """Break the transfer off; the engine drops what it got."""
        if self._conduit is not None:
            self._conduit.break_off()

    def _opened(self) -> StreamedArchive:
        if self._archive is None:
            self._conduit = Conduit(self._engine.load)
            self._archive = StreamedArchive(self._conduit.put, self._platform)
        return self._archive

    def _present(self, carrier: Carrier) -> Digest | None:
        # The classic store calls an image by its config's digest, the containerd store by its index's or manifest's.
        image = carrier.image_for(self._platform)
        candidates = (image.config.descriptor.digest, carrier.digest, image.manifest.descriptor.digest)
        return next((digest for digest in candidates if self._engine.image_id(str(digest)) == digest), None)
