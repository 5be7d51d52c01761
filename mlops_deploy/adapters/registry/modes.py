"""How a registry takes large blobs: found out once, and remembered for some days."""

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from threading import Lock
from typing import Final, Literal, Self

_MIB: Final = 2**20
_DAYS: Final = 7 * 24 * 3600.0
_LARGEST_FILE: Final = 2**20
_MOST_HOSTS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """A way to send a blob.

    `stream`: one PATCH of known length; `unsized`: one PATCH without a length; `chunked`: PATCHes of `chunk` bytes;
    `whole`: one PUT, when the digest is known.
    """

    kind: Literal["stream", "unsized", "chunked", "whole"]
    chunk: int = 0


STREAM: Final = Mode(kind="stream")
UNSIZED: Final = Mode(kind="unsized")
WHOLE: Final = Mode(kind="whole")
_CHUNKS: Final = (96 * _MIB, 32 * _MIB, 8 * _MIB)
_RANGE_NOT_SATISFIABLE: Final = 416


def easier(mode: Mode, status: int | None) -> Mode | None:
    """The mode to try when a registry refused `mode` with `status`, None for a connection that broke; None at the end.

    A registry that takes no PATCH with a length says 416 to it.
    """
    match mode.kind:
        case "stream" if status == _RANGE_NOT_SATISFIABLE:
            return UNSIZED
        case "stream" | "unsized":
            return Mode(kind="chunked", chunk=_CHUNKS[0])
        case "chunked":
            smaller = next((size for size in _CHUNKS if size < mode.chunk), None)
            return WHOLE if smaller is None else Mode(kind="chunked", chunk=smaller)
        case "whole":
            return None


def teaches(mode: Mode, status: int | None, size: int) -> bool:
    """Whether it is worth remembering that a blob of `size` bytes needed `mode` after it had met `status`.

    A bad network and a bad hour are no property of a registry, and a small blob has no smaller requests to try.
    """
    match status:
        case 405 | 411 | 416 | 501:
            return True
        case 400 | 413:
            return size > _CHUNKS[-1]
        case _:
            return status is not None and mode.kind == "chunked"


class Modes:
    """The modes that worked, by host, in a small file; one that cannot be read or written is as none.

    `path` is a file; with None nothing is kept.
    """

    def __init__(self, path: Path | None, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._now = now
        self._lock = Lock()
        self._known = self._read()

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """In `$XDG_CACHE_HOME/mlops-deploy`; a relative one does not count, says the base directory specification."""
        configured = Path(environ.get("XDG_CACHE_HOME") or ".")
        home = environ.get("HOME")
        folder = configured if configured.is_absolute() else Path(home) / ".cache" if home else None
        return cls(folder / "mlops-deploy" / "registries.json" if folder else None)

    def mode(self, host: str) -> Mode:
        """What worked last, or the best there is."""
        with self._lock:
            found = self._known.get(host)
            return found[0] if found and found[1] > self._now() else STREAM

    def learn(self, host: str, mode: Mode) -> None:
        """`mode` worked after others had not."""
        with self._lock:
            self._known[host] = (mode, self._now() + _DAYS)
            with suppress(OSError):
                self._write()

    def _read(self) -> dict[str, tuple[Mode, float]]:
        try:
            if self._path is None or self._path.stat().st_size > _LARGEST_FILE:
                return {}
            hosts = json.loads(self._path.read_bytes())["hosts"]
            return {str(host): _entry(entry) for host, entry in hosts.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}

    def _write(self) -> None:
        if self._path is None:
            return
        live = [(host, known) for host, known in self._known.items() if known[1] > self._now()][-_MOST_HOSTS:]
        document = {"hosts": {host: {**asdict(mode), "until": until} for host, (mode, until) in live}}
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=self._path.parent, prefix=".registries-", delete=False) as file:
            try:
                json.dump(document, file)
                file.flush()
                os.replace(file.name, self._path)  # noqa: PTH105 - the name of the open file is a string
            except BaseException:
                os.unlink(file.name)  # noqa: PTH108
                raise


def _entry(entry: Mapping[str, object]) -> tuple[Mode, float]:
    kind, chunk, until = entry["kind"], entry["chunk"], entry["until"]
    if not isinstance(chunk, int) or not isinstance(until, float | int):
        raise TypeError("no entry")
    match kind:
        case "stream" | "unsized" | "whole":
            return Mode(kind=kind), float(until)
        case "chunked" if chunk in _CHUNKS:
            return Mode(kind=kind, chunk=chunk), float(until)
        case _:
            raise ValueError("no mode")
