"""A carrier as it is found: its documents, decoded, and the list of files; only small blobs are read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from mlops_deploy.errors import ContentMismatchError
from mlops_deploy.oci.blobs import Blobs
from mlops_deploy.oci.card import Listing, read_listing
from mlops_deploy.oci.documents import DocumentError, image_config, image_index, image_manifest
from mlops_deploy.oci.hashed import HashedBlob, read_document
from mlops_deploy.oci.tree import Room, read_layer
from mlops_deploy.oci.types import Descriptor, Platform
from mlops_deploy.spec.owner import LABEL
from mlops_deploy.spec.refs import Digest

LARGEST_METADATA: Final = 2**30
"""Bytes of a metadata layer; that of a million files with long paths has half of it."""

Decoded = TypeVar("Decoded")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageView:
    """One platform's image: descriptors of manifest, config and layers, and what the config says."""

    platform: Platform
    manifest: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[str, ...]
    environment: tuple[str, ...]
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CarrierView:
    """What a carrier says of itself."""

    digest: Digest
    images: tuple[ImageView, ...]
    listing: Listing

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels, the same for every platform."""
        return self.images[0].labels

    def label(self, name: str) -> str | None:
        """The value of `io.mlops-deploy.<name>`."""
        return self.labels.get(f"{LABEL}{name}")


def view(blobs: Blobs, digest: Digest) -> CarrierView:
    """Read a carrier's documents; raise `ContentMismatchError` when one is missing, damaged or not a carrier's."""
    images = view_images(blobs, digest)
    layer = images[0].layers[-1]
    if layer.size > LARGEST_METADATA:
        raise damaged("metadata layer", f"it has {layer.size:,} bytes, expected at most {LARGEST_METADATA:,}")
    blob = HashedBlob(blobs, layer.digest, layer.size)
    content = read_layer(blob, Room())
    blob.drain()
    for problem in (*blob.problems(), *([content.damage] if content.damage else [])):
        raise damaged("metadata layer", problem)
    try:
        listing = read_listing(content.manifest or b"")
    except DocumentError as error:
        raise damaged("/carrier/manifest.json", str(error)) from error
    return CarrierView(digest=digest, images=images, listing=listing)


def view_images(blobs: Blobs, digest: Digest) -> tuple[ImageView, ...]:
    """Read index, manifests and configs; raise `ContentMismatchError` as `view` does."""
    index = _decoded(blobs, "index", digest, None, image_index)
    return tuple(_image(blobs, manifest) for manifest in index.manifests)


def _image(blobs: Blobs, described: Descriptor) -> ImageView:
    manifest = _decoded(blobs, "manifest", described.digest, described.size, image_manifest)
    config = _decoded(blobs, "config", manifest.config.digest, manifest.config.size, image_config)
    return ImageView(
        platform=config.platform,
        manifest=described,
        config=manifest.config,
        layers=manifest.layers,
        diff_ids=config.diff_ids,
        environment=config.environment,
        labels=config.labels,
    )


def _decoded(blobs: Blobs, what: str, digest: Digest, size: int | None, decode: Callable[[bytes], Decoded]) -> Decoded:
    data, problems = read_document(blobs, digest, size)
    for problem in problems:
        raise damaged(what, problem)
    try:
        return decode(data)
    except DocumentError as error:
        raise damaged(f"{what} `{digest}`", str(error)) from error


def damaged(what: str, why: str) -> ContentMismatchError:
    """The error for a part of a carrier that is not what it should be."""
    return ContentMismatchError(
        f"the carrier's {what} is damaged: {why}", hint="`mlops-deploy verify` lists all that is wrong with it"
    )
