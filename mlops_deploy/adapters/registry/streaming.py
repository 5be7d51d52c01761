"""A request whose body is sent bit by bit, on a connection lent from a pool."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from urllib3 import HTTPHeaderDict

from mlops_deploy.adapters.registry.answers import Reply, bounded
from mlops_deploy.adapters.registry.pace import Pace

_SAID: Final = 64 * 2**10
_SECONDS: Final = 10.0


class AnsweredError(Exception):
    """The registry answered before the body was complete, or closed the connection."""


class Outgoing:
    """A request that has begun. `send` and `answer` belong to one thread, `cut` to any.

    `pool` is one of `connections`. Raises what is in `answers.NETWORK`.
    """

    def __init__(self, pool: Any, method: str, target: str, headers: Mapping[str, str], pace: Pace) -> None:  # noqa: ANN401
        self._pool = pool
        self._pace = pace
        self._early = self._over = False
        self._unsized = "Transfer-Encoding" in headers
        self._connection = pool.lend(pace.connect)
        self._connection.patience = pace.silence
        parts = urlsplit(target)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if direct := pool.absolute_form():
            headers = {**headers, **(pool.proxy_headers or {})}
        try:
            self._connection.begin(method, target if direct else path, headers)
        except (BrokenPipeError, ConnectionResetError):
            self._early = True
        except BaseException:
            self._connection.close()
            raise

    def send(self, block: memoryview) -> None:
        """Send the next bytes; raises `AnsweredError` when it is time to ask for the answer instead."""
        try:
            if self._unsized:
                self._connection.send(b"%x\r\n" % len(block))
            self._connection.send(block)
            if self._unsized:
                self._connection.send(b"\r\n")
        except (BrokenPipeError, ConnectionResetError) as error:
            self._early = True
            raise AnsweredError from error

    def answer(self) -> Reply:
        """What the registry says; call once, then forget this."""
        try:
            if self._unsized and not self._early:
                with suppress(BrokenPipeError, ConnectionResetError):
                    self._connection.send(b"0\r\n\r\n")
            answer = self._connection.answer(self._pace.commit)
            data = bounded(answer, _SAID, _SECONDS, self._connection.cut)
            reply = Reply(status=answer.status, headers=HTTPHeaderDict(answer.headers.items()), data=data[:_SAID])
        except BaseException:
            self.close()
            raise
        if self._early or not (answer.isclosed() or answer.length == 0):
            self._connection.close()
        answer.close()
        self._over = True
        self._pool.give_back(self._connection)
        return reply

    def cut(self) -> None:
        """Break it off."""
        if not self._over:
            self._connection.cut()

    def close(self) -> None:
        """Leave it as it is; of no use when another thread is in it, or when it has been answered."""
        if not self._over:
            self._connection.close()
