"""The static busybox inside an image that somebody else made: found in its layers, in memory, and never unpacked."""

import io
import posixpath
import tarfile
import zlib
from typing import Final

from mlops_deploy.errors import ContentMismatchError, UnusableInputError
from mlops_deploy.oci.blobs import Blobs
from mlops_deploy.oci.foreign import Image
from mlops_deploy.oci.hashed import HashedBlob
from mlops_deploy.oci.types import Descriptor
from mlops_deploy.oci.untar import CHUNK

_PATH: Final = "bin/busybox"
_LARGEST_SENT: Final = 16 * 2**20
_LARGEST: Final = 48 * 2**20
"""Bytes of a layer, unpacked; busybox images have less than a tenth of it."""

_LARGEST_FILE: Final = 16 * 2**20
_MOST_MEMBERS: Final = 10_000
_MOST_LINKS: Final = 4
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_GZIP_BITS: Final = 31


def find_busybox(blobs: Blobs, image: Image) -> bytes:
    """The bytes of `/bin/busybox`, also behind links as busybox images have them.

    Raises `UnusableInputError` for an image without one, or of another kind or size than a busybox image has,
    `ContentMismatchError` for a layer that is not what its digest says.
    """
    for layer in reversed(image.layers):
        if (found := _in_layer(_unpacked(_sent(blobs, layer), layer))) is not None:
            return found
    raise UnusableInputError(f"the image for {image.platform} has no `/{_PATH}`", hint="name a busybox image")


def _sent(blobs: Blobs, layer: Descriptor) -> bytes:
    if layer.size > _LARGEST_SENT:
        raise _too_large(layer, layer.size)
    blob = HashedBlob(blobs, layer.digest, layer.size)
    data = bytearray()
    while piece := blob.read(CHUNK):
        data += piece
    for problem in blob.problems():
        raise ContentMismatchError(f"the layer `{layer.digest}` is damaged: {problem}")
    return bytes(data)


def _unpacked(data: bytes, layer: Descriptor) -> bytes:
    if data.startswith(_ZSTD):
        raise UnusableInputError(
            f"the layer `{layer.digest}` is compressed by zstd, which is not read here",
            hint="name an image compressed by gzip, or a static busybox with `--shell PATH`",
        )
    found = bytearray()
    while data.startswith(_GZIP):
        unpacker = zlib.decompressobj(_GZIP_BITS)
        try:
            found += unpacker.decompress(data, _LARGEST + 1 - len(found))
        except zlib.error as error:
            raise UnusableInputError(f"the layer `{layer.digest}` cannot be unpacked: {error}") from error
        if unpacker.unconsumed_tail or len(found) > _LARGEST:
            raise _too_large(layer, _LARGEST)
        data = unpacker.unused_data
    return bytes(found) if found else data


def _in_layer(data: bytes) -> bytes | None:
    """The content of the busybox in a layer, None where there is none."""
    wanted = _PATH
    for _ in range(_MOST_LINKS):
        try:
            target = _member(data, wanted)
        except (tarfile.TarError, ValueError, OSError, EOFError, RecursionError) as error:
            raise UnusableInputError(f"a layer of the image cannot be read: {error}") from error
        if not isinstance(target, str):
            return target
        wanted = target
    return None


def _member(data: bytes, wanted: str) -> bytes | str | None:
    """The content of the file of that name, where its link leads, or None."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        for count, member in enumerate(tar):
            if count > _MOST_MEMBERS:
                raise ValueError(f"it has more than {_MOST_MEMBERS:,} members")
            if _name(member.name) != wanted:
                continue
            if member.islnk():
                return _name(member.linkname)
            if member.issym():
                return _name(posixpath.join(posixpath.dirname(wanted), member.linkname))
            if member.isreg() and not member.issparse() and member.size <= _LARGEST_FILE:
                return data[member.offset_data : member.offset_data + member.size]
            raise ValueError(f"`{wanted}` is no plain file of a busybox's size")
    return None


def _name(path: str) -> str:
    return posixpath.normpath(f"/{path}").lstrip("/")


def _too_large(layer: Descriptor, size: int) -> UnusableInputError:
    return UnusableInputError(
        f"the layer `{layer.digest}` of {size:,} bytes or more is none of a busybox image", hint="name a busybox image"
    )
