"""The JSON documents of an image, as somebody else may have written them: bounded, decoded, every type checked."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.oci.types import DOCKER_LIST, DOCKER_MANIFEST, INDEX, MANIFEST, Descriptor, Platform
from mlops_deploy.spec.refs import Digest

LARGEST_DOCUMENT: Final = 4 * 2**20
"""Bytes of an index, manifest or config: registries take no more either."""

_DEEPEST: Final = 100
_INDEXES: Final = (INDEX, DOCKER_LIST)
_MANIFESTS: Final = (MANIFEST, DOCKER_MANIFEST)
_MOST_PLATFORMS: Final = 16
_LONE_SURROGATE: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u[dD][89a-fA-F]")

Document = dict[str, Any]
Wanted = TypeVar("Wanted")


class DocumentError(ValueError):
    """A document that is not what it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageIndex:
    """The images of a carrier; `document` is all that the index says."""

    document: Document
    manifests: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageManifest:
    """The parts of one image."""

    document: Document
    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """What a runtime is told."""

    platform: Platform
    document: Document
    diff_ids: tuple[str, ...]
    environment: tuple[str, ...]
    labels: Mapping[str, str]


def parse_object(data: bytes) -> Document:
    """A JSON object; raise `DocumentError` for anything else, also for what only some readers take."""
    found = parse(data)
    if not isinstance(found, dict):
        raise DocumentError("it is not a JSON object")
    return found


def parse(data: bytes) -> object:
    """JSON of bounded depth; raise `DocumentError` for anything else."""
    if _LONE_SURROGATE.search(data):
        raise DocumentError("it has half of a character")
    try:
        found = json.loads(data.decode(), parse_constant=_refuse_constant, object_pairs_hook=_object)
    except RecursionError:
        raise DocumentError("it is nested too deeply") from None
    except DocumentError:
        raise
    except json.JSONDecodeError as error:
        raise DocumentError(f"it is not JSON: {error.msg.lower()} at character {error.pos}") from None
    except ValueError:
        raise DocumentError("it is not UTF-8, or has a number of thousands of digits") from None
    _require_flat(found)
    return found


def image_index(data: bytes) -> ImageIndex:
    """Decode an index; raise `DocumentError`."""
    document = parse_object(data)
    _require_one_kind(document, ("config", "layers"), _MANIFESTS)
    manifests = objects(document, "manifests")
    if not 0 < len(manifests) <= _MOST_PLATFORMS:
        raise DocumentError(f"it has {len(manifests)} images, expected 1 to {_MOST_PLATFORMS}")
    return ImageIndex(document=document, manifests=tuple(descriptor(entry) for entry in manifests))


def image_manifest(data: bytes) -> ImageManifest:
    """Decode a manifest; raise `DocumentError`."""
    document = parse_object(data)
    _require_one_kind(document, ("manifests",), _INDEXES)
    layers = tuple(descriptor(entry) for entry in objects(document, "layers"))
    if not layers:
        raise DocumentError("it has no layers")
    return ImageManifest(document=document, config=descriptor(field(document, "config", dict)), layers=layers)


def image_config(data: bytes) -> ImageConfig:
    """Decode a config; raise `DocumentError`."""
    document = parse_object(data)
    settings = field(document, "config", dict)
    labels = field(settings, "Labels", dict)
    if not all(isinstance(value, str) for value in labels.values()):
        raise DocumentError("a label is not text")
    return ImageConfig(
        platform=Platform(field(document, "os", str), field(document, "architecture", str)),
        document=document,
        diff_ids=tuple(texts(field(document, "rootfs", dict), "diff_ids")),
        environment=tuple(texts(settings, "Env")),
        labels=labels,
    )


def descriptor(entry: Document) -> Descriptor:
    """Decode a descriptor; raise `DocumentError`."""
    size = field(entry, "size", int)
    if isinstance(size, bool) or size < 0:
        raise DocumentError(f"`size` is {size}")
    try:
        digest = Digest.parse(field(entry, "digest", str))
    except UnusableInputError as error:
        raise DocumentError(str(error)) from None
    return Descriptor(media_type=field(entry, "mediaType", str), digest=digest, size=size)


def field(document: Document, key: str, kind: type[Wanted]) -> Wanted:
    """The value of `key`, which is of that kind; raise `DocumentError`."""
    if key not in document:
        raise DocumentError(f"`{key}` is missing")
    value = document[key]
    if not isinstance(value, kind):
        raise DocumentError(f"`{key}` is {type(value).__name__}, expected {kind.__name__}")
    return value


def texts(document: Document, key: str) -> list[str]:
    """The value of `key`, a list of texts; raise `DocumentError`."""
    return _all(document, key, str)


def objects(document: Document, key: str) -> list[Document]:
    """The value of `key`, a list of objects; raise `DocumentError`."""
    return _all(document, key, dict)


def _require_one_kind(document: Document, others: tuple[str, ...], other_types: tuple[str, ...]) -> None:
    # CVE-2021-41190: one digest, and two clients that see two images under it.
    if any(key in document for key in others):
        raise DocumentError("it is an index and a manifest at once")
    if (told := document.get("mediaType")) in other_types:
        raise DocumentError(f"`mediaType` is {told}, which is another kind of document")


def _all(document: Document, key: str, kind: type[Wanted]) -> list[Wanted]:
    found = field(document, key, list)
    if not all(isinstance(entry, kind) for entry in found):
        raise DocumentError(f"an entry of `{key}` is not {kind.__name__}")
    return found


def _object(pairs: list[tuple[str, object]]) -> Document:
    # Some readers take the first of two, some the last, some merge them.
    found = dict(pairs)
    if len(found) < len(pairs):
        raise DocumentError("it has a key twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise DocumentError(f"{name} is no JSON number")


def _require_flat(found: object) -> None:
    level: list[Any] = [[found]]
    for _ in range(_DEEPEST):
        holders = (value.values() if isinstance(value, dict) else value for value in level)
        level = [inner for held in holders for inner in held if isinstance(inner, (dict, list))]
        if not level:
            return
    raise DocumentError("it is nested too deeply")
