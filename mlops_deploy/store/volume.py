"""A volume that models are copied to: `v/<content id>`, whole or not there, and links that name models for people.

The rules are those of the carrier's `deploy.sh`, so that any mix of both may work on one volume at once.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from mlops_deploy.errors import ContentMismatchError, DeployError, UnusableInputError
from mlops_deploy.oci.metadata import FileSum
from mlops_deploy.spec.refs import ContentId

_PIECE: Final = 2**20
_SPARE: Final = 2047
"""KiB: 1 MiB to spare, rounded up to whole MiB."""

_OF_ONE_KERNEL: Final = frozenset(
    {0xEF53, 0x58465342, 0x9123683E, 0xCA451A4E, 0xF2F52010, 0x2FC12FC1, 0x01021994, 0x794C7630}
)
"""ext2 to ext4, XFS, Btrfs, bcachefs, F2FS, ZFS, tmpfs and overlayfs, by `f_type` of `statfs(2)`."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class VolumeError(DeployError):
    """The volume cannot be written; `code` is what `deploy.sh` would exit with."""

    def __init__(self, message: str, *, code: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class InTheWayError(UnusableInputError):
    """Something on the volume is where neither `deploy.sh` nor this product puts it."""

    code = 77


class DamagedModelError(ContentMismatchError):
    """A model on the volume is damaged, and cannot be replaced."""

    code = 65


@dataclass(frozen=True, slots=True)
class Volume:
    """The folder `path`, absolute; it may not be there yet."""

    path: Path

    @property
    def versions(self) -> Path:
        """Where the models are, with everything private in names that begin with a dot."""
        return self.path / "v"

    @property
    def alive(self) -> Path:
        """The fifo that who is at work holds open for writing."""
        return self.versions / ".alive"

    @property
    def is_of_one_kernel(self) -> bool:
        """Whether nobody but this kernel can write there, as far as is known; not so with a network file system."""
        return _kind(self.path) in _OF_ONE_KERNEL

    def home(self, content: ContentId) -> Path:
        """Where the model is, or will be."""
        return self.versions / str(content)

    def link(self, name: str) -> Path:
        """The link that names a model for people."""
        return self.path / name

    def refuse_links(self, content: ContentId) -> None:
        """Raise `InTheWayError` for links and files that are where they should not be."""
        for path in (self.versions, self.home(content), self.alive):
            if path.is_symlink():
                raise InTheWayError(f"`{path}` is a link, which nobody makes there who should", hint="remove it")
        mode = _mode(self.alive)
        if mode is not None and not stat.S_ISFIFO(mode):
            raise InTheWayError(f"`{self.alive}` is not a fifo", hint="remove it")

    def refuse_what_is_named(self, name: str) -> None:
        """Raise `InTheWayError` when what is to be a link is something else."""
        link = self.link(name)
        if (mode := _mode(link)) is not None and not stat.S_ISLNK(mode):
            raise InTheWayError(f"`{link}` is in the way of the link to the model", hint="move it away")

    def prepare(self) -> None:
        """Make what has to be there before a claim; raise `OSError` when that cannot be."""
        with _plain_modes():
            self.versions.mkdir(parents=True, exist_ok=True)
            with suppress(OSError):  # a file system without fifos is one where nobody waits
                os.mkfifo(self.alive, 0o600)
        mode = _mode(self.alive)
        if mode is not None and not os.access(self.alive, os.W_OK):
            raise PermissionError(errno.EACCES, "its fifo is another user's", str(self.alive))

    def refusal(self, error: OSError, content: ContentId) -> DeployError:
        """What is to be said when the volume cannot be written, with what to do about it."""
        why = (error.strerror or str(error)).lower()
        if error.errno in _FULL:
            return VolumeError(f"`{self.path}` cannot be written: {why}", code=74, hint="make room, then retry")
        if error.errno in {errno.ENOTDIR, errno.EEXIST}:
            return VolumeError(f"`{self.path}` is no folder, nor can one be made there", code=73, hint="name a folder")
        if self.home(content).exists():
            return DamagedModelError(
                f"`{self.home(content)}` is damaged and cannot be replaced: {why}",
                hint=f"mount the volume writable, for uid {os.geteuid()}",
            )
        folder = self.versions if self.versions.is_dir() else self.path
        try:
            owner = folder.stat().st_uid
        except OSError:
            return VolumeError(f"`{self.path}` cannot be made: {why}", code=73, hint="mount a volume there")
        if owner == os.geteuid():
            return VolumeError(f"`{folder}` cannot be written: {why}", code=73, hint="mount it writable")
        return VolumeError(
            f"`{folder}` cannot be written: it belongs to uid {owner} and this runs as uid {os.geteuid()}",
            code=73,
            hint=f"run it as user {owner}, or give the folder to uid {os.geteuid()}",
        )

    def has_room(self, kib: int) -> bool:
        """Whether there is room for `kib` KiB, and 1 MiB to spare."""
        return self._free_kib() >= kib + _SPARE

    def require_room(self, kib: int) -> None:
        """Raise `VolumeError` when there is no room."""
        if not self.has_room(kib):
            free, needed = self._free_kib() // 1024, (kib + _SPARE) // 1024
            message = f"`{self.path}` has {free} MiB free, the model needs {needed}"
            raise VolumeError(message, code=74, hint="make room, then retry")

    def _free_kib(self) -> int:
        room = os.statvfs(self.path)
        return room.f_bavail * room.f_frsize // 1024

    def point(self, name: str, content: ContentId) -> None:
        """Make the link of that name point at the model, by one rename.

        On a volume that cannot be written a link may be missing, for jobs use the exact path; raises `VolumeError`
        when it points at another model.
        """
        link, goal = self.link(name), f"v/{content}"
        if _target(link) == goal:
            return
        following = self.path / f".{name}.{content}"
        with suppress(OSError):
            following.symlink_to(goal)
        with suppress(OSError):
            if _target(following) == goal:
                following.rename(link)
        if _target(link) not in {goal, None}:
            raise VolumeError(
                f"`{link}` points at another model and cannot be changed", code=73, hint="mount the volume writable"
            )


def is_whole(folder: Path, files: Sequence[FileSum]) -> bool:
    """Whether the very files are there, with their sizes, and nothing else; their bytes are not read."""
    sizes = {file.path: file.size for file in files}
    try:
        found = 0
        for path, entry in walked(folder):
            if not stat.S_ISREG(entry.st_mode) or sizes.get(path) != entry.st_size:
                return False
            found += 1
    except OSError:
        return False
    return found == len(sizes)


def is_verified(folder: Path, files: Sequence[FileSum]) -> bool:
    """Whether the bytes of all files are those that they should be."""
    try:
        return all(_sha256(folder / file.path) == file.sha256 for file in files)
    except OSError:
        return False


def walked(folder: Path, below: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """All below a folder but folders, with the path inside; links are not followed. Raises `OSError`."""
    waiting = [below]
    while waiting:
        inner = waiting.pop()
        with os.scandir(folder / inner) as entries:
            for entry in entries:
                path = f"{inner}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{path}/")
                else:
                    yield path, entry.stat(follow_symlinks=False)


def needed_kib(sizes: Iterable[int]) -> int:
    """KiB that files take on most file systems: blocks of 4."""
    return sum(4 * -(-size // 4096) for size in sizes)


@contextmanager
def failing_on(path: Path) -> Iterator[None]:
    """Turn a failing system call into the error that says that copying to `path` failed."""
    try:
        yield
    except OSError as error:
        why, hint = (error.strerror or str(error)).lower(), "look for disk errors, then retry"
        if error.errno in _FULL:
            hint = "make room, then retry"
        if error.errno == errno.ENOENT:
            why, hint = "what was copied has been removed meanwhile", "retry"
        raise VolumeError(f"copying to `{path}` failed: {why}", code=74, hint=hint) from error


@contextmanager
def _plain_modes() -> Iterator[None]:
    """Meanwhile what is made can be read by all: the server is another user."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def _kind(path: Path) -> int | None:
    """`f_type` of the file system; None when it cannot be had."""
    call, found = getattr(ctypes.CDLL(None), "statfs", None), ctypes.create_string_buffer(512)
    if call is None or call(os.fsencode(path), found) != 0:
        return None
    return ctypes.c_ulong.from_buffer(found).value & 0xFFFFFFFF


def _mode(path: Path) -> int | None:
    try:
        return path.lstat().st_mode
    except OSError:
        return None


def _target(link: Path) -> str | None:
    try:
        return os.readlink(link)  # noqa: PTH115 - the very text of it
    except OSError:
        return None


def _sha256(path: Path) -> str:
    hashed = sha256()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            hashed.update(piece)
    return hashed.hexdigest()
