"""The engine as a destination: it loads a carrier while it is being made or read; nothing temporary on our disk."""

from collections.abc import Sequence
from functools import partial

from mlops_deploy.api.conduit import Conduit
from mlops_deploy.errors import ContentMismatchError, UnusableInputError
from mlops_deploy.oci.archive import StreamedArchive
from mlops_deploy.oci.blobs import Blobs, LayoutBlobs
from mlops_deploy.oci.destination import Destination
from mlops_deploy.oci.image import Carrier
from mlops_deploy.oci.rebuilt import layer_blocks, read_carrier
from mlops_deploy.oci.stream import LayerSink, LayerSource
from mlops_deploy.oci.types import Descriptor, Platform
from mlops_deploy.ports import Engine, Story
from mlops_deploy.spec.refs import Digest, ImageRef
from mlops_deploy.store.layout import LayoutStore


class EngineDestination(Destination):
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

    def sink(self) -> LayerSink:
        """Itself: one layer after the other."""
        return self

    def has(self, carrier: Carrier) -> bool:
        """Whether the engine has this very image, under any name or none."""
        return self._present(carrier) is not None

    def wants(self, layer: Descriptor) -> bool:  # noqa: ARG002 - what is loaded is complete in itself
        """Always: the engine takes whole images."""
        return True

    def begin(self, layer: LayerSource) -> None:
        """Start loading with the first layer."""
        self._opened().begin(layer)

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


def load_stored(store: LayoutStore, digest: Digest, name: str, engine: Engine, story: Story) -> None:
    """Make the engine have the carrier `digest` of the store under `name`; one that is there already is not sent.

    A carrier that is no longer in the store will do when the engine has it. Raises `UnusableInputError` when neither
    has it, `ContentMismatchError` when it is damaged.
    """
    blobs = LayoutBlobs(store.path)
    if not any(stored.digest == digest for stored in store.builds()):
        if engine.image_id(name) is None:
            raise UnusableInputError(
                f"the carrier `{name}` is neither in the store `{store.path}` nor in the engine",
                hint="build it again with `mlops-deploy build-model`",
            )
        return
    carrier = read_carrier(blobs, digest)
    place = EngineDestination(engine, engine.platform())
    try:
        if not place.has(carrier):
            _send(carrier, blobs, place, story)
        place.finish(carrier, [ImageRef.parse(name)])
    except BaseException:
        place.abort()
        raise


def _send(carrier: Carrier, blobs: Blobs, place: EngineDestination, story: Story) -> None:
    done, total = 0, sum(layer.size for layer in carrier.layers)
    for layer in carrier.layers:
        place.begin(LayerSource(size=layer.size, again=partial(layer_blocks, blobs, layer)))
        for block in layer_blocks(blobs, layer):
            place.write(memoryview(block))
            done += len(block)
            story.progress(carrier.metadata.card.name, done, total)
        place.end(layer.digest)
