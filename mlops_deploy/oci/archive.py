"""A carrier as one tar that Docker (classic and containerd store), podman, skopeo and containerd take.

A tar entry's name precedes its bytes, and a digest is known only after them. So a stream names layers by number; the
documents come last and point at them, and links named by digest follow for readers of OCI layouts. In a file the
headers are written again afterwards, so there each layer has its digest's name at once.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.oci.destination import Destination
from mlops_deploy.oci.image import Carrier, PlatformImage
from mlops_deploy.oci.partial import PartialFile, reporting, sweep, sync_folder
from mlops_deploy.oci.stream import LayerSink, LayerSource
from mlops_deploy.oci.tar import Link, Text, file_header, header, padding
from mlops_deploy.oci.types import CONTAINERD_NAME, REF_NAME, Blob, Descriptor, JsonDict, Platform
from mlops_deploy.spec.refs import Digest, ImageRef

LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'
_END: Final = bytes(1024)


class StreamedArchive(Destination):
    """Writes an archive to something that only goes forward: an engine, standard output."""

    def __init__(self, write: Callable[[bytes | memoryview], object], platform: Platform) -> None:
        self._write = write
        self._platform = platform
        self._names: dict[Digest, str] = {}
        self._size = 0
        self.sent = 0

    def sink(self) -> LayerSink:
        """Itself: one layer after the other."""
        return self

    def has(self, carrier: Carrier) -> bool:  # noqa: ARG002 - nothing can be known of a stream's other end
        """Never: a stream is always new."""
        return False

    def wants(self, layer: Descriptor) -> bool:  # noqa: ARG002 - as above
        """Always: an archive is complete in itself."""
        return True

    def begin(self, layer: LayerSource) -> None:
        """Name the layer by its number."""
        self._size = layer.size
        self._put(file_header(_numbered(len(self._names)), layer.size))

    def write(self, block: memoryview) -> None:
        """Pass the bytes on."""
        self._put(block)

    def end(self, digest: Digest) -> None:
        """Keep the digest for the links."""
        self._put(padding(self._size))
        self._names[digest] = _numbered(len(self._names))

    def finish(self, carrier: Carrier, names: Sequence[ImageRef]) -> None:
        """Write the documents and the links."""
        for digest, name in self._names.items():
            self._put(header(Link(name=_blob(digest), target=f"../../{name}")))
        _documents(carrier, names, self._platform, self._names, self._put)
        self._put(_END)

    def abort(self) -> None:
        """Nothing to undo: a reader of half an archive refuses it."""

    def _put(self, data: bytes | memoryview) -> None:
        self._write(data)
        self.sent += len(data)


class ArchiveFile(Destination):
    """Writes an archive to a file, which appears under its name only when it is whole."""

    def __init__(self, path: Path, platform: Platform) -> None:
        """Raise `UnusableInputError` for what is no plain file and cannot be replaced by one."""
        if path.exists() and not path.is_file():
            raise UnusableInputError(
                f"the archive `{path}` is not a plain file", hint="`--archive -` writes to standard output"
            )
        self._path = path.resolve()
        self._what = f"the archive `{path}`"
        self._platform = platform
        self._partial: PartialFile | None = None
        self._start = 0
        self._size = 0
        self._names: dict[Digest, str] = {}

    def sink(self) -> LayerSink:
        """Itself: one layer after the other."""
        return self

    def has(self, carrier: Carrier) -> bool:  # noqa: ARG002 - an archive is always written anew
        """Never: a file is always written anew."""
        return False

    def wants(self, layer: Descriptor) -> bool:  # noqa: ARG002 - as above
        """Always: an archive is complete in itself."""
        return True

    def begin(self, layer: LayerSource) -> None:
        """Leave room for the header, whose length does not depend on the digest in it."""
        with reporting(self._what):
            file = self._opened()
            file.reserve(layer.size)
            self._start, self._size = file.tell(), layer.size
            file.write(file_header(_blob(Digest("0" * 64)), layer.size))

    def write(self, block: memoryview) -> None:
        """Write the bytes."""
        with reporting(self._what):
            self._opened().write(block)

    def end(self, digest: Digest) -> None:
        """Write the header again, with the name."""
        with reporting(self._what):
            self._opened().write(padding(self._size))
            self._opened().overwrite(file_header(_blob(digest), self._size), self._start)
            self._names[digest] = _blob(digest)

    def finish(self, carrier: Carrier, names: Sequence[ImageRef]) -> None:
        """Write the documents, flush, and give the file its name."""
        with reporting(self._what):
            _documents(carrier, names, self._platform, self._names, self._opened().write)
            self._opened().write(_END)
            self._opened().commit(self._path)
            sync_folder(self._path.parent)

    def abort(self) -> None:
        """Remove what was written."""
        if self._partial:
            self._partial.discard()

    def _opened(self) -> PartialFile:
        if self._partial is None:
            sweep(self._path.parent)
            self._partial = PartialFile(self._path.parent)
        return self._partial


def _documents(
    carrier: Carrier,
    names: Sequence[ImageRef],
    platform: Platform,
    layers: dict[Digest, str],
    put: Callable[[bytes], object],
) -> None:
    for blob in carrier.documents:
        put(_text(_blob(blob.descriptor.digest), blob.data))
    put(_text("index.json", _index(carrier, names)))
    put(_text("manifest.json", _docker_manifest(carrier.image_for(platform), names, layers)))
    put(_text("oci-layout", LAYOUT))


def _text(name: str, data: bytes) -> bytes:
    return header(Text(name=name, data=data)) + data + padding(len(data))


def _index(carrier: Carrier, names: Sequence[ImageRef]) -> bytes:
    manifests = [
        carrier.index.descriptor.as_json(annotations={CONTAINERD_NAME: _full(name), REF_NAME: name.tag or "latest"})
        for name in names
    ]
    document: JsonDict = {"schemaVersion": 2, "manifests": manifests}
    return Blob.of_json("application/json", document).data


def _full(name: ImageRef) -> str:
    """The name as containerd keeps it: with a registry, and `library/` where Docker means it."""
    if name.host:
        return str(name)
    return f"docker.io/{name}" if "/" in name.name else f"docker.io/library/{name}"


def _docker_manifest(image: PlatformImage, names: Sequence[ImageRef], layers: dict[Digest, str]) -> bytes:
    document = [
        {
            "Config": _blob(image.config.descriptor.digest),
            "RepoTags": [str(name) for name in names],
            "Layers": [layers[layer.digest] for layer in image.layers],
        }
    ]
    return json.dumps(document, separators=(",", ":")).encode()


def _numbered(number: int) -> str:
    return f"layers/{number:03}.tar"


def _blob(digest: Digest) -> str:
    return f"blobs/sha256/{digest.hex}"
