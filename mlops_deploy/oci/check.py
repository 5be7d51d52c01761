"""Recompute everything a carrier claims: digests, sizes, diff ids, each file's hash; return every mismatch."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, TypeVar

from mlops_deploy.oci.blobs import ArchiveBlobs, Blobs
from mlops_deploy.oci.card import Listing, read_listing
from mlops_deploy.oci.documents import (
    Document,
    DocumentError,
    ImageConfig,
    ImageManifest,
    image_config,
    image_index,
    image_manifest,
)
from mlops_deploy.oci.hashed import HashedBlob, read_document
from mlops_deploy.oci.image import index_document, manifest_document, settings
from mlops_deploy.oci.layout import engine_manifest, named, require_layout
from mlops_deploy.oci.metadata import FileSum, Metadata, describe
from mlops_deploy.oci.packing import MAX_LAYERS
from mlops_deploy.oci.tree import LayerContent, Room, Tree, merged, read_layer
from mlops_deploy.oci.types import CONFIG, INDEX, LAYER, MANIFEST, Descriptor
from mlops_deploy.spec.refs import Digest

_LONGEST_SHOWN: Final = 200
_ABSENT: Final = object()
Decoded = TypeVar("Decoded")


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One thing that is not what it claims to be."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Image:
    described: Descriptor
    manifest: ImageManifest
    config: ImageConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What one reading of a carrier showed: its list of files, where that can be read, and all that is wrong."""

    listing: Listing | None
    mismatches: tuple[Mismatch, ...]


def check(blobs: Blobs, digest: Digest) -> Checked:
    """Read every blob of a carrier once and compare; without mismatches all of it verifies."""
    checking = _Checking(blobs)
    checking.carrier(digest)
    return Checked(listing=checking.listing, mismatches=tuple(dict.fromkeys(checking.found)))


