"""Universal Binary JSON as XGBoost writes it, of which only the array under the key `version` is read."""

from typing import Final

_KEY: Final = b"version["
_WIDTHS: Final = {b"i": 1, b"U": 1, b"I": 2, b"l": 4, b"L": 8}
"""Bytes of its integers, by their marks."""

_PARTS: Final = 3


class _CutError(Exception):
    """The bytes end too early, or say something else."""


def last_version(data: bytes) -> str | None:
    """The last such version in `data`, as `3.2.0`; None where there is none, or it is cut."""
    at = data.rfind(_KEY)
    if at < 0:
        return None
    try:
        return ".".join(str(number) for number in _numbers(_Bytes(data, at + len(_KEY))))
    except _CutError:
        return None


class _Bytes:
    """What is left to be read."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at

    def peek(self) -> bytes:
        return self._data[self._at : self._at + 1]

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) < count:
            raise _CutError
        self._at += count
        return taken

    def number(self, mark: bytes) -> int:
        if mark not in _WIDTHS:
            raise _CutError
        return int.from_bytes(self.take(_WIDTHS[mark]), "big")


def _numbers(rest: _Bytes) -> list[int]:
    """The numbers are of one kind, which is said once, or each says its own; so may how many there are."""
    kind = b""
    if rest.peek() == b"$":
        kind = rest.take(2)[1:]
    if rest.peek() == b"#":
        rest.take(1)
        rest.number(rest.take(1))
    return [rest.number(kind or rest.take(1)) for _ in range(_PARTS)]
