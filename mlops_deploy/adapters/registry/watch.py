"""Ends waits that no timeout of a socket ends: a peer that says a little, for ever, where none of it counts."""

from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread
from types import TracebackType
from typing import Self


class Watch:
    """While it is entered, `cut` is called when nothing has got on for `seconds`, at the latest after twice that.

    `cut` comes from another thread, and makes whatever is waiting fail. While `resting` nothing is waited for.
    """

    def __init__(self, seconds: float, cut: Callable[[], object]) -> None:
        self._seconds = seconds
        self._cut = cut
        self._over = Event()
        self._beats = 0
        self.resting = False

    def __enter__(self) -> Self:
        Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()

    def beat(self) -> None:
        """It gets on."""
        self._beats += 1

    def _run(self) -> None:
        seen = -1
        while self.resting or seen != self._beats:
            seen = self._beats
            if self._over.wait(self._seconds):
                return
        with suppress(Exception):
            self._cut()
