"""One blob on its way down: taken up again where it broke, and never more than was promised."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from urllib3.response import BaseHTTPResponse

from mlops_deploy.adapters.registry.answers import NETWORK, Reply, not_believed, require_plain
from mlops_deploy.adapters.registry.channel import Channel, Scope
from mlops_deploy.adapters.registry.pace import Patience
from mlops_deploy.adapters.registry.watch import Watch
from mlops_deploy.errors import ContentMismatchError

PIECE: Final = 2**20
_PROGRESS: Final = 64 * 2**10
"""Bytes that show that a registry gets on; fewer in a whole silence are as none."""

_FRAME: Final = 1.0
"""Seconds beyond a silence that what is around the bytes may take."""

_OK, _PARTIAL, _DENIED, _NOT_FOUND, _UNSATISFIABLE = 200, 206, 403, 404, 416
_EXPECTED: Final = frozenset({_OK, _PARTIAL, _NOT_FOUND, _UNSATISFIABLE})
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


@dataclass(kw_only=True)
class Download:
    """The blob at `url` from `start` on; `size` is the whole blob's, None where that is not known."""

    channel: Channel
    url: str
    scope: Scope
    step: str
    start: int
    size: int | None

    def pieces(self) -> Iterator[bytes]:
        """Its bytes; raises `FileNotFoundError` when it is not there, and as `ports.Repository` says."""
        patience, mark = Patience(self.channel.pace), self.start
        position = self.start
        while self.size is None or position < self.size:
            answer = self._ask(position, patience)
            if answer is None:
                return
            try:
                for piece in self._body(answer, position):
                    position += len(piece)
                    yield piece
            except NETWORK as error:
                failure = self.channel.unreachable(self.step, error)
                if position >= mark + _PROGRESS:
                    mark, patience = position, Patience(self.channel.pace)
                if not patience.again():
                    raise failure from error
            else:
                return
            finally:
                answer.close()

    def _ask(self, position: int, patience: Patience) -> BaseHTTPResponse | None:
        """The answer that holds the bytes from `position` on; None when there are no more."""
        headers = {"Range": f"bytes={position}-"} if position else {}
        answer = self.channel.request(
            "GET", self.url, step=self.step, scope=self.scope, expect=_EXPECTED, headers=headers, patience=patience
        )
        if answer.status in {_OK, _PARTIAL}:
            require_plain(answer, self.channel.host, self.step)
            return answer
        reply = Reply.of(answer)
        if reply.status == _NOT_FOUND:
            raise FileNotFoundError(self.step)
        if self.size is None and reply.headers.get("Content-Range") == f"bytes */{position}":
            return None
        raise self._wrong(f"has no bytes from {position} on")

    def _body(self, answer: BaseHTTPResponse, position: int) -> Iterator[bytes]:
        """The bytes of an answer from `position` on, whichever part of the blob it holds."""
        skip = position - self._begins(answer)
        if skip < 0:
            raise self._wrong("sent another part than was asked for")
        self._require_size(answer, position - skip)
        told = answer.headers.get("Content-Length")
        left = None if self.size is None else self.size - position
        for piece in self._steady(answer):
            kept = piece[skip:] if skip else piece
            skip = max(0, skip - len(piece))
            if left is not None and (left := left - len(kept)) < 0:
                raise self._wrong("sends more bytes than it has")
            if kept:
                yield kept
        if left and told is not None:
            raise self._wrong(f"has {left} bytes less than it should")
        if left or skip:
            raise TimeoutError("the connection broke off")

    def _steady(self, answer: BaseHTTPResponse) -> Iterator[bytes]:
        """What comes, as it comes; raises `TimeoutError` when next to nothing does."""
        now, silence = self.channel.pace.now, self.channel.pace.silence
        since, got = now(), 0
        with Watch(silence + _FRAME, answer.shutdown) as watch:
            while piece := answer.read1(PIECE, decode_content=False):
                watch.resting = True
                yield piece
                watch.beat()
                watch.resting = False
                got += len(piece)
                if got >= _PROGRESS:
                    since, got = now(), 0
                elif now() - since > silence:
                    raise TimeoutError("next to nothing comes")

    def _begins(self, answer: BaseHTTPResponse) -> int:
        if answer.status == _OK:
            return 0
        told = _CONTENT_RANGE.fullmatch((answer.headers.get("Content-Range") or "").strip())
        if told is None:
            raise self._wrong("does not say which part it sent")
        return int(told[1])

    def _require_size(self, answer: BaseHTTPResponse, begins: int) -> None:
        told = answer.headers.get("Content-Length")
        if self.size is None or told is None:
            return
        if not told.isascii() or not told.isdigit() or begins + int(told[:18]) > self.size:
            raise self._wrong(f"has more than its {self.size} bytes")

    def _wrong(self, what: str) -> ContentMismatchError:
        return not_believed(self.channel.host, f"{what}: {self.step}")
