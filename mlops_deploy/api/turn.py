"""One at a time, across processes: the first works, the others wait their turn, and none for ever."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlops_deploy.ports import Story
from mlops_deploy.store.files import locked


@contextmanager
def taking_turns(path: Path, story: Story, doing: str, *, deadline: float) -> Iterator[None]:
    """Hold the lock file `path`, made with its folder; tell when another process is `doing` it now.

    Raises `LockedError` after `deadline` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path, doing, deadline=deadline, tell=story.say):
        yield
