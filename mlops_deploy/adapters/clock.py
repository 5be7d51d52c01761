"""Time, and signals that end a wait instead of the process."""

import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_BOOT: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)
_ONE_ASK: Final = 0.3
"""Seconds in which the same signal is the same request: `timeout` sends one to the process, one to its group."""

_SHOW_CURSOR: Final = "\r\n\x1b[?25h"


class SystemClock:
    """The clock of this machine; implements `ports.Clock`.

    `naming` are the options that name the service in the commands which the last words of an ended process name.
    """

    def __init__(self, naming: str = "") -> None:
        self._naming = naming
        self._asked: str | None = None
        self._wake: int | None = None

    def wall(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def elapsed(self) -> float:
        """Seconds of a clock that never goes back, and goes on while the machine is suspended.

        The lease ages meanwhile: a holder that slept has to see that it did. Where there is no such clock, it stands
        still.
        """
        return time.monotonic() if _BOOT is None else time.clock_gettime(_BOOT)

    def pause(self, seconds: float) -> str | None:
        """Wait; the name of the signal that asked us to stop, as soon as one has, else None."""
        if self._asked is None and seconds > 0:
            select.select([self._wake] if self._wake is not None else [], [], [], seconds)
        return self._asked

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Meanwhile a first SIGINT or SIGTERM ends every pause, and a second one the process."""
        woken, waker = os.pipe()
        self._wake = woken
        heard_at: list[float] = []

        def hear(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
            name = signal.Signals(signum).name
            if self._asked is not None:
                if name != self._asked or time.monotonic() - heard_at[0] >= _ONE_ASK:
                    _end_at_once(self._naming)
                return
            heard_at.append(time.monotonic())
            self._asked = name
            os.write(waker, b"!")

        before = {number: signal.getsignal(number) for number in _SIGNALS}
        # A parent that wants Ctrl-C ignored, as a shell does for `command &`, has its way.
        heard = [number for number in _SIGNALS if before[number] is not signal.SIG_IGN]
        for number in heard:
            signal.signal(number, hear)
        try:
            yield
        finally:
            for number in heard:
                signal.signal(number, before[number])
            self._wake = None
            os.close(waker)
            os.close(woken)


def _end_at_once(naming: str) -> None:
    # Whatever is half-done is in the journal: it was written before the deed.
    said = (
        "error: interrupted again: ended at once\n"
        f"hint: `mlops-deploy resume{naming}` goes on, `mlops-deploy abort{naming}` turns back; "
        "the lease is free within a minute\n"
    )
    with suppress(OSError):
        os.write(2, os.fsencode((_SHOW_CURSOR if sys.stderr.isatty() else "") + said))
    os._exit(130)
