"""Files that are there whole or not at all, and one writer at a time."""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from mlops_deploy.errors import LockedError
from mlops_deploy.oci.partial import PartialFile, sync_folder

_PAUSE: Final = 0.02
_PATIENCE: Final = 1.0


def replace_file(path: Path, data: bytes) -> None:
    """Write `data` as `path`: flushed, then renamed, so that any reader and any crash sees the old or the new file."""
    partial = PartialFile(path.parent)
    try:
        partial.write(data)
        partial.commit(path)
    finally:
        partial.discard()
    sync_folder(path.parent)


def write_named(path: Path, data: bytes) -> None:
    """Write `data` where a user said: a file is replaced whole, links are followed, pipes and devices written to."""
    if path.exists() and not path.is_file():
        path.write_bytes(data)
    else:
        replace_file(path.resolve(), data)


def unheard(_: str) -> None:
    """Where nobody listens."""


@contextmanager
def locked(path: Path, doing: str, *, deadline: float, tell: Callable[[str], None]) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`, which the kernel frees at any death.

    `tell` hears, after a second, that another process is `doing` it now; `LockedError` is raised after `deadline`
    seconds.
    """
    with path.open("ab") as file:
        started, told = time.monotonic(), False
        while not _taken(file):
            waited = time.monotonic() - started
            if waited > deadline:
                raise LockedError(
                    f"another process has been {doing} for {deadline:g} s",
                    hint=f"`fuser {path}` names it; end it, or try again later",
                )
            if waited > _PATIENCE and not told:
                tell(f"waiting: another process is {doing}")
                told = True
            time.sleep(_PAUSE)
        yield


def _taken(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
