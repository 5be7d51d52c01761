"""The standard streams as commands need them: a story that nobody hears is no error, a lost result is one."""

import errno
import fcntl
import io
import os
import sys
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Final

from mlops_deploy.errors import DeployError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


_LOST: Final = "the result cannot be written to stdout"
_CLOSED: Final = "it is closed"
_HINT: Final = "give stdout a place that can be written, and run this again"


def prepare_streams() -> None:
    """Make closed streams harmless, let stderr swallow what it cannot write, and stdout name what it cannot.

    A closed one must not be left closed: the next file that is opened would take its number, and its output.
    """
    for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr)):
        if stream is None:
            _occupy(number)
    sys.stdout = _text(_Result, 1, sys.stdout)
    sys.stderr = _text(_Story, 2, sys.stderr)


def require_stdout() -> None:
    """Raise `LostResultError` when stdout is closed, for those who would find that out late."""
    if fcntl.fcntl(1, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise LostResultError(f"{_LOST}: {_CLOSED}", hint=_HINT)


def drop_stdout() -> None:
    """Send what is left for stdout nowhere: flushing it at the end would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def colorful() -> bool:
    """Whether the user lets us colour what a terminal shows: https://no-color.org, and terminals that cannot."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class LostResultError(DeployError):
    """What the command was to print cannot be written: a full disk, a closed stream."""


class _Story(io.FileIO):
    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


class _Result(io.FileIO):
    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            reason = _CLOSED if error.errno == errno.EBADF else os.strerror(error.errno or 0).lower()
            raise LostResultError(f"{_LOST}: {reason}", hint=_HINT) from error


def _occupy(number: int) -> None:
    # For reading, so that writing to it fails.
    found = os.open(os.devnull, os.O_RDONLY)
    if found != number:
        os.dup2(found, number)
        os.close(found)


def _text(kind: Callable[..., io.FileIO], number: int, before: IO[str] | None) -> io.TextIOWrapper:
    encoding, errors = (getattr(before, name, None) for name in ("encoding", "errors"))
    raw = kind(number, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=encoding,
        errors=errors or ("backslashreplace" if number == 2 else None),  # noqa: PLR2004 - stderr
        line_buffering=number == 2 or raw.isatty(),  # noqa: PLR2004 - stderr
    )
