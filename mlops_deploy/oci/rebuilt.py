"""A carrier that was built before, complete again, so that it can go to a further place."""

from collections.abc import Iterator

from mlops_deploy.oci.blobs import Blobs
from mlops_deploy.oci.hashed import HashedBlob, read_document
from mlops_deploy.oci.image import Carrier, PlatformImage
from mlops_deploy.oci.metadata import describe
from mlops_deploy.oci.types import INDEX, Blob, Descriptor
from mlops_deploy.oci.untar import CHUNK
from mlops_deploy.oci.view import ImageView, damaged, view
from mlops_deploy.spec.refs import Digest


def read_carrier(blobs: Blobs, digest: Digest) -> Carrier:
    """The carrier with the index `digest`, from its small blobs alone; raise `ContentMismatchError` as `view` does."""
    found = view(blobs, digest)
    index = _document(blobs, Descriptor(media_type=INDEX, digest=digest, size=0))
    images = tuple(_image(blobs, image) for image in found.images)
    return Carrier(metadata=describe(found.listing.card, found.listing.files), images=images, index=index)


def layer_blocks(blobs: Blobs, layer: Descriptor) -> Iterator[bytes]:
    """The bytes of a layer; raises `ContentMismatchError` after the last when they are not what its digest says."""
    blob = HashedBlob(blobs, layer.digest, layer.size)
    while piece := blob.read(CHUNK):
        yield piece
    for problem in blob.problems():
        raise damaged(f"layer `{layer.digest}`", problem)


def _image(blobs: Blobs, image: ImageView) -> PlatformImage:
    return PlatformImage(
        platform=image.platform,
        config=_document(blobs, image.config),
        manifest=_document(blobs, image.manifest),
        layers=image.layers,
    )


def _document(blobs: Blobs, described: Descriptor) -> Blob:
    data, problems = read_document(blobs, described.digest)
    for problem in problems:
        raise damaged(f"document `{described.digest}`", problem)
    return Blob(
        descriptor=Descriptor(media_type=described.media_type, digest=described.digest, size=len(data)), data=data
    )
