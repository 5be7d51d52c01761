"""Protocol buffers, read field by field as they pass; what is not asked for is passed over, however large."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Final

from mlops_deploy.compat.reader import Skip, Wanted

_MOST_FIELDS: Final = 10_000
_LONGEST: Final = 10


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of a field: its number, and its value or, of bytes that follow, their size."""

    number: int
    value: int
    follows: bool


class Budget:
    """How many fields a file may have that somebody looks at."""

    def __init__(self) -> None:
        self._left = _MOST_FIELDS

    def spend(self) -> None:
        """Raise `ValueError` when there are too many."""
        self._left -= 1
        if not self._left:
            raise ValueError("too many fields")


def next_field(budget: Budget) -> Generator[Wanted, bytes, Head | None]:
    """The next field, fixed ones passed over; None at the end. Raises `ValueError` for what is none."""
    while (tag := (yield from _varint(may_end=True))) is not None:
        budget.spend()
        match tag & 7:
            case 0:
                return Head(tag >> 3, (yield from _some()), follows=False)
            case 2:
                return Head(tag >> 3, (yield from _some()), follows=True)
            case 1:
                yield Skip(8)
            case 5:
                yield Skip(4)
            case _:
                raise ValueError("no such kind of field")
    return None


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The numbers and values of a whole message."""
    at, budget = 0, Budget()
    while at < len(data):
        budget.spend()
        tag, at = _value(data, at)
        match tag & 7:
            case 0:
                value, at = _value(data, at)
                yield tag >> 3, value
            case 2:
                size, at = _value(data, at)
                if at + size > len(data):
                    raise ValueError("it ends too early")
                yield tag >> 3, data[at : at + size]
                at += size
            case 1:
                at += 8
            case 5:
                at += 4
            case _:
                raise ValueError("no such kind of field")


def _some() -> Generator[Wanted, bytes, int]:
    value = yield from _varint(may_end=False)
    if value is None:
        raise ValueError("it ends too early")
    return value


def _varint(*, may_end: bool) -> Generator[Wanted, bytes, int | None]:
    value = 0
    for place in range(_LONGEST):
        byte = yield 1
        if not byte:
            if may_end and not place:
                return None
            raise ValueError("it ends too early")
        value |= (byte[0] & 0x7F) << (7 * place)
        if byte[0] < 0x80:  # noqa: PLR2004 - the bit that says that more follow
            return value
    raise ValueError("a number is too long")


def _value(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(_LONGEST):
        byte = data[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:  # noqa: PLR2004 - as above
            return value, at + place + 1
    raise ValueError("a number is too long")
