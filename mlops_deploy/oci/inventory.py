"""What a model consists of, looked at without reading it; everything that cannot travel is refused here, at once."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, Self

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.oci.names import name_trouble, shown
from mlops_deploy.spec.url import shown_url

OWN_FOLDER: Final = ".mlops"
"""Holds the store and the cache of this product; in a model's own folder it is no part of the model."""

MOST_ENTRIES: Final = 1_000_000
_MOST_LINKS: Final = 4
_NEVER_SETTLED: Final = 2**62
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


Fetch = Callable[[int], Iterator[bytes]]
"""The bytes of a file from an offset on."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a model: its path inside the model (with `/`), where it is, and its stamp.

    It is on disk unless it says how it is fetched.
    """

    path: str
    source: str
    stamp: Stamp
    fetch: Fetch | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return self.stamp.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A file behind a URL: its size in bytes, and what its server says that changes when it does, if anything.

    Only an `exact` version is another one whenever the file is.
    """

    url: str
    size: int
    version: str = ""
    exact: bool = False


@dataclass(frozen=True, slots=True)
class ListedFolder:
    """A folder of a model: where it is, its path in the model (with `/` at the end), and a number for what it held.

    The number is that of the names in it and of where its links lead; it means something in one process only. What is
    behind the names tells itself whether it changed. A list of them would need as much memory as the files do, and the
    folder's own times tell less: they miss what happens within their resolution, and move for what came and went.
    """

    source: str
    path: str
    held: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """All files of a model, sorted by the bytes of their paths, and the folders that they were found in."""

    root: Path
    files: tuple[SourceFile, ...]
    folders: tuple[ListedFolder, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def take_inventory(path: Path) -> Inventory:
    """List the model at `path`, a file or a folder; links inside the folder count as what they point to.

    A `.mlops` in the model's own folder is this product's store and cache, and no part of the model. Raises
    `UnusableInputError` for a model that is missing, empty or unreadable, for links that leave the folder or lead back
    into themselves, for FIFOs, sockets and devices, and for names that cannot travel: all of them at once.
    """
    try:
        root = path.resolve(strict=True)
        found = root.stat()
    except (OSError, RuntimeError, ValueError) as error:
        raise UnusableInputError(
            f"the model `{path}` cannot be read: {_reason(error)}",
            hint="name a file or a folder that is there, on the command line or at `model.path` in `mlops.yml`",
        ) from error
    survey = _Survey(root)
    if stat.S_ISDIR(found.st_mode):
        survey.walk()
    else:
        # A link to a file gives the name: caches of models call the file itself by its digest.
        survey.file(_utf8(path.absolute().name), str(root), found)
    if survey.problems:
        raise _refusal(path, survey.problems)
    if not any(file.size for file in survey.files):
        raise UnusableInputError(f"the model `{path}` is empty", hint="a model has at least one file with content")
    files = tuple(sorted(survey.files, key=lambda file: file.path.encode()))
    return Inventory(root=root, files=files, folders=tuple(survey.folders))


def remote_inventory(remote: Remote, name: str, fetch: Fetch) -> Inventory:
    """A model of one file behind a URL, which is called `name` in it.

    Its stamp changes when its server says another version; one that is not exact is never known from before. Raises
    `UnusableInputError` for an empty file and for a name that cannot travel.
    """
    if trouble := name_trouble(name):
        raise UnusableInputError(
            f"the name of `{shown_url(remote.url)}` cannot travel: {trouble}", hint="download it, and rename it"
        )
    if not remote.size:
        raise UnusableInputError(
            f"`{shown_url(remote.url)}` is empty", hint="a model has at least one file with content"
        )
    version = int(sha256(remote.version.encode()).hexdigest()[:15], 16)
    touched = 0 if remote.exact else _NEVER_SETTLED
    stamp = Stamp(device=0, inode=version, size=remote.size, mtime_ns=0, ctime_ns=touched)
    return Inventory(root=Path(name), files=(SourceFile(name, shown_url(remote.url), stamp, fetch),))


def require_unchanged(inventory: Inventory) -> None:
    """Raise `UnusableInputError` when a file is no longer what it was: read at different times, they fit badly.

    So it does for a file that is new: part of what is being written would be left out.
    """
    for file in inventory.files:
        if file.fetch is not None:
            continue
        try:
            now = Stamp.of(os.lstat(file.source))
        except OSError:
            now = None
        if now != file.stamp:
            raise changed(file)
    for folder in inventory.folders:
        if _held_now(folder) != folder.held:
            raise _changed(f"folder {shown(folder.path[:-1] or str(inventory.root))}")


def changed(file: SourceFile) -> UnusableInputError:
    """The error for a file that was written to during a build."""
    return _changed(f"file `{file.path}`")


def _changed(what: str) -> UnusableInputError:
    return UnusableInputError(
        f"the model {what} changed while it was read",
        hint="build again when whatever writes the model has finished",
    )


def _held_now(folder: ListedFolder) -> int | None:
    try:
        with os.scandir(folder.source) as entries:
            return sum(_mark(entry, folder.path) for entry in entries)
    except OSError:
        return None


def _mark(entry: os.DirEntry[str], path: str) -> int:
    """A number for an entry of the folder `path`; 0 for the product's own folder, which comes while a model is read."""
    if path + entry.name == OWN_FOLDER:
        return 0
    return hash((entry.name, str(Path(entry.path).readlink()) if entry.is_symlink() else ""))


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return "links lead in a circle" if isinstance(error, RuntimeError) else str(error)


