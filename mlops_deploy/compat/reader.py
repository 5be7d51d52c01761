"""Parsers that read a file as it passes: each asks for what it wants next, and never sees how the bytes were cut.

So what is found depends on the bytes alone, memory on what a parser asks for, and a parser that has returned costs
nothing more.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Final

from mlops_deploy.spec.requires import Sniffed

MOST: Final = 2**20
"""Bytes that a parser may ask for at once."""


@dataclass(frozen=True, slots=True)
class Skip:
    """Pass over so many bytes; what is sent back is empty. A file that ends before raises `EOFError` in the parser."""

    count: int


@dataclass(frozen=True, slots=True)
class Rest:
    """Pass over all that follows; what is sent back are its last bytes, so many or fewer."""

    keep: int


@dataclass(frozen=True, slots=True)
class Peek:
    """Look at so many bytes, which come again: the next thing asked for begins with them."""

    count: int


Wanted = int | Skip | Rest | Peek
"""What a parser yields: a number of bytes (what comes back is shorter only where the file ends), or one of these."""

Parser = Generator[Wanted, bytes, Sniffed]


class Reader:
    """Gives a parser what it asks for, from blocks of any sizes.

    What goes wrong in a parser means that the file is not what it seemed: nothing is known of it then.
    """

    def __init__(self, parser: Parser) -> None:
        self._parser = parser
        self._buffer = bytearray()
        self._wanted: Wanted = 0
        self._passed = 0
        self._result: Sniffed | None = None
        self._send(None)

    @property
    def done(self) -> bool:
        """Whether the parser has seen enough."""
        return self._result is not None

    def feed(self, block: memoryview | bytes) -> None:
        """Take the next bytes; the memory is used again after the return."""
        rest = memoryview(block)
        while rest and self._result is None:
            match self._wanted:
                case Skip(count):
                    rest = self._pass_over(rest, count)
                case Rest(keep):
                    self._buffer += rest[-keep:]
                    del self._buffer[:-keep]
                    return
                case Peek(count):
                    rest = self._collect(rest, count)
                case wanted:
                    rest = self._collect(rest, wanted)

    def found(self) -> Sniffed:
        """What the bytes say, when all have passed; may be asked again."""
        while self._result is None and isinstance(self._wanted, Peek):
            self._deliver()
        if self._result is None and isinstance(self._wanted, Skip):
            self._go_on(lambda: self._parser.throw(EOFError()))
        elif self._result is None:
            self._deliver()
        if self._result is None:
            self._parser.close()
            self._result = Sniffed()
        return self._result

    def _pass_over(self, rest: memoryview, count: int) -> memoryview:
        passed = min(len(rest), count - self._passed)
        self._passed += passed
        if self._passed == count:
            self._send(b"")
        return rest[passed:]

    def _collect(self, rest: memoryview, wanted: int) -> memoryview:
        count = min(len(rest), wanted - len(self._buffer))
        self._buffer += rest[:count]
        if len(self._buffer) == wanted:
            self._deliver()
        return rest[count:]

    def _deliver(self) -> None:
        taken, again = bytes(self._buffer), isinstance(self._wanted, Peek)
        self._buffer.clear()
        self._send(taken)
        if again:
            self.feed(taken)

    def _send(self, data: bytes | None) -> None:
        self._passed = 0
        self._go_on(lambda: next(self._parser) if data is None else self._parser.send(data))

    def _go_on(self, step: Callable[[], Wanted]) -> None:
        try:
            self._wanted = step()
            while self._wanted in (0, Skip(0)):
                self._wanted = self._parser.send(b"")
            if not _may(self._wanted):
                self._result = Sniffed()
        except StopIteration as ended:
            self._result = ended.value
        except Exception:  # noqa: BLE001 - whatever a stranger's file does to a parser, it is no model of that kind
            self._result = Sniffed()


def told(sniffed: Sniffed) -> Parser:
    """A parser that has seen enough already."""
    return sniffed
    yield 0


def _may(wanted: Wanted) -> bool:
    match wanted:
        case Skip(count):
            return count > 0
        case Rest(count) | Peek(count):
            return 0 < count <= MOST
        case count:
            return 0 < count <= MOST
