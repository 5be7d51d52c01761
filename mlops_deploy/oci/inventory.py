"""What a model consists of, looked at without reading it; everything that cannot travel is refused here, at once."""

import errno
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from mlops_deploy.errors import UnusableInputError

# The same rules as deploy.sh: a list of paths has one per line, and busybox's sha256sum escapes nothing.
_BAD_NAME: Final = re.compile(r"[\x00-\x1f\x7f\\]|^[ -]|[ ]$|^\.\.?$|^\.wh\.")
_LONGEST_NAME: Final = 255
_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells, without reading it, that a file is still the same: device, inode, size, mtime and ctime in ns."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Self:
        """The stamp of what `stat` said."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a model: its path inside the model (with `/`), where it is on disk, and its stamp."""

    path: str
    source: str
    stamp: Stamp

    @property
    def size(self) -> int:
        """Bytes."""
        return self.stamp.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """All files of a model, sorted by the bytes of their paths."""

    root: Path
    files: tuple[SourceFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def take_inventory(path: Path) -> Inventory:
    """List the model at `path`, a file or a folder; links inside the folder count as what they point to.

    Raises `UnusableInputError` for a model that is missing, empty or unreadable, for links that leave the folder or
    lead back into themselves, for FIFOs, sockets and devices, and for names that cannot travel: all of them at once.
    """
    try:
        root = path.resolve(strict=True)
        found = root.stat()
    except (OSError, RuntimeError) as error:
        raise UnusableInputError(f"the model `{path}` cannot be read: {_reason(error)}") from error
    problems: list[str] = []
    if stat.S_ISDIR(found.st_mode):
        files = list(_walk(root, str(root), "", (str(root),), problems))
    else:
        files = list(_file(root.name, str(root), found, problems))
    if problems:
        raise _refusal(path, problems)
    if not files or not any(file.size for file in files):
        raise UnusableInputError(f"the model `{path}` is empty", hint="a model has at least one file with content")
    files.sort(key=lambda file: file.path.encode())
    return Inventory(root=root, files=tuple(files))


def _reason(error: OSError | RuntimeError) -> str:
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "links lead in a circle"


def _refusal(path: Path, problems: list[str]) -> UnusableInputError:
    shown = sorted(problems)[:_SHOWN]
    more = [f"… and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    count = "1 thing that cannot" if len(problems) == 1 else f"{len(problems)} things that cannot"
    return UnusableInputError(
        f"the model `{path}` has {count} travel in a carrier",
        detail=[f"  {problem}" for problem in shown + more],
        hint="rename, remove or replace them by plain files; nothing was built",
    )


def _walk(root: Path, folder: str, inside: str, trail: tuple[str, ...], problems: list[str]) -> Iterator[SourceFile]:
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        problems.append(f"{_shown(inside)}: {os.strerror(error.errno or errno.EIO)}")
        return
    for entry in entries:
        yield from _entry(root, entry, f"{inside}{entry.name}", trail, problems)


def _entry(
    root: Path, entry: os.DirEntry[str], path: str, trail: tuple[str, ...], problems: list[str]
) -> Iterator[SourceFile]:
    try:
        source = _target(root, entry) if entry.is_symlink() else entry.path
        found = Path(source).lstat()
    except _LeavesFolderError as link:
        problems.append(f"{_shown(path)}: a link that leaves the folder, to {_shown(str(link))}")
    except (OSError, RuntimeError) as error:
        problems.append(f"{_shown(path)}: {_reason(error)}")
    else:
        if not stat.S_ISDIR(found.st_mode):
            yield from _file(path, source, found, problems)
        elif source in trail:
            problems.append(f"{_shown(path)}: a link that leads back into itself")
        elif trouble := _name_trouble(entry.name):
            problems.append(f"{_shown(path)}: {trouble}")
        else:
            yield from _walk(root, source, f"{path}/", (*trail, source), problems)


class _LeavesFolderError(Exception):
    """A link whose target is outside of the model."""


def _target(root: Path, entry: os.DirEntry[str]) -> str:
    target = Path(entry.path).resolve(strict=True)
    if not target.is_relative_to(root):
        raise _LeavesFolderError(str(target))
    return str(target)


def _file(path: str, source: str, found: os.stat_result, problems: list[str]) -> Iterator[SourceFile]:
    if not stat.S_ISREG(found.st_mode):
        problems.append(f"{_shown(path)}: {_kind(found.st_mode)}, not a file")
    elif trouble := _name_trouble(path.rpartition("/")[2]):
        problems.append(f"{_shown(path)}: {trouble}")
    elif not os.access(source, os.R_OK):
        problems.append(f"{_shown(path)}: {os.strerror(errno.EACCES)}")
    else:
        yield SourceFile(path, source, Stamp.of(found))


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"), (stat.S_ISBLK, "a device"))
    return next((name for test, name in kinds if test(mode)), "a device")


def _name_trouble(name: str) -> str | None:
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return "the name is not valid UTF-8"
    if length > _LONGEST_NAME:
        return f"the name is longer than {_LONGEST_NAME} bytes"
    if _BAD_NAME.search(name):
        return (
            "a name may not have control characters or a backslash, start with `-`, `.wh.` or a blank, end with a blank"
        )
    return None


def _shown(path: str) -> str:
    """Printable whatever is in it: the name that is refused may be hostile to a terminal."""
    readable = path.encode(errors="backslashreplace").decode()
    return f"`{''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in readable) or '.'}`"
