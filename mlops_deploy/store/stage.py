"""A model on its way to a volume: files that grow in a private folder, are hashed meanwhile, and flushed."""

import ctypes
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from mlops_deploy.oci.metadata import FileSum
from mlops_deploy.store.volume import VolumeError, failing_on, walked

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

_PIECE: Final = 2**20
_WRITE_BACK: Final = 16 * 2**20
_SYNC_FILE_RANGE_WRITE: Final = 2
_AT_ONCE: Final = 8
_MOST_HELD: Final = 512
"""Pieces that are written at once; the kernel takes no more than 1,024."""

_WORTH_A_THREAD: Final = 2**18
"""Bytes from which hashing is done beside the writing, which takes another processor if there is one."""

_LARGE: Final = 32 * 2**20
"""Bytes from which a file is flushed as soon as it is whole, while others still come."""


class Stage:
    """The folder `path`, in which files of an earlier try may be; those that cannot be a part of the model are removed.

    Its methods raise `VolumeError` when the volume fails.
    """

    def __init__(self, path: Path, files: Sequence[FileSum]) -> None:
        self.path = path
        self._folders = _folders(files)
        self._unflushed: list[str] = []
        with failing_on(path):
            self.kept: Mapping[str, int] = dict(_swept(path, files, self._folders))
            for folder in self._folders:
                (path / folder).mkdir(exist_ok=True)

    def open(self, path: str, size: int) -> "StageFile":
        """A file of the model, of which the first bytes may be there."""
        return StageFile(self.path / path, size)

    def is_right(self, path: str, size: int, digest: str) -> bool:
        """Whether an earlier try has left the whole file; one that is not right is removed."""
        if self.kept.get(path) != size:
            return False
        with self.open(path, size) as file:
            if right := file.digest == digest:
                self.finish(path, file)
        if not right:
            (self.path / path).unlink(missing_ok=True)
        return right

    def finish(self, path: str, file: "StageFile") -> None:
        """Let nobody write to the file any more, and flush it, now or at the end."""
        file.seal(flush=file.size >= _LARGE)
        if file.size < _LARGE:
            self._unflushed.append(path)

    def flush(self) -> None:
        """Make all of it survive a power cut: files, then folders."""
        with failing_on(self.path):
            with ThreadPoolExecutor(
                _AT_ONCE
            ) as threads:  # a disk makes one flush of several that are asked for at once
                for _ in threads.map(_flush, (self.path / path for path in self._unflushed)):
                    pass
            for folder in reversed(self._folders):
                (self.path / folder).chmod(0o755)
                _flush(self.path / folder)


class StageFile:
    """A file that is written from its start to its end, or from where an earlier try has left it."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self.size = size
        self._hash = sha256()
        self._hashing: Future[None] | None = None
        self._held: list[bytes] = []
        self._size_held = 0
        self._at = self._asked = 0
        with failing_on(path):
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                self.kept = self._take()
            except BaseException:
                os.close(self._handle)
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(VolumeError):  # what has come may be of use later
            self._pass_on()
        self._hashed()
        os.close(self._handle)

    @property
    def digest(self) -> str:
        """The sha256, in hex, of all that was written."""
        self._pass_on()
        self._hashed()
        return self._hash.hexdigest()

    def _pass_on(self) -> None:
        """Write what is held, and hash it meanwhile, and while the next comes."""
        pieces, size = self._held, self._size_held
        self._held, self._size_held = [], 0
        self._hashed()
        if size >= _WORTH_A_THREAD:
            self._hashing = _hashers().submit(_update, self._hash, pieces)
        else:
            _update(self._hash, pieces)
        with failing_on(self._path):
            _write_all(self._handle, pieces, size)
        self._at += size
        if self._at - self._asked >= _WRITE_BACK:
            _begin_write_back(self._handle, self._asked, self._at - self._asked)
            self._asked = self._at

    def _hashed(self) -> None:
        if self._hashing is not None:
            self._hashing.result()
            self._hashing = None

    def write(self, piece: bytes) -> None:
        """Append `piece`; now and then have the kernel write back, so that the flush at the end is short."""
        self._held.append(piece)
        self._size_held += len(piece)
        if self._size_held >= _PIECE or len(self._held) >= _MOST_HELD:
            self._pass_on()

    def restart(self) -> None:
        """Forget what was written."""
        self._pass_on()
        with failing_on(self._path):
            os.ftruncate(self._handle, 0)
            os.lseek(self._handle, 0, os.SEEK_SET)
        self._hashed()
        self._hash = sha256()
        self._at = self._asked = self.kept = 0

    def seal(self, *, flush: bool) -> None:
        """Set the mode that it is to have."""
        with failing_on(self._path):
            os.fchmod(self._handle, 0o444)
            if flush:
                os.fsync(self._handle)

    def _take(self) -> int:
        while piece := os.read(self._handle, _PIECE):
            self._hash.update(piece)
            self._at += len(piece)
        self._asked = self._at
        return self._at


def _folders(files: Sequence[FileSum]) -> tuple[str, ...]:
    """Every folder of the model, parents first, with the empty name of its top."""
    found = {""}
    for file in files:
        above = file.path.rpartition("/")[0]
        while above and above not in found:
            found.add(above)
            above = above.rpartition("/")[0]
    return tuple(sorted(found))


def _swept(path: Path, files: Sequence[FileSum], folders: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    """The files that an earlier try left, after removing all that has no place."""
    if path.is_symlink() or not path.is_dir():
        return
    sizes = {file.path: file.size for file in files}
    known = set(folders)
    for inner, entry in list(walked(path)):
        place = path / inner
        usable = stat.S_ISREG(entry.st_mode) and entry.st_nlink == 1 and entry.st_size <= sizes.get(inner, -1)
        if usable and _opened_up(place):
            yield inner, entry.st_size
        else:
            place.unlink()
    for top, names, _ in os.walk(path):
        for name in list(names):
            if os.path.relpath(os.path.join(top, name), path) not in known:  # noqa: PTH118 - as `os.walk` gives them
                shutil.rmtree(os.path.join(top, name))  # noqa: PTH118
                names.remove(name)


def _opened_up(place: Path) -> bool:
    with suppress(OSError):
        place.chmod(0o600)
        return True
    return False


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _update(hashed: "Hash", pieces: Sequence[bytes]) -> None:
    for piece in pieces:
        hashed.update(piece)


def _write_all(handle: int, pieces: Sequence[bytes], size: int) -> None:
    if pieces and (done := os.writev(handle, pieces)) < size:
        rest = memoryview(b"".join(pieces))[done:]
        while rest:
            rest = rest[os.write(handle, rest) :]


def _begin_write_back(handle: int, start: int, size: int) -> None:
    """Ask for it and go on; unlike `posix_fadvise` it leaves the pages in memory, where the server will want them."""
    if (call := _sync_file_range()) is not None:
        call(handle, ctypes.c_int64(start), ctypes.c_int64(size), _SYNC_FILE_RANGE_WRITE)


@cache
def _hashers() -> ThreadPoolExecutor:
    """One for all files: they end with the process."""
    return ThreadPoolExecutor(thread_name_prefix="hash")


@cache
def _sync_file_range() -> Any:  # noqa: ANN401 - a function of the C library
    """Linux alone has it; elsewhere the flush at the end takes longer."""
    return getattr(ctypes.CDLL(None), "sync_file_range", None)
