"""Images as anybody makes them, of one platform or of many, in OCI's or Docker's media types; layers are not read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from mlops_deploy.errors import ContentMismatchError, UnusableInputError
from mlops_deploy.oci.blobs import Blobs
from mlops_deploy.oci.documents import Document, DocumentError, descriptor, field, objects, parse_object
from mlops_deploy.oci.hashed import read_document
from mlops_deploy.oci.types import Descriptor, Platform
from mlops_deploy.spec.refs import Digest

_MOST_IMAGES: Final = 256
_NOWHERE: Final = "unknown"
"""The platform of what is no image to run, such as the record of how one was built."""

Decoded = TypeVar("Decoded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What one platform's image says of itself."""

    platform: Platform
    labels: Mapping[str, str]
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An image in an index, with the platform where the index says it; `size` is unknown of one that stands alone."""

    digest: Digest
    size: int | None = None
    platform: Platform | None = None


def manifests_of(data: bytes) -> tuple[Listed, ...] | None:
    """The images that an index lists; None for a document that is no index. Raises `DocumentError`."""
    document = parse_object(data)
    if "manifests" not in document:
        return None
    found = tuple(_listed(entry) for entry in objects(document, "manifests")[: _MOST_IMAGES + 1])
    if len(found) > _MOST_IMAGES:
        raise DocumentError(f"it has more than {_MOST_IMAGES} images")
    return found


def list_images(blobs: Blobs, root: Digest) -> tuple[Listed, ...]:
    """The images of the index `root`, or `root` itself when that is the one image; what cannot be run is left out.

    Raises `ContentMismatchError` for what is not there or damaged, `UnusableInputError` for what is no image.
    """
    listed = _decoded(blobs, root, None, manifests_of)
    if listed is None:
        return (Listed(digest=root),)
    return tuple(image for image in listed if image.platform is None or image.platform.os != _NOWHERE)


def read_image(blobs: Blobs, listed: Listed) -> Image:
    """The manifest and the config of one image; raises as `list_images` does."""
    config, layers = _decoded(blobs, listed.digest, listed.size, _parts)
    platform, labels = _decoded(blobs, config.digest, config.size, _config)
    return Image(platform=platform, labels=labels, layers=layers)


def _listed(entry: Document) -> Listed:
    target = descriptor(entry)
    platform = None
    match entry.get("platform"):
        case {"os": str(system), "architecture": str(machine)}:
            platform = Platform(system, machine)
        case _:
            pass
    return Listed(digest=target.digest, size=target.size, platform=platform)


def _parts(data: bytes) -> tuple[Descriptor, tuple[Descriptor, ...]]:
    document = parse_object(data)
    layers = tuple(descriptor(entry) for entry in objects(document, "layers"))
    return descriptor(field(document, "config", dict)), layers


def _config(data: bytes) -> tuple[Platform, dict[str, str]]:
    document = parse_object(data)
    # A config without settings, or with `null` for them, is one that says nothing.
    settings = document.get("config") or {}
    labels = (settings.get("Labels") or {}) if isinstance(settings, dict) else {}
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise DocumentError("its labels are not texts")
    return Platform(field(document, "os", str), field(document, "architecture", str)), labels


def _decoded(blobs: Blobs, digest: Digest, size: int | None, decode: Callable[[bytes], Decoded]) -> Decoded:
    data, problems = read_document(blobs, digest, size)
    if problems:
        raise ContentMismatchError(f"`{digest}` is damaged: {problems[0]}")
    try:
        return decode(data)
    except DocumentError as error:
        raise UnusableInputError(f"`{digest}` is no image: {error}") from error
