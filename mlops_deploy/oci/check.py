"""Recompute everything a carrier claims: digests, sizes, diff ids, each file's hash; return every mismatch."""

import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import IO, cast

from mlops_deploy.oci.blobs import CHUNK, Blobs
from mlops_deploy.oci.metadata import LABEL
from mlops_deploy.oci.types import Descriptor
from mlops_deploy.oci.view import ImageView, listed_files
from mlops_deploy.spec.refs import Digest


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One thing that is not what it claims to be."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(slots=True)
class _Tally:
    """What the layers really hold: names, size and hash of every plain file, and the bytes of those in `/carrier/`."""

    names: Counter[str] = field(default_factory=Counter)
    files: dict[str, tuple[int, str]] = field(default_factory=dict)
    strange: list[str] = field(default_factory=list)
    documents: dict[str, bytes] = field(default_factory=dict)


def check(blobs: Blobs, digest: Digest, images: Sequence[ImageView]) -> tuple[Mismatch, ...]:
    """Read every blob of a carrier once and compare; an empty tuple means that all of it verifies."""
    return tuple(_all(blobs, digest, images))


def _all(blobs: Blobs, digest: Digest, images: Sequence[ImageView]) -> Iterator[Mismatch]:
    yield from _blob(blobs, "index", digest, None)
    tally = _Tally()
    seen: set[Digest] = set()
    for image in images:
        yield from _documents(blobs, image)
        for number, layer in enumerate(image.layers):
            if layer.digest not in seen:
                seen.add(layer.digest)
                yield from _layer(blobs, f"{image.platform} layer {number}", layer, tally)
    yield from _tree(tally, len(images))
    yield from _model(tally)
    yield from _identity(tally, images)


def _documents(blobs: Blobs, image: ImageView) -> Iterator[Mismatch]:
    yield from _blob(blobs, f"{image.platform} manifest", image.manifest.digest, image.manifest.size)
    yield from _blob(blobs, f"{image.platform} config", image.config.digest, image.config.size)
    if image.diff_ids != tuple(str(layer.digest) for layer in image.layers):
        yield Mismatch(f"{image.platform} config", "its diff ids are not the digests of the uncompressed layers")


def _blob(blobs: Blobs, where: str, digest: Digest, size: int | None) -> Iterator[Mismatch]:
    hashing = _Hashing(blobs, digest)
    while hashing.read(CHUNK):
        pass
    yield from hashing.mismatches(where, size)


class _Hashing:
    """A blob as a file that is hashed and counted while it is read."""

    def __init__(self, blobs: Blobs, digest: Digest) -> None:
        self._pieces = blobs.read(digest)
        self._claimed = digest
        self._hash = sha256()
        self._rest = memoryview(b"")
        self._count = 0
        self._missing = False

    def read(self, size: int) -> bytes:
        """At most `size` bytes; empty at the end."""
        if not self._rest:
            self._rest = memoryview(self._next())
        piece, self._rest = self._rest[:size], self._rest[size:]
        return bytes(piece)

    def drain(self) -> None:
        """Read what is left."""
        while self.read(CHUNK):
            pass

    def mismatches(self, where: str, size: int | None) -> Iterator[Mismatch]:
        """What is wrong with the blob, after all of it was read."""
        if self._missing:
            yield Mismatch(where, f"the blob {self._claimed} is missing")
            return
        if size is not None and self._count != size:
            yield Mismatch(where, f"{self._count:,} bytes, expected {size:,}")
        if self._hash.hexdigest() != self._claimed.hex:
            yield Mismatch(where, f"its digest is sha256:{self._hash.hexdigest()}, expected {self._claimed}")

    def _next(self) -> bytes:
        try:
            piece = next(self._pieces, b"")
        except FileNotFoundError:
            self._missing = True
            return b""
        self._hash.update(piece)
        self._count += len(piece)
        return piece


