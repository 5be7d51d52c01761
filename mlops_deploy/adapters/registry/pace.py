"""How long a registry is waited for, and how often it is asked again."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from random import uniform
from typing import Final

RETRIED: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed a little later."""

HELD_BACK: Final = frozenset({429, 503})
"""Statuses that ask for fewer requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Limits in seconds; `tries` is how often one thing is asked in all."""

    connect: float = 10.0
    silence: float = 60.0
    """Until the next byte of an answer, or until the next byte of a body is taken."""
    commit: float = 300.0
    """Until the answer to the end of a blob, which the registry may copy meanwhile."""
    token: float = 20.0
    """Until the end of a token server's answer."""
    tries: int = 6
    connects: int = 4
    """How often, when nobody listens at all."""
    first: float = 0.5
    longest: float = 15.0
    retry_after: float = 60.0
    """The longest wait that a registry may ask for."""
    total: float = 300.0
    """Since the first failure; no other try is begun after it."""
    farewell: float = 3.0
    """To tell the registry that an upload was given up."""
    sleep: Callable[[float], object] = time.sleep
    now: Callable[[], float] = time.monotonic


class Patience:
    """The tries of one thing. `sleep` may return early, and true, when the thing is not wanted any more."""

    def __init__(self, pace: Pace, sleep: Callable[[float], object] | None = None, *, tries: int | None = None) -> None:
        self._pace = pace
        self._sleep = sleep or pace.sleep
        self._until: float | None = None
        self._failed = 0
        self._tries = tries or pace.tries

    def again(self, after: float | None = None, *, nobody: bool = False) -> bool:
        """Wait before the next try, `after` seconds if the registry says so; False when it is time to give up.

        `nobody`: there was not even a connection.
        """
        self._failed += 1
        wait, now = self.delay(after), self._pace.now()
        self._until = self._until or now + self._pace.total
        most = min(self._tries, self._pace.connects) if nobody else self._tries
        if self._failed >= most or now + wait > self._until:
            return False
        return not self._sleep(wait)

    def delay(self, after: float | None) -> float:
        """Twice as long each time, and never the same for two that failed together."""
        pace = self._pace
        full = min(pace.longest, pace.first * 2.0 ** min(self._failed - 1, 16))
        backoff = full * uniform(0.5, 1.0)  # noqa: S311 - nothing secret hangs on it
        return backoff if after is None else min(max(after, backoff), pace.retry_after)


def retry_after(header: str | None) -> float | None:
    """Seconds that a `Retry-After` asks for, as a number or as a date; None when it says nothing usable."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    with suppress(ValueError, TypeError, OverflowError):
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    return None
