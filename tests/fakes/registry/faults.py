"""Ways in which a registry, or what is between, does not do its duty. Each is told for one step, some times."""

import itertools
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache

from tests.fakes.registry.messages import Answer, Asked, HangUpError

PIECE = 2**16


class Fault:
    """What is done to one request; this one does nothing."""

    def instead(self, asked: Asked) -> Answer | None:
        """An answer before the body of the request is read, if any; nothing is done then."""

    def incoming(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """What arrives of the request's body."""
        return pieces

    def outgoing(self, answer: Answer) -> Answer:
        """What goes out when the deed has been done."""
        return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers(Fault):
    """This answer; `drained`: after the body of the request, nothing of which is kept, has been read."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    drained: bool = False

    def instead(self, asked: Asked) -> Answer | None:
        """See `Fault`."""
        return Answer(
            status=self.status, headers=dict(self.headers), body=(self.body,), size=len(self.body),
            early=not self.drained,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TooLarge(Fault):
    """413 for a request that promises more than `limit` bytes, or brings them."""

    limit: int

    def instead(self, asked: Asked) -> Answer | None:
        """See `Fault`."""
        if int(asked.headers.get("content-length", 0)) <= self.limit:
            return None
        return Answer(status=413, headers={"Content-Type": "text/html"}, body=(b"<html>413",), size=9, early=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class CutsRequest(Fault):
    """The connection ends when `after` bytes of the request's body have come, at the latest at its end; no deed."""

    after: int = 0
    reset: bool = False

    def incoming(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """See `Fault`."""
        yield from _first(pieces, self.after)
        raise HangUpError(reset=self.reset)


@dataclass(frozen=True, slots=True, kw_only=True)
class CutsAnswer(Fault):
    """The deed is done, and the connection ends when `after` bytes of the answer's body have gone."""

    after: int = 0
    reset: bool = False

    def outgoing(self, answer: Answer) -> Answer:
        """See `Fault`."""
        answer.body = self._cut(answer.body)
        return answer

    def _cut(self, body: Iterable[bytes]) -> Iterator[bytes]:
        yield from _first(body, self.after)
        raise HangUpError(reset=self.reset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loses(Fault):
    """The deed is done, and nobody is told."""

    reset: bool = False

    def outgoing(self, answer: Answer) -> Answer:
        """See `Fault`."""
        raise HangUpError(reset=self.reset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stalls(Fault):
    """Nothing moves for `seconds`: before the answer, or when `after` bytes of its body have gone."""

    seconds: float
    after: int | None = None

    def outgoing(self, answer: Answer) -> Answer:
        """See `Fault`."""
        if self.after is None:
            time.sleep(self.seconds)
        else:
            answer.body = self._stalled(answer.body, self.after)
        return answer

    def _stalled(self, body: Iterable[bytes], after: int) -> Iterator[bytes]:
        rest = iter(body)
        sent = 0
        for piece in rest:
            if sent + len(piece) > after >= sent:
                yield piece[: after - sent]
                time.sleep(self.seconds)
                yield piece[after - sent :]
            else:
                yield piece
            sent += len(piece)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drips(Fault):
    """The answer's body goes out `size` bytes every `seconds`."""

    size: int = 1
    seconds: float = 0.1

    def outgoing(self, answer: Answer) -> Answer:
        """See `Fault`."""
        answer.body = self._slow(answer.body)
        return answer

    def _slow(self, body: Iterable[bytes]) -> Iterator[bytes]:
        for piece in body:
            for at in range(0, len(piece), self.size):
                time.sleep(self.seconds)
                yield piece[at : at + self.size]


@dataclass(frozen=True, slots=True, kw_only=True)
class Header(Fault):
    """The deed is done; in the answer a header says something else, or nothing when `value` is None."""

    name: str
    value: str | None
    status: int | None = None

    def outgoing(self, answer: Answer) -> Answer:
        """See `Fault`."""
        answer.headers = {key: value for key, value in answer.headers.items() if key.lower() != self.name.lower()}
        if self.value is not None:
            answer.headers[self.name] = self.value
        answer.status = self.status or answer.status
        return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrupts(Fault):
    """One byte is another one: of what arrives, and of what goes out."""

    at: int = 0

    def incoming(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """See `Fault`."""
        return self._changed(pieces)

    def outgoing(self, answer: Answer) -> Answer:
        """See `Fault`."""
        answer.body = self._changed(answer.body)
        return answer

    def _changed(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        seen = 0
        for piece in pieces:
            inside = self.at - seen
            seen += len(piece)
            if 0 <= inside < len(piece):
                yield piece[:inside] + bytes((piece[inside] ^ 1,)) + piece[inside + 1 :]
            else:
                yield piece


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongSize(Fault):
    """The answer's body has `more` bytes more, or less when negative; its `Content-Length` is right for that."""

    more: int

    def outgoing(self, answer: Answer) -> Answer:
        """See `Fault`."""
        assert answer.size is not None
        answer.size += self.more
        answer.body = _first(itertools.chain(answer.body, _zeros()), answer.size)
        return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Endless(Fault):
    """The answer's body does not end; `promised`: its `Content-Length`, None for chunks."""

    promised: int | None = None

    def outgoing(self, answer: Answer) -> Answer:
        """See `Fault`."""
        answer.size = self.promised
        answer.body = itertools.chain(answer.body, _zeros())
        return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Bomb(Fault):
    """The answer's body is `size` zeros, as few bytes with `Content-Encoding: gzip`."""

    size: int = 2**28

    def outgoing(self, answer: Answer) -> Answer:
        """See `Fault`."""
        data = _packed(self.size)
        answer.headers["Content-Encoding"] = "gzip"
        answer.body, answer.size = (data,), len(data)
        return answer


@cache
def _packed(size: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [packer.compress(bytes(min(2**20, size - at))) for at in range(0, size, 2**20)]
    return b"".join((*parts, packer.flush()))


def _zeros() -> Iterator[bytes]:
    return itertools.repeat(bytes(PIECE))


def _first(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    left = size
    rest = iter(pieces)
    # The next piece is asked for only when it is wanted: it may be slow to come.
    while left > 0 and (piece := next(rest, None)) is not None:
        yield piece[:left]
        left -= len(piece)
