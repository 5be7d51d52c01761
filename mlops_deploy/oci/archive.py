"""A carrier as one tar that Docker (classic and containerd store), podman, skopeo and containerd take.

A tar entry's name precedes its bytes, and a digest is known only after them. So a stream names layers by number; the
documents come last and point at them, and links named by digest follow for readers of OCI layouts. In a file the
headers are written again afterwards, so there each layer has its digest's name at once.
"""

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from mlops_deploy.errors import DeployError
from mlops_deploy.oci.image import Carrier, PlatformImage
from mlops_deploy.oci.tar import Link, Text, file_header, header, padding
from mlops_deploy.oci.types import CONTAINERD_NAME, REF_NAME, Blob, Descriptor, JsonDict, Platform
from mlops_deploy.spec.refs import Digest, ImageRef

LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'
_END: Final = bytes(1024)


class StreamedArchive:
    """Writes an archive to something that only goes forward: an engine, standard output."""

    def __init__(self, write: Callable[[bytes | memoryview], object], platform: Platform) -> None:
        self._write = write
        self._platform = platform
        self._names: dict[Digest, str] = {}
        self._size = 0
        self.sent = 0

    def has(self, carrier: Carrier) -> bool:  # noqa: ARG002 - nothing can be known of a stream's other end
        """Never: a stream is always new."""
        return False

    def wants(self, layer: Descriptor) -> bool:  # noqa: ARG002 - as above
        """Always: an archive is complete in itself."""
        return True

    def begin(self, size: int) -> None:
        """Name the layer by its number."""
        self._size = size
        self._put(file_header(_numbered(len(self._names)), size))

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


class ArchiveFile:
    """Writes an archive to a file, which appears under its name only when it is whole."""

    def __init__(self, path: Path, platform: Platform) -> None:
        self._path = path
        self._platform = platform
        try:
            handle, self._temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        except OSError as error:
            raise DeployError(f"the archive `{path}` cannot be written: {error.strerror}") from error
        self._file = os.fdopen(handle, "w+b", buffering=0)
        self._start = 0
        self._size = 0
        self._names: dict[Digest, str] = {}

    def has(self, carrier: Carrier) -> bool:  # noqa: ARG002 - an archive is always written anew
        """Never: a file is always written anew."""
        return False

    def wants(self, layer: Descriptor) -> bool:  # noqa: ARG002 - as above
        """Always: an archive is complete in itself."""
        return True

    def begin(self, size: int) -> None:
        """Leave room for the header, whose length does not depend on the digest in it."""
        self._start, self._size = self._file.tell(), size
        self._file.write(file_header(_blob(Digest("0" * 64)), size))

    def write(self, block: memoryview) -> None:
        """Write the bytes."""
        _write_all(self._file.fileno(), block)

    def end(self, digest: Digest) -> None:
        """Write the header again, with the name; a layer that is there already is taken back."""
        if digest in self._names:
            self._file.seek(self._start)
            self._file.truncate()
            return
        self._file.write(padding(self._size))
        os.pwrite(self._file.fileno(), file_header(_blob(digest), self._size), self._start)
        self._names[digest] = _blob(digest)

    def finish(self, carrier: Carrier, names: Sequence[ImageRef]) -> None:
        """Write the documents, flush, and give the file its name."""
        _documents(carrier, names, self._platform, self._names, self._file.write)
        self._file.write(_END)
        os.fsync(self._file.fileno())
        os.fchmod(self._file.fileno(), 0o644)
        Path(self._temporary).replace(self._path)
        self._file.close()

    def abort(self) -> None:
        """Remove what was written."""
        self._file.close()
        Path(self._temporary).unlink(missing_ok=True)


def _write_all(descriptor: int, block: memoryview) -> None:
    while block:
        block = block[os.write(descriptor, block) :]


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
    host, slash, _ = name.name.partition("/")
    if slash and ("." in host or ":" in host or host == "localhost"):
        return str(name)
    return f"docker.io/{name}" if slash else f"docker.io/library/{name}"


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
