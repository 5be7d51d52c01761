"""Journals: lines that are only ever appended, each as `CRC32 LENGTH TEXT`: whether it is whole can be told."""

import os
import zlib

from mlops_keeper.folder import Folder, checked_name
from mlops_keeper.wrong import RefusedError, WrongError

_SUFFIX = ".jsonl"


def names(folder: Folder) -> list[str]:
    """The journals, oldest first: their files are numbered in the order in which they began."""
    return [name.partition(".")[2].removesuffix(_SUFFIX).replace("%", "/") for name in folder.names("journals")]


def read(folder: Folder, journal: str) -> tuple[list[str], bool]:
    """The whole lines before the first mistake, and whether that is more than a last line that was cut off."""
    file = _file(folder, journal)
    lines, _, damaged = _parse(b"" if file is None else folder.read(file) or b"")
    return lines, damaged


def append(folder: Folder, journal: str, line: str, position: int) -> int:
    """Append a line to a journal of `position` lines, under the lock that the caller has; the new count.

    Whatever keeps it from being written whole, the journal is left as it was.
    """
    if "\n" in line:
        raise WrongError("input", "a line of a journal holds no line break")
    file = _file(folder, journal)
    lines, end, damaged = _parse(b"" if file is None else folder.read(file) or b"")
    if damaged:
        raise WrongError("state", f"the journal `{journal}` is damaged after line {len(lines)}")
    if len(lines) != position:
        raise RefusedError(f"the journal `{journal}` has {len(lines)} lines, not {position}")
    _write(folder, file or _new(folder, journal), end, _frame(line), fresh=file is None)
    return position + 1


def _write(folder: Folder, file: str, end: int, frame: bytes, *, fresh: bool) -> None:
    try:
        descriptor = os.open(folder.path(file), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _extend(descriptor, end, frame)
        finally:
            os.close(descriptor)
        if fresh:
            folder.flush_names(folder.path("journals"))
    except OSError as error:
        raise WrongError("state", f"`{file}` cannot be written: {(error.strerror or str(error)).lower()}") from error


def _extend(descriptor: int, end: int, frame: bytes) -> None:
    os.ftruncate(descriptor, end)
    try:
        done = 0
        while done < len(frame):
            done += os.pwrite(descriptor, frame[done:], end + done)
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, end)
        raise


def _frame(line: str) -> bytes:
    text = line.encode()
    body = b"%d %s" % (len(text), text)
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _parse(data: bytes) -> tuple[list[str], int, bool]:
    """The whole lines, where they end, and whether what follows is more than a line that was cut off."""
    lines, end = [], 0
    while end < len(data):
        stop = data.find(b"\n", end)
        if stop < 0:
            return lines, end, False
        line = _unframed(data[end:stop])
        if line is None:
            return lines, end, True
        lines.append(line)
        end = stop + 1
    return lines, end, False


def _unframed(frame: bytes) -> str | None:
    check, _, body = frame.partition(b" ")
    length, _, text = body.partition(b" ")
    if check != b"%08x" % zlib.crc32(body) or length != b"%d" % len(text):
        return None
    return text.decode(errors="replace")


def _file(folder: Folder, journal: str) -> str | None:
    ending = f".{checked_name(journal)}{_SUFFIX}"
    for file in folder.names("journals"):
        number, dot, rest = file.partition(".")
        if dot + rest == ending and number.isdigit():
            return f"journals/{file}"
    return None


def _new(folder: Folder, journal: str) -> str:
    last = max((int(file.partition(".")[0]) for file in folder.names("journals")), default=0)
    return f"journals/{last + 1:08}.{checked_name(journal)}{_SUFFIX}"