def _layer(blobs: Blobs, where: str, layer: Descriptor, tally: _Tally) -> Iterator[Mismatch]:
    hashing = _Hashing(blobs, layer.digest)
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", hashing), mode="r|", bufsize=CHUNK) as tar:
            for member in tar:
                _take(tar, member, tally)
    except (tarfile.TarError, ValueError, EOFError) as error:
        yield Mismatch(where, f"not a readable tar: {error}")
    hashing.drain()
    yield from hashing.mismatches(where, layer.size)


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, tally: _Tally) -> None:
    if member.isdir():
        return
    tally.names[member.name] += 1
    if member.issym() and member.name.startswith("bin/") and member.linkname == "busybox":
        return
    content = tar.extractfile(member) if member.isreg() else None
    if content is None:
        tally.strange.append(member.name)
        return
    digest = sha256()
    kept = bytearray()
    size = 0
    while piece := content.read(CHUNK):
        digest.update(piece)
        size += len(piece)
        if member.name.startswith("carrier/"):
            kept += piece
    tally.files[member.name] = (size, digest.hexdigest())
    if member.name.startswith("carrier/"):
        tally.documents[member.name.removeprefix("carrier/")] = bytes(kept)


def _tree(tally: _Tally, platforms: int) -> Iterator[Mismatch]:
    for name in tally.strange:
        yield Mismatch(f"/{name}", "neither a plain file nor an applet's link")
    for name, count in tally.names.items():
        if count > (platforms if name.startswith("bin/") else 1):
            yield Mismatch(f"/{name}", f"there {count} times")


def _model(tally: _Tally) -> Iterator[Mismatch]:
    listed = {f"models/{path}": digest for digest, path in _lines(tally, "SHA256SUMS", "  ./")}
    sizes = {f"models/{path}": size for size, path in _lines(tally, "SIZES", " ./")}
    found = {name: known for name, known in tally.files.items() if name.startswith("models/")}
    for name in sorted(listed.keys() | found.keys()):
        if name not in found:
            yield Mismatch(f"/{name}", "missing")
        elif name not in listed:
            yield Mismatch(f"/{name}", "not in SHA256SUMS")
        elif found[name][1] != listed[name]:
            yield Mismatch(f"/{name}", f"its sha256 is {found[name][1]}, expected {listed[name]}")
    for name, (size, _) in sorted(found.items()):
        if name in listed and sizes.get(name) != str(size):
            yield Mismatch("/carrier/SIZES", f"says {sizes.get(name, 'nothing')} of /{name}, which has {size:,} bytes")


def _lines(tally: _Tally, document: str, separator: str) -> Iterator[tuple[str, str]]:
    for line in tally.documents.get(document, b"").decode(errors="replace").splitlines():
        value, _, path = line.partition(separator)
        yield value, path


def _identity(tally: _Tally, images: Sequence[ImageView]) -> Iterator[Mismatch]:
    content_id = sha256(tally.documents.get("SHA256SUMS", b"")).hexdigest()
    claims: dict[str, object] = {}
    for image in images:
        environment = dict(part.partition("=")[::2] for part in image.environment)
        claims[f"{image.platform} environment"] = environment.get("MODEL_ID")
        claims[f"{image.platform} label"] = image.labels.get(f"{LABEL}content")
    try:
        manifest = json.loads(tally.documents["manifest.json"])
        files = {f"models/{file.path}": (file.size, file.sha256) for file in listed_files(tally.documents)}
        claims["/carrier/manifest.json"] = manifest["content_id"]
        name = manifest["name"]
    except (ValueError, KeyError, TypeError) as error:
        yield Mismatch("/carrier/manifest.json", f"cannot be read: {error}")
        return
    for where, claim in claims.items():
        if claim != content_id:
            yield Mismatch(where, f"says content {claim}, but SHA256SUMS gives {content_id}")
    if files != {path: known for path, known in tally.files.items() if path.startswith("models/")}:
        yield Mismatch("/carrier/manifest.json", "its list of files is not what the layers hold")
    for image in images:
        if name != image.labels.get(f"{LABEL}name"):
            yield Mismatch(f"{image.platform} label", f"of `{image.labels.get(f'{LABEL}name')}`, expected `{name}`")
