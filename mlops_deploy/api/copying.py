"""A carrier goes from one store or registry to another: the same bytes, the same digest, every platform.

Each layer is read at most once, and only when the other side has it neither there nor, in the same registry, in the
repository that it comes from. It is hashed while it passes; the documents follow, the name comes last.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from threading import Lock
from typing import Final, Literal, Protocol

from mlops_deploy.api.abreast import abreast
from mlops_deploy.api.carriers import Found
from mlops_deploy.errors import ContentMismatchError, InterruptedByUserError
from mlops_deploy.oci.blobs import Blobs
from mlops_deploy.oci.types import INDEX, Blob, Descriptor
from mlops_deploy.oci.view import ImageView, view_images
from mlops_deploy.ports import Story, Upload
from mlops_deploy.spec.owner import LABEL
from mlops_deploy.spec.refs import ContentId, Digest, ImageRef

ABREAST: Final = 4
"""Layers that are on their way at the same time."""


class Place(Protocol):
    """Where a carrier is copied to. May be used by several threads at once."""

    def has(self, blob: Descriptor) -> bool:
        """Whether a blob of that digest and size is there."""
        ...

    def mount(self, blob: Descriptor, found: Found) -> bool:
        """Take the blob over without sending it, where that is possible; whether it was."""
        ...

    def upload(self, layer: Descriptor, again: Callable[[], Iterator[bytes]]) -> Upload:
        """Begin to send a layer; `again` gives its bytes from the start."""
        ...

    def finish(self, documents: "Documents", found: Found) -> ImageRef:
        """Complete the carrier and name it; the name that it got."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """The small parts of a carrier, verified: an image's config and manifest for each platform, and the index."""

    images: tuple[ImageView, ...]
    index: Blob
    parts: Mapping[Digest, bytes]

    def blob(self, descriptor: Descriptor) -> Blob:
        """The config or manifest that `descriptor` names."""
        return Blob(descriptor=descriptor, data=self.parts[descriptor.digest])

    def label(self, name: str) -> str:
        """The value of `io.mlops-deploy.<name>`."""
        return self.images[0].labels.get(f"{LABEL}{name}", "")

    @property
    def layers(self) -> tuple[Descriptor, ...]:
        """Every layer once."""
        every = {layer.digest: layer for image in self.images for layer in image.layers}
        return tuple(every.values())


How = Literal["sent", "mounted", "found"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What was copied: its name with its digest, and what became of its layers."""

    ref: ImageRef
    digest: Digest
    name: str
    content_id: ContentId
    layers: Mapping[How, int]
    bytes_sent: int
    seconds: float


def copy_carrier(found: Found, place: Place, story: Story) -> Copied:
    """Bring the carrier to `place`; a second run after a failure sends only what is missing.

    Raises `ContentMismatchError` when anything is not what its digest says; then it has no name there.
    """
    started = time.monotonic()
    documents = read_documents(found.blobs, found.digest)
    work = _Work(found, place, documents, story)
    abreast([partial(work.layer, layer) for layer in documents.layers], ABREAST, work.give_up)
    named = place.finish(documents, found)
    return Copied(
        ref=ImageRef(name=named.name, tag=named.tag, digest=found.digest),
        digest=found.digest,
        name=documents.label("name"),
        content_id=ContentId(documents.label("content")),
        layers=work.layers,
        bytes_sent=work.sent,
        seconds=time.monotonic() - started,
    )


def read_documents(blobs: Blobs, digest: Digest) -> Documents:
    """The documents of a carrier; raise `ContentMismatchError` when one is missing, damaged or not a carrier's."""
    keeping = _Keeping(blobs)
    images = view_images(keeping, digest)
    data = keeping.kept[digest]
    for image in images:
        if image.diff_ids != tuple(str(layer.digest) for layer in image.layers):
            raise ContentMismatchError(
                f"the carrier's {image.platform} config is damaged: its diff ids are not the digests of its layers",
                hint="`mlops-deploy verify` lists all that is wrong with it",
            )
    index = Blob(descriptor=Descriptor(media_type=INDEX, digest=digest, size=len(data)), data=data)
    return Documents(images=images, index=index, parts=keeping.kept)


class _Keeping:
    """Blobs, of which what was read is kept: for documents alone."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self.kept: dict[Digest, bytes] = {}

    def read(self, digest: Digest) -> Iterator[bytes]:
        self.kept[digest] = b""
        for piece in self._blobs.read(digest):
            self.kept[digest] += piece
            yield piece

    def beside(self, name: str) -> Iterator[bytes]:
        return self._blobs.beside(name)


class _Work:
    """One copy in progress."""

    def __init__(self, found: Found, place: Place, documents: Documents, story: Story) -> None:
        self._found = found
        self._place = place
        self._story = story
        self._lock = Lock()
        self._open: set[Upload] = set()
        self._over = False
        self._total = sum(layer.size for layer in documents.layers)
        self._done = 0
        self.layers: dict[How, int] = {"sent": 0, "mounted": 0, "found": 0}
        self.sent = 0

    def layer(self, layer: Descriptor) -> None:
        """Bring one layer over, in the cheapest way that works."""
        how: How
        if self._place.has(layer):
            how = "found"
        elif self._place.mount(layer, self._found):
            how = "mounted"
        else:
            how = "sent"
            self._send(layer)
        with self._lock:
            self.layers[how] += 1
            if how != "sent":
                self._tell(layer.size)

    def give_up(self) -> None:
        """End what is on its way; no name has moved."""
        with self._lock:
            self._over, uploads = True, tuple(self._open)
        for upload in uploads:
            with suppress(Exception):
                upload.abort()

    def _send(self, layer: Descriptor) -> None:
        upload = self._place.upload(layer, lambda: self._found.blobs.read(layer.digest))
        with self._lock:
            self._open.add(upload)
        try:
            self._pass(layer, upload)
            upload.commit(layer.digest)
        except BaseException:
            with suppress(Exception):
                upload.abort()
            raise
        finally:
            with self._lock:
                self._open.discard(upload)

    def _pass(self, layer: Descriptor, upload: Upload) -> None:
        digest, count = sha256(), 0
        try:
            for piece in self._found.blobs.read(layer.digest):
                count += len(piece)
                if self._over:
                    raise InterruptedByUserError("another layer has failed")
                if count > layer.size:
                    break
                digest.update(piece)
                upload.write(memoryview(piece))
                with self._lock:
                    self.sent += len(piece)
                    self._tell(len(piece))
        except FileNotFoundError:
            raise _mismatch(layer, "is missing") from None
        if count != layer.size:
            raise _mismatch(layer, f"has {'more than ' if count > layer.size else ''}{count:,} bytes")
        if digest.hexdigest() != layer.digest.hex:
            raise _mismatch(layer, f"is damaged: its sha256 is {digest.hexdigest()}")

    def _tell(self, size: int) -> None:
        self._done += size
        self._story.progress("copying", self._done, self._total)


def _mismatch(layer: Descriptor, what: str) -> ContentMismatchError:
    return ContentMismatchError(
        f"the layer `{layer.digest}` of {layer.size:,} bytes {what}",
        hint="`mlops-deploy verify` lists all that is wrong with the carrier that was to be copied",
    )