def _refusal(path: Path, problems: list[str]) -> UnusableInputError:
    shown = sorted(problems)[:_SHOWN]
    more = [f"… and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    count = "1 thing that cannot" if len(problems) == 1 else f"{len(problems)} things that cannot"
    return UnusableInputError(
        f"the model `{path}` has {count} travel in a carrier",
        detail=[f"  {problem}" for problem in shown + more],
        hint="rename, remove or replace them by plain files; nothing was built",
    )


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder on the way: where it is on disk, its path in the model, how it was reached."""

    source: str
    path: str
    above: "_Folder | None" = None
    links: int = 0

    def leads_back(self, source: str) -> bool:
        folder: _Folder | None = self
        while folder and folder.source != source:
            folder = folder.above
        return folder is not None


class _Survey:
    """One walk through a model: the files and folders found, and the problems."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen = 0
        self.files: list[SourceFile] = []
        self.folders: list[ListedFolder] = []
        self.problems: list[str] = []

    def walk(self) -> None:
        waiting = [_Folder(str(self._root), "")]
        while waiting and self._seen <= MOST_ENTRIES:
            folder = waiting.pop()
            try:
                waiting.extend(self._list(folder))
            except OSError as error:
                self._refuse(folder.path, _reason(error))
        if self._seen > MOST_ENTRIES:
            self.problems = [f"more than {MOST_ENTRIES:,} files and folders, links counted as copies"]

    def file(self, path: str, source: str, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            self._refuse(path, f"{_kind(found.st_mode)}, not a file")
        elif trouble := name_trouble(path):
            self._refuse(path, trouble)
        elif not os.access(source, os.R_OK):
            self._refuse(path, os.strerror(errno.EACCES).lower())
        else:
            self.files.append(SourceFile(path, source, Stamp.of(found)))

    def _list(self, folder: _Folder) -> list[_Folder]:
        """Look at what a folder holds; return the folders in it that have to be walked."""
        below, held = [], 0
        with os.scandir(folder.source) as entries:
            for entry in entries:
                held += _mark(entry, folder.path)
                if found := self._entry(entry, folder):
                    below.append(found)
        self.folders.append(ListedFolder(folder.source, folder.path, held))
        return below

    def _entry(self, entry: os.DirEntry[str], folder: _Folder) -> _Folder | None:
        """Note a file or a problem; return a folder that has to be walked."""
        self._seen += 1
        path = f"{folder.path}{_utf8(entry.name)}"
        if path == OWN_FOLDER or self._seen > MOST_ENTRIES:
            return None
        try:
            linked = entry.is_symlink()
            source = self._target(entry) if linked else entry.path
            found = os.lstat(source)
        except _LeavesFolderError as link:
            self._refuse(path, f"a link that leaves the folder, to {shown(str(link))}")
        except (OSError, RuntimeError) as error:
            self._refuse(path, _reason(error))
        else:
            if stat.S_ISDIR(found.st_mode):
                return self._folder(_Folder(source, path, folder, folder.links + linked))
            self.file(path, source, found)
        return None

    def _folder(self, folder: _Folder) -> _Folder | None:
        if folder.above and folder.above.leads_back(folder.source):
            self._refuse(folder.path, "a link that leads back into itself")
        elif folder.links > _MOST_LINKS:
            self._refuse(folder.path, f"more than {_MOST_LINKS} links to folders inside one another")
        elif trouble := name_trouble(folder.path):
            self._refuse(folder.path, trouble)
        else:
            return _Folder(folder.source, f"{folder.path}/", folder.above, folder.links)
        return None

    def _target(self, entry: os.DirEntry[str]) -> str:
        target = Path(entry.path).resolve(strict=True)
        if not target.is_relative_to(self._root):
            raise _LeavesFolderError(str(target))
        return str(target)

    def _refuse(self, path: str, why: str) -> None:
        self.problems.append(f"{shown(path)}: {why}")


class _LeavesFolderError(Exception):
    """A link whose target is outside of the model."""


def _utf8(name: str) -> str:
    """The name as its bytes say, whatever the locale makes of them: the same model has the same digest anywhere."""
    return os.fsencode(name).decode(errors="surrogateescape")


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"))
    return next((name for test, name in kinds if test(mode)), "a device")
