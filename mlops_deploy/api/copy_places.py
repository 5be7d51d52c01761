"""Where a carrier can be copied to: a repository of a registry, or a store."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from threading import Lock

from mlops_deploy.api.carriers import Found
from mlops_deploy.api.copying import Documents
from mlops_deploy.api.registry_parts import put_documents
from mlops_deploy.errors import UnusableInputError
from mlops_deploy.oci.partial import PartialFile, reporting
from mlops_deploy.oci.types import Descriptor
from mlops_deploy.ports import Repository, Upload
from mlops_deploy.spec.refs import Digest, ImageRef
from mlops_deploy.store.files import unheard
from mlops_deploy.store.layout import LayoutStore
from mlops_deploy.store.log import Built


def require_nameable(ref: ImageRef, digest: Digest) -> None:
    """Raise `UnusableInputError` when `ref` cannot become the name of the carrier `digest`."""
    if re.fullmatch(r"localhost|[0-9]+(?:\.[0-9]+){3}", ref.name):
        raise UnusableInputError(f"`{ref}` is a registry without a name", hint=f"put one behind it: `{ref}/NAME:TAG`")
    if ref.digest not in {None, digest}:
        raise UnusableInputError(f"`{ref}` is the name of another carrier than `{digest}`", hint="name a tag instead")
    ref.require_free_tag(digest)


class RegistryPlace:
    """The repository of `ref`, see `copying.Place`; without a tag the short one is set that is this carrier's alone."""

    def __init__(self, repository: Repository, ref: ImageRef) -> None:
        self._repository = repository
        self._ref = ref

    def has(self, blob: Descriptor) -> bool:
        """See `Place`."""
        return self._repository.has(blob)

    def mount(self, blob: Descriptor, found: Found) -> bool:
        """See `Place`: from another repository of the same registry."""
        source = found.registry
        if source in {None, self._repository.name} or ImageRef.parse(str(source)).host != self._ref.host:
            return False
        return self._repository.mount(blob, str(source))

    def upload(self, layer: Descriptor, again: Callable[[], Iterator[bytes]]) -> Upload:
        """See `Place`."""
        return self._repository.upload(layer.size, again)

    def finish(self, documents: Documents, found: Found) -> ImageRef:
        """See `Place`."""
        images = [(documents.blob(image.config), documents.blob(image.manifest)) for image in documents.images]
        put_documents(self._repository, documents.layers, images, documents.index)
        tag = self._ref.tag or found.digest.short
        self._repository.put_document(tag, documents.index)
        return ImageRef(name=self._ref.name, tag=tag)


class StorePlace:
    """A store, which is made when it is not there, see `copying.Place`; the copy is logged there as a build is.

    `source` is where the carrier came from; None is for one that is fetched to be run, and no newer than what was built
    here: it gets a name and no line in the log. `tell` hears when another process keeps this one waiting.
    """

    def __init__(
        self, store: LayoutStore, ref: ImageRef, source: str | None, tell: Callable[[str], None] = unheard
    ) -> None:
        self._store = store
        self._ref = ref
        self._source = source
        self._tell = tell
        self._what = f"the store `{store.path}`"
        self._lock = Lock()
        self._ready = False

    def has(self, blob: Descriptor) -> bool:
        """See `Place`."""
        return self._store.has_blob(blob)

    def mount(self, blob: Descriptor, found: Found) -> bool:  # noqa: ARG002 - never
        """See `Place`: nothing to take from."""
        return False

    def upload(self, layer: Descriptor, again: Callable[[], Iterator[bytes]]) -> Upload:  # noqa: ARG002 - nothing is lost
        """See `Place`: a file beside the blobs; a full disk is found before it is begun."""
        with reporting(self._what):
            self._create()
            file = self._store.new_blob()
            try:
                file.reserve(layer.size)
            except OSError:
                file.discard()
                raise
        return _Blob(file, self._store, self._what)

    def finish(self, documents: Documents, found: Found) -> ImageRef:
        """See `Place`."""
        name, digest = self._ref.name, found.digest
        short = ImageRef(name=name, tag=digest.short)
        named = ImageRef(name=name, tag=self._ref.tag or digest.short)
        names = tuple(dict.fromkeys((named, short)))
        with reporting(self._what):
            self._create()
            for image in documents.images:
                self._store.put_blob(documents.blob(image.config))
                self._store.put_blob(documents.blob(image.manifest))
            self._store.put_blob(documents.index)
            entry = None if self._source is None else self._entry(documents, digest, names, self._source)
            self._store.record(entry, names, documents.index.descriptor, self._tell)
        return named

    def _entry(self, documents: Documents, digest: Digest, names: tuple[ImageRef, ...], source: str) -> Built:
        return Built(
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            name=documents.label("name"),
            digest=str(digest),
            content_id=documents.label("content"),
            tags=tuple(str(name) for name in names),
            source=source,
        )

    def _create(self) -> None:
        with self._lock:
            if not self._ready:
                self._store.create()
                self._ready = True


class _Blob:
    """A blob of a store on its way, see `ports.Upload`."""

    def __init__(self, file: PartialFile, store: LayoutStore, what: str) -> None:
        self._file = file
        self._store = store
        self._what = what

    def write(self, block: memoryview) -> None:
        with reporting(self._what):
            self._file.write(block)

    def commit(self, digest: Digest) -> None:
        with reporting(self._what):
            self._file.commit(self._store.blob_path(digest))

    def abort(self) -> None:
        self._file.discard()
