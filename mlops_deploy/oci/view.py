"""A carrier as it is found: its documents, decoded, and the list of files; only small blobs are read."""

import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

from mlops_deploy.errors import ContentMismatchError, UnusableInputError
from mlops_deploy.oci.blobs import Blobs
from mlops_deploy.oci.metadata import LABEL, FileSum
from mlops_deploy.oci.types import Descriptor, Platform
from mlops_deploy.spec.refs import Digest

_LARGEST_DOCUMENT: Final = 64 * 2**20

Document = Mapping[str, Any]  # JSON as somebody else may have written it: checked where it is used


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
    """What a carrier says of itself; `documents` are the files below `/carrier/`."""

    digest: Digest
    images: tuple[ImageView, ...]
    documents: Mapping[str, bytes]
    files: tuple[FileSum, ...]

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
    with _damage_told(digest):
        documents = _carrier_files(b"".join(blobs.read(images[0].layers[-1].digest)))
        return CarrierView(digest=digest, images=images, documents=documents, files=listed_files(documents))


def view_images(blobs: Blobs, digest: Digest) -> tuple[ImageView, ...]:
    """Read index, manifests and configs; raise `ContentMismatchError` as `view` does."""
    with _damage_told(digest):
        images = tuple(_image(blobs, entry) for entry in _document(blobs, digest)["manifests"])
        if not images or not all(image.layers for image in images):
            raise ValueError("it has no layers")
    return images


@contextmanager
def _damage_told(digest: Digest) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ContentMismatchError(f"the blob `{str(error.filename or error)[-64:]}` is missing") from error
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, tarfile.TarError, UnusableInputError) as error:
        raise ContentMismatchError(f"`{digest}` is not a carrier, or its documents are damaged: {error}") from error


def listed_files(documents: Mapping[str, bytes]) -> tuple[FileSum, ...]:
    """The model's files as `manifest.json` lists them."""
    listed = json.loads(documents["manifest.json"])["files"]
    return tuple(FileSum(path=file["path"], size=file["size"], sha256=file["sha256"]) for file in listed)


def _document(blobs: Blobs, digest: Digest) -> Document:
    data = bytearray()
    for piece in blobs.read(digest):
        data += piece
        if len(data) > _LARGEST_DOCUMENT:
            raise ValueError(f"the document `{digest}` is larger than {_LARGEST_DOCUMENT:,} bytes")
    found = json.loads(data)
    if not isinstance(found, dict):
        raise TypeError(f"the document `{digest}` is not a JSON object")
    return found


def _image(blobs: Blobs, entry: Document) -> ImageView:
    manifest = _document(blobs, Digest.parse(entry["digest"]))
    config = _document(blobs, Digest.parse(manifest["config"]["digest"]))
    said = config["config"]
    return ImageView(
        platform=Platform(config["os"], config["architecture"]),
        manifest=_descriptor(entry),
        config=_descriptor(manifest["config"]),
        layers=tuple(_descriptor(layer) for layer in manifest["layers"]),
        diff_ids=tuple(config["rootfs"]["diff_ids"]),
        environment=tuple(said["Env"]),
        labels=dict(said["Labels"]),
    )


def _descriptor(entry: Document) -> Descriptor:
    return Descriptor(media_type=entry["mediaType"], digest=Digest.parse(entry["digest"]), size=int(entry["size"]))


def _carrier_files(layer: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=BytesIO(layer), mode="r:") as tar:
        found = {member.name: tar.extractfile(member) for member in tar if member.isreg()}
        return {name.removeprefix("carrier/"): file.read() for name, file in found.items() if file}
