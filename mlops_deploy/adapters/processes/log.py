"""A log that never grows beyond a bound: the newest lines in one file, those before them in a second."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import BinaryIO, Final

BOUND: Final = 2**20
"""Bytes of each of the two files."""

_PAUSE: Final = 0.1


class BoundedLog:
    """Takes lines into a new log at `path`; what was logged there before is gone."""

    def __init__(self, path: Path) -> None:
        self._path: Final = path
        _before(path).unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        self._file = path.open("ab", buffering=0)

    def __call__(self, line: str, /) -> None:
        """Take one line."""
        if self._file.closed:
            return  # a grandchild may go on after its task
        self._file.write(line.encode(errors="replace") + b"\n")
        if self._file.tell() > BOUND:
            self._file.close()
            self._path.replace(_before(self._path))
            self._file = self._path.open("ab", buffering=0)

    def close(self) -> None:
        """Take no more lines."""
        self._file.close()


def read_log(path: Path, tail: int, goes_on: Callable[[], bool]) -> Iterator[str]:
    """The last `tail` lines of the log at `path`, then every new one, also of a log begun anew, while it `goes_on`."""
    with closing(_Reader(path)) as log:
        *lines, rest = (_content(_before(path)) + log.read()).split(b"\n")
        yield from map(_text, lines[-tail:] if tail > 0 else ())
        while goes_on():
            time.sleep(_PAUSE)
            *lines, rest = (rest + log.read()).split(b"\n")
            yield from map(_text, lines)


class _Reader:
    """Reads what is appended to a file, and goes on with the next file of its name."""

    def __init__(self, path: Path) -> None:
        self._path: Final = path
        self._file: BinaryIO | None = None

    def read(self) -> bytes:
        """What is new since the last time."""
        data = self._file.read() if self._file else b""
        with suppress(FileNotFoundError):
            if not self._current(self._path.stat()):
                self.close()
                self._file = self._path.open("rb")
                data += self._file.read()
        return data

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    def _current(self, there: os.stat_result) -> bool:
        return self._file is not None and os.path.samestat(os.fstat(self._file.fileno()), there)


def _before(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")


def _content(path: Path) -> bytes:
    with suppress(FileNotFoundError):
        return path.read_bytes()
    return b""


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r")
