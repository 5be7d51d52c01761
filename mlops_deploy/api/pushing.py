"""A registry as a destination: layers are sent while they are read, the documents follow, the tags come last."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from threading import Lock, Thread
from typing import Final

from mlops_deploy.api.registry_blobs import RegistryBlobs
from mlops_deploy.api.registry_parts import missing_part, put_documents
from mlops_deploy.errors import ContentMismatchError, DeployError, InterruptedByUserError
from mlops_deploy.oci.blobs import Blobs
from mlops_deploy.oci.destination import Destination
from mlops_deploy.oci.image import Carrier
from mlops_deploy.oci.inventory import SourceFile
from mlops_deploy.oci.stream import LayerSink, LayerSource
from mlops_deploy.oci.types import Blob, Descriptor
from mlops_deploy.oci.view import view, view_images
from mlops_deploy.ports import Repository, Upload
from mlops_deploy.spec.owner import LABEL
from mlops_deploy.spec.refs import Digest, ImageRef
from mlops_deploy.store.cache import DigestCache

ABREAST: Final = 4
"""Layers that are sent side by side: more rarely helps, and annoys registries."""

_LONGEST_LIST: Final = 16 * 2**20
"""Bytes of a metadata layer that are worth fetching to save a transfer: fifty thousand files."""

_MOST_SOURCES: Final = 2
"""Repositories that are asked for a layer although it is not sure that they have it still."""


class RegistryDestination(Destination):
    """Sends a carrier to `repository` under each of `tags`; None is the short tag that belongs to it alone.

    What `siblings` have is taken over from there: repositories of the same registry that get the carrier, too; and
    what others of that registry got from here, as `cache` knows, without a look whether it is there still. What
    the carrier under the first tag lists with the same path and size is probably there: such a layer is hashed first,
    and only sent when it is another.
    """

    def __init__(
        self,
        repository: Repository,
        tags: Sequence[str | None],
        *,
        siblings: Sequence[str] = (),
        abreast: int = ABREAST,
        cache: DigestCache | None = None,
    ) -> None:
        self._repository = repository
        self._tags = tuple(tags)
        self._siblings = tuple(siblings)
        self._abreast = abreast
        self._cache = cache or DigestCache(None)
        self._lock = Lock()
        self._looking = Lock()
        self._open: set[Sending] = set()
        self._sizes: Mapping[str, int] | None = None
        self._whole = self._over = False
        self.sent = 0

    @property
    def name(self) -> str:
        """The repository, as people write it."""
        return self._repository.name

    @property
    def abreast(self) -> int:
        """See `Destination`."""
        return self._abreast

    @property
    def held_back(self) -> int:
        """See `Destination`."""
        return self._repository.held_back

    def tags(self, carrier: Carrier) -> tuple[str, ...]:
        """The tags that the carrier gets there."""
        return tuple(tag or carrier.digest.short for tag in self._tags)

    def has(self, carrier: Carrier) -> bool:
        """Whether the registry has every part of the carrier: it may have lost what an index that is there names."""
        there = self._repository.resolve(str(carrier.digest)) is not None
        self._whole = there and missing_part(self._repository, *_parts(carrier)) is None
        return self._whole

    def wants(self, layer: Descriptor) -> bool:
        """Whether the blob is missing, and no other repository gives it."""
        if self._repository.has(layer):
            return False
        registry = self.name.partition("/")[0]
        others = [name for name in self._cache.holders(layer) if name.partition("/")[0] == registry]
        sources = dict.fromkeys((*self._siblings, *others[:_MOST_SOURCES]))
        return not any(self._repository.mount(layer, source) for source in sources if source != self.name)

    def defers(self, files: Sequence[SourceFile]) -> bool:
        """With siblings always; else when all of it was in the carrier before."""
        if self._siblings:
            return True
        return bool(files) and all(self._before().get(file.path) == file.size for file in files)

    def sink(self) -> LayerSink:
        """Uploads, one after the other."""
        return Sending(self)

    def prepare(self, carrier: Carrier) -> None:
        """Send configs, manifests and index by their digests: no tag has moved when one fails, or is not kept."""
        if self._whole:
            return
        images = [(image.config, image.manifest) for image in carrier.images]
        put_documents(self._repository, carrier.layers, images, carrier.index)
        self.sent += sum(len(document.data) for document in (carrier.index, *(manifest for _, manifest in images)))

    def finish(self, carrier: Carrier, names: Sequence[ImageRef]) -> None:  # noqa: ARG002 - it has names of its own
        """Move the tags that are not there yet."""
        for tag in self.tags(carrier):
            there = self._repository.resolve(tag) if self._whole else None
            if there is None or there.digest != carrier.digest:
                self._put(tag, carrier.index)
        if not self._whole:
            self._cache.hold(self.name, carrier.layers)

    def abort(self) -> None:
        """Give the open uploads up; no tag has moved."""
        with self._lock:
            self._over = True
            farewells = [Thread(target=sending.abort, daemon=True) for sending in self._open]
        # At once: each may have to wait for its registry for seconds.
        for farewell in farewells:
            farewell.start()
        for farewell in farewells:
            farewell.join()

    def begun(self, sending: "Sending", layer: LayerSource) -> Upload:
        """Open an upload for `sending`."""
        upload = self._repository.upload(layer.size, layer.again)
        with self._lock:
            self._open.add(sending)
        if self._over:
            upload.abort()
            raise InterruptedByUserError("the build failed elsewhere")
        return upload

    def ended(self, sending: "Sending", size: int) -> None:
        """An upload of `size` bytes is complete."""
        with self._lock:
            self._open.discard(sending)
            self.sent += size

    def _put(self, reference: str, document: Blob) -> None:
        self._repository.put_document(reference, document)
        self.sent += len(document.data)

    def _before(self) -> Mapping[str, int]:
        """The sizes of the files of the carrier that the first tag names now; none where it names no carrier."""
        with self._looking:
            if self._sizes is None:
                self._sizes = {}
                tag = self._tags[0]
                root = self._repository.resolve(tag) if tag else None
                # What is there may be anything: then nothing is known beforehand.
                with suppress(ContentMismatchError, FileNotFoundError):
                    if root is not None:
                        self._sizes = _listed(RegistryBlobs(self._repository, root), root.digest)
            return self._sizes


def _parts(carrier: Carrier) -> tuple[tuple[Descriptor, ...], tuple[Descriptor, ...]]:
    """What its index leads to: the blobs, and the manifests."""
    configs = (image.config.descriptor for image in carrier.images)
    return (*carrier.layers, *configs), tuple(image.manifest.descriptor for image in carrier.images)


def _listed(blobs: Blobs, digest: Digest) -> dict[str, int]:
    """The sizes of the files that a carrier lists; none where it is too long, and of any other image."""
    image = view_images(blobs, digest)[0]
    if f"{LABEL}name" not in image.labels or image.layers[-1].size > _LONGEST_LIST:
        return {}
    return {file.path: file.size for file in view(blobs, digest).listing.files}


class Sending:
    """One layer after the other on its way into a registry."""

    def __init__(self, place: RegistryDestination) -> None:
        self._place = place
        self._upload: Upload | None = None
        self._size = 0

    def begin(self, layer: LayerSource) -> None:
        """Open an upload."""
        self._upload = self._place.begun(self, layer)
        self._size = layer.size

    def write(self, block: memoryview) -> None:
        """Send a block."""
        self._opened().write(block)

    def end(self, digest: Digest) -> None:
        """Complete the blob."""
        self._opened().commit(digest)
        self._upload = None
        self._place.ended(self, self._size)

    def abort(self) -> None:
        """Give the open upload up."""
        if self._upload is not None:
            with suppress(DeployError):
                self._upload.abort()

    def _opened(self) -> Upload:
        if self._upload is None:
            raise AssertionError("bytes of a layer that was not begun")
        return self._upload
