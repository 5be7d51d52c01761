"""Several things side by side, a few at a time; the first failure ends them all."""

from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final

_PATIENCE: Final = 2.0
"""Seconds that what was told to give up gets to do so; then it is left to end with the process."""


def abreast(jobs: Sequence[Callable[[], None]], most: int, give_up: Callable[[], None]) -> None:
    """Do all of `jobs`, at most `most` at the same time; raise what the first that failed has raised.

    Then, and when interrupted, no other is begun and `give_up` is called, which makes those under way end.
    """
    waiting: SimpleQueue[Callable[[], None]] = SimpleQueue()
    for job in jobs:
        waiting.put(job)
    ended: SimpleQueue[BaseException | None] = SimpleQueue()
    # They do not keep an interrupted program from ending while one of them waits for a network.
    threads = [Thread(target=_work, args=(waiting, ended), daemon=True) for _ in range(min(most, len(jobs)))]
    try:
        for thread in threads:
            thread.start()
        for _ in jobs:
            _settle(ended.get())
    except BaseException:
        _empty(waiting)
        give_up()
        for thread in threads:
            thread.join(_PATIENCE)
        raise


def _settle(failure: BaseException | None) -> None:
    if failure is not None:
        raise failure


def _work(waiting: SimpleQueue[Callable[[], None]], ended: SimpleQueue[BaseException | None]) -> None:
    while True:
        try:
            job = waiting.get_nowait()
        except Empty:
            return
        try:
            job()
        except BaseException as failure:  # noqa: BLE001 - raised again in the thread that waits
            ended.put(failure)
        else:
            ended.put(None)


def _empty(waiting: SimpleQueue[Callable[[], None]]) -> None:
    while not waiting.empty():
        try:
            waiting.get_nowait()
        except Empty:
            return
