"""A bound on how long something may take, whatever it waits for."""

import signal
from types import FrameType

from mlops_keeper.wrong import OverdueError


def _ring(_number: int, _frame: FrameType | None) -> None:
    raise OverdueError


class Within:
    """`with Within(seconds)` raises `OverdueError` when the block takes longer; blocks do not nest."""

    def __init__(self, seconds: float) -> None:
        self._seconds = max(seconds, 0.001)

    def __enter__(self) -> None:
        signal.signal(signal.SIGALRM, _ring)
        signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
