"""Files that are there whole or not at all, and one writer at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlops_deploy.oci.partial import PartialFile, sync_folder


def replace_file(path: Path, data: bytes) -> None:
    """Write `data` as `path`: flushed, then renamed, so that any reader and any crash sees the old or the new file."""
    partial = PartialFile(path.parent)
    try:
        partial.write(data)
        partial.commit(path)
    finally:
        partial.discard()
    sync_folder(path.parent)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`; the kernel drops it at any death. Held for milliseconds only."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
