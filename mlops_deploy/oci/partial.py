"""A file that appears under its name only when it is whole; what a killed writer left is swept by the next one."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from itertools import count
from pathlib import Path
from typing import Final

from mlops_deploy.errors import DeployError

_PREFIX: Final = ".mlops-deploy-"
_SUFFIX: Final = ".tmp"
_WRITE_BACK: Final = 64 * 2**20


class PartialFile:
    """Bytes on their way to a name. While its writer lives the file is locked, so that nobody sweeps it.

    Its mode is what the umask leaves of 0666.
    """

    def __init__(self, folder: Path) -> None:
        self._path, self._file = _created(folder)
        self._written = 0

    def reserve(self, size: int) -> None:
        """Raise `OSError` when the disk has no room for `size` bytes more; nothing is kept free."""
        room = os.statvfs(self._file.fileno())
        if room.f_bfree * room.f_frsize < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write(self, data: bytes | memoryview) -> None:
        """Append all of `data`; now and then have the kernel write back, so that the flush at the end is short."""
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) or 0 :]
        before, self._written = self._written, self._written + len(data)
        if (start := before // _WRITE_BACK) < self._written // _WRITE_BACK:
            os.posix_fadvise(self._file.fileno(), start * _WRITE_BACK, _WRITE_BACK, os.POSIX_FADV_DONTNEED)

    def tell(self) -> int:
        """Where the next byte goes."""
        return self._file.tell()

    def overwrite(self, data: bytes, at: int) -> None:
        """Write over bytes that are there."""
        if os.pwrite(self._file.fileno(), data, at) != len(data):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def commit(self, path: Path) -> None:
        """Flush, and give the file its name; `sync_folder` makes the name survive a power cut."""
        os.fsync(self._file.fileno())
        self._path.replace(path)
        self._file.close()

    def discard(self) -> None:
        """Remove what was written, unless it has its name; a writer in another thread fails from here on."""
        if not self._file.closed:
            self._file.close()
            self._path.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove the partial files of writers that were killed; those of living ones stay."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and entry.name.endswith(_SUFFIX):
                _remove_orphan(entry.path)


def sync_folder(path: Path) -> None:
    """Make renames in `path` survive a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def reporting(what: str) -> Iterator[None]:
    """Turn a failing system call into the error that says that `what` cannot be written, and why."""
    try:
        yield
    except OSError as error:
        hint = "make room, or name another place" if error.errno in {errno.ENOSPC, errno.EDQUOT} else None
        raise DeployError(f"{what} cannot be written: {(error.strerror or str(error)).lower()}", hint=hint) from error


def _created(folder: Path) -> tuple[Path, FileIO]:
    for number in count():
        path = folder / f"{_PREFIX}{os.getpid()}-{number}{_SUFFIX}"
        with suppress(FileExistsError):
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            file = FileIO(handle, "r+")
            with suppress(OSError):  # a file system without locks is one where nothing is swept
                fcntl.flock(handle, fcntl.LOCK_EX)
            if os.fstat(handle).st_nlink:
                return path, file
            file.close()  # swept between its creation and its lock
    raise AssertionError


def _remove_orphan(path: str) -> None:
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            Path(path).unlink()
        finally:
            os.close(handle)
