"""What surrounds the blobs of an image layout: `oci-layout`, and the names in `index.json`."""

from dataclasses import dataclass
from typing import Final

from mlops_deploy.oci.blobs import Blobs
from mlops_deploy.oci.documents import Document, DocumentError, descriptor, objects, parse, parse_object
from mlops_deploy.oci.types import CONTAINERD_NAME, REF_NAME, Descriptor

# A store's index has an entry for every name that a build ever had.
_LARGEST: Final = 64 * 2**20
_DEFAULT_REGISTRY: Final = ("docker.io/library/", "docker.io/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """An entry of `index.json`: the image that it points at, and its name, if it has one."""

    name: str | None
    target: Descriptor


def named(blobs: Blobs) -> tuple[Named, ...]:
    """The entries of `index.json`; raise `DocumentError`, or `FileNotFoundError` where there is none."""
    entries = objects(parse_object(_read(blobs, "index.json")), "manifests")
    return tuple(Named(name=_name(entry), target=descriptor(entry)) for entry in entries)


def require_layout(blobs: Blobs) -> None:
    """Raise `DocumentError`, or `FileNotFoundError`, when `oci-layout` does not say version 1.0.0."""
    version = parse_object(_read(blobs, "oci-layout")).get("imageLayoutVersion")
    if version != "1.0.0":
        raise DocumentError("it does not say version 1.0.0")


def engine_manifest(blobs: Blobs) -> tuple[Document, ...]:
    """The images that an engine finds in an archive's `manifest.json`; raise as `named` does."""
    return tuple(objects({"images": parse(_read(blobs, "manifest.json"))}, "images"))


def _read(blobs: Blobs, name: str) -> bytes:
    data = bytearray()
    for piece in blobs.beside(name):
        data += piece
        if len(data) > _LARGEST:
            raise DocumentError(f"it has more than {_LARGEST:,} bytes")
    return bytes(data)


def _name(entry: Document) -> str | None:
    annotations = entry.get("annotations")
    if not isinstance(annotations, dict):
        return None
    full, short = annotations.get(CONTAINERD_NAME), annotations.get(REF_NAME)
    if isinstance(full, str):
        return next((full.removeprefix(host) for host in _DEFAULT_REGISTRY if full.startswith(host)), full)
    return short if isinstance(short, str) else None
