"""The bytes of one model file, from its disk or from where else it is, and the check that it is what was looked at."""

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from ctypes import CDLL, c_int64
from typing import Final, Protocol

from mlops_deploy.errors import DeployError, UnusableInputError
from mlops_deploy.oci.inventory import Fetch, SourceFile, Stamp, changed

_PIECE: Final = 256 * 2**10
_LIBC: Final = CDLL(None)
_WRITE_AND_WAIT: Final = 7


class Reader(Protocol):
    """A file that is being read."""

    def read_into(self, room: memoryview) -> int:
        """Fill the beginning of `room` with the next bytes; how many they are, at least one."""
        ...


@contextmanager
def opened(file: SourceFile) -> Generator[Reader]:
    """Read `file` from its start; raises `UnusableInputError` when it is not, or no longer, what the inventory saw."""
    if file.fetch is not None:
        yield _Elsewhere(file, file.fetch)
        return
    descriptor = _open(file)
    try:
        yield _OnDisk(file, descriptor)
        if Stamp.of(os.fstat(descriptor)) != file.stamp:
            raise changed(file)
    finally:
        os.close(descriptor)


def pieces(file: SourceFile) -> Iterator[bytes]:
    """All bytes of `file`; raises as `opened` does."""
    with opened(file) as reader:
        left = file.size
        while left:
            piece = bytearray(min(left, _PIECE))
            count = reader.read_into(memoryview(piece))
            left -= count
            yield bytes(memoryview(piece)[:count])


class _OnDisk:
    def __init__(self, file: SourceFile, descriptor: int) -> None:
        self._file = file
        self._descriptor = descriptor

    def read_into(self, room: memoryview) -> int:
        try:
            count = os.readv(self._descriptor, [room])
        except OSError as error:
            at = os.lseek(self._descriptor, 0, os.SEEK_CUR)
            raise DeployError(
                f"the model file `{self._file.path}` cannot be read at byte {at:,}: {error.strerror}"
            ) from error
        if not count:
            raise changed(self._file)
        return count


class _Elsewhere:
    def __init__(self, file: SourceFile, fetch: Fetch) -> None:
        self._file = file
        self._coming = fetch(0)
        self._rest = memoryview(b"")

    def read_into(self, room: memoryview) -> int:
        if not self._rest:
            self._rest = memoryview(next(self._coming, b""))
        if not self._rest:
            raise changed(self._file)
        count = min(len(room), len(self._rest))
        room[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def _open(file: SourceFile) -> int:
    try:
        descriptor = os.open(file.source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UnusableInputError(f"the model file `{file.path}` cannot be read: {error.strerror}") from error
    _settle_mapped_writes(descriptor)
    if Stamp.of(os.fstat(descriptor)) != file.stamp:
        os.close(descriptor)
        raise changed(file)
    return descriptor


def _settle_mapped_writes(descriptor: int) -> None:
    """Write back what a mapping has dirtied, so that its next write moves the file's times: only the first one does.

    For a clean file that costs a twentieth of `fdatasync`, which also waits for the disk's own cache.
    """
    _LIBC.sync_file_range(descriptor, c_int64(0), c_int64(0), _WRITE_AND_WAIT)