class _Checking:
    """One pass over a carrier; what was found wrong so far."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._layers: dict[Digest, LayerContent] = {}
        self._room = Room()
        self.found: list[Mismatch] = []
        self.listing: Listing | None = None

    def carrier(self, digest: Digest) -> None:
        self._surroundings(digest)
        index = self._document("index", digest, None, image_index)
        if index is None:
            return
        images = tuple(image for manifest in index.manifests if (image := self._image(manifest)))
        for image in images:
            self._content(image)
        if len(images) == len(index.manifests):
            platforms = [image.config.platform for image in images]
            if len(set(platforms)) < len(platforms):
                self._note("index", "a platform is there more than once")
            described = [(_of_type(image.described, MANIFEST), image.config.platform) for image in images]
            self._compare("index", index.document, index_document(described))
        if isinstance(self._blobs, ArchiveBlobs):
            self._engine_view(self._blobs, images)

    def _surroundings(self, digest: Digest) -> None:
        try:
            require_layout(self._blobs)
        except (DocumentError, FileNotFoundError) as error:
            self._note("oci-layout", _reason(error))
        try:
            entries = [entry for entry in named(self._blobs) if entry.target.digest == digest]
        except (DocumentError, FileNotFoundError) as error:
            self._note("index.json", _reason(error))
            return
        size = len(read_document(self._blobs, digest)[0])
        for entry in entries:
            if entry.target.media_type != INDEX:
                self._note("index.json", f"it calls the index `{entry.target.media_type}`, expected `{INDEX}`")
            if entry.target.size != size:
                self._note("index.json", f"it says {entry.target.size:,} bytes of the index, which has {size:,}")

    def _image(self, described: Descriptor) -> _Image | None:
        where = f"manifest {described.digest.short}"
        manifest = self._document(where, described.digest, described.size, image_manifest)
        if manifest is None:
            return None
        self._layer_blobs(where, manifest.layers)
        part = manifest.config
        config = self._document(f"config {part.digest.short}", part.digest, part.size, image_config)
        return None if config is None else _Image(described=described, manifest=manifest, config=config)

    def _layer_blobs(self, where: str, layers: Sequence[Descriptor]) -> None:
        if len(layers) > MAX_LAYERS:
            self._note(where, f"{len(layers)} layers, expected at most {MAX_LAYERS}")
        if len({layer.digest for layer in layers}) < len(layers):
            self._note(where, "a layer is there more than once")
        for number, layer in enumerate(layers):
            if layer.digest not in self._layers:
                self._layers[layer.digest] = self._layer(f"layer {number} {layer.digest.short}", layer)

    def _layer(self, where: str, layer: Descriptor) -> LayerContent:
        blob = HashedBlob(self._blobs, layer.digest, layer.size)
        content = read_layer(blob, self._room)
        blob.drain()
        problems = blob.problems()
        for problem in problems:
            self._note(where, problem)
        if content.damage and not problems:
            self._note(where, f"not a carrier's layer: {content.damage}")
        for name, problem in content.problems:
            self._note(name, problem)
        return content

    def _content(self, image: _Image) -> None:
        where = str(image.config.platform)
        parts = image.manifest.layers
        if image.config.diff_ids != tuple(str(layer.digest) for layer in parts):
            self._note(f"{where} config", "its diff ids are not the digests of the uncompressed layers")
        expected = manifest_document(
            _of_type(image.manifest.config, CONFIG), [_of_type(layer, LAYER) for layer in parts]
        )
        self._compare(f"{where} manifest", image.manifest.document, expected)
        layers = [self._layers[digest] for digest in dict.fromkeys(layer.digest for layer in parts)]
        tree = merged(layers)
        for name, problem in tree.problems:
            self._note(name, problem)
        metadata = self._metadata(layers[-1].manifest or b"", tree)
        if metadata:
            self._compare(f"{where} config", image.config.document, _as_built(image, metadata))

    def _metadata(self, manifest: bytes, tree: Tree) -> Metadata | None:
        """The metadata that the list of files gives, after comparing the documents and the files with it."""
        try:
            listing = read_listing(manifest)
            metadata = describe(listing.card, sorted(listing.files, key=lambda file: file.path.encode()))
        except ValueError as error:
            self._note("/carrier/manifest.json", f"cannot be read: {error}")
            return None
        self.listing = listing
        if listing.content_id != metadata.content_id:
            said = f"says content {listing.content_id}, but its files give {metadata.content_id}"
            self._note("/carrier/manifest.json", said)
        made = {"SHA256SUMS": metadata.sums, "SIZES": metadata.sizes, "manifest.json": metadata.manifest}
        for name, data in made.items():
            held = tree.files.get(f"carrier/{name}")
            if held and held.sha256 != sha256(data).hexdigest():
                self._note(f"/carrier/{name}", "is not as the list of files in `manifest.json` gives it")
        self.found.extend(_model(listing.files, tree))
        return metadata

    def _engine_view(self, archive: ArchiveBlobs, images: Sequence[_Image]) -> None:
        """An engine goes by `manifest.json`, where there is one: it must find the very same image there."""
        try:
            entries = engine_manifest(archive)
        except FileNotFoundError:
            return
        except DocumentError as error:
            self._note("manifest.json", str(error))
            return
        known = [_places(archive, (image.manifest.config, *image.manifest.layers)) for image in images]
        for entry in entries:
            layers = entry.get("Layers")
            names = [entry.get("Config"), *(layers if isinstance(layers, list) else [])]
            parts = [archive.resolved(name) if isinstance(name, str) else None for name in names]
            if parts not in known or entry.keys() - {"Config", "RepoTags", "Layers"}:
                self._note("manifest.json", "it names other parts than the image has")
        if len(entries) != 1:
            self._note("manifest.json", f"it has {len(entries)} images, expected 1")

    def _document(
        self, where: str, digest: Digest, size: int | None, decode: Callable[[bytes], Decoded]
    ) -> Decoded | None:
        data, problems = read_document(self._blobs, digest, size)
        for problem in problems:
            self._note(where, problem)
        try:
            return decode(data)
        except DocumentError as error:
            if not problems:
                self._note(where, str(error))
            return None

    def _compare(self, where: str, found: object, expected: object) -> None:
        self.found.extend(Mismatch(where, what) for what in _differences("", found, expected))

    def _note(self, where: str, what: str) -> None:
        self.found.append(Mismatch(where, what))


def _as_built(image: _Image, metadata: Metadata) -> Document:
    """The config as it should be; when and how it was made is not compared."""
    found = image.config.document
    free: Document = {key: found[key] for key in ("architecture", "os", "created", "history") if key in found}
    diff_ids = list(image.config.diff_ids)  # compared with the layers already
    return {**free, "config": settings(metadata), "rootfs": {"type": "layers", "diff_ids": diff_ids}}


def _model(listed: Sequence[FileSum], tree: Tree) -> Iterator[Mismatch]:
    names = {f"models/{file.path}" for file in listed}
    if len(names) < len(listed):
        yield Mismatch("/carrier/manifest.json", "it lists a file more than once")
    for name in tree.files:
        if name.startswith("models/") and name not in names:
            yield Mismatch(f"/{name}", "it is not in the list of files")
    for file in listed:
        held = tree.files.get(f"models/{file.path}")
        if held is None:
            yield Mismatch(f"/models/{file.path}", "missing")
        elif held.size != file.size:
            yield Mismatch(f"/models/{file.path}", f"{held.size:,} bytes, expected {file.size:,}")
        elif held.sha256 != file.sha256:
            yield Mismatch(f"/models/{file.path}", f"its sha256 is {held.sha256}, expected {file.sha256}")


def _places(archive: ArchiveBlobs, parts: Sequence[Descriptor]) -> list[object]:
    return [archive.resolved(f"blobs/sha256/{part.digest.hex}") for part in parts]


def _of_type(found: Descriptor, media_type: str) -> Descriptor:
    return Descriptor(media_type=media_type, digest=found.digest, size=found.size)


def _differences(path: str, found: object, expected: object) -> Iterator[str]:
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted(found.keys() | expected.keys()):
            inner = f"{path}.{key}" if path else str(key)
            yield from _differences(inner, found.get(key, _ABSENT), expected.get(key, _ABSENT))
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            yield from _differences(f"{path}[{number}]", one, other)
    elif _shown(found) != _shown(expected):
        yield f"`{path}` is {_shown(found)[:_LONGEST_SHOWN]}, expected {_shown(expected)[:_LONGEST_SHOWN]}"


def _shown(value: object) -> str:
    return "absent" if value is _ABSENT else json.dumps(value, sort_keys=True, ensure_ascii=False)


def _reason(error: Exception) -> str:
    return "missing" if isinstance(error, FileNotFoundError) else str(error)
