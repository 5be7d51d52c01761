"""One at a time, across processes: the first works, the others wait their turn, and none for ever."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from mlops_deploy.errors import UnreachableError
from mlops_deploy.ports import Story

_PAUSE: Final = 0.2


@contextmanager
def taking_turns(path: Path, story: Story, doing: str, *, deadline: float) -> Iterator[None]:
    """Hold the lock file `path`, which the kernel frees at any death; tell when another process is `doing` it now.

    Raises `UnreachableError` after `deadline` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        if not _taken(file):
            story.say(f"waiting: another process is {doing}")
            until = time.monotonic() + deadline
            while not _taken(file):
                if time.monotonic() > until:
                    raise UnreachableError(f"another process has been {doing} for {deadline:g} s", hint="end it")
                time.sleep(_PAUSE)
        yield


def _taken(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
