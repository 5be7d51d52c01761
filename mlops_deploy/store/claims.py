"""Who copies a model to a volume now: the protocol of `deploy.sh`, claims and a fifo.

A claim is a folder `v/.<content id>.<n>`, where a copy is made. Who may copy holds the fifo `v/.alive` open for
writing. The kernel lets go of it when they die, however they die, so reading the fifo to its end proves that nobody is
at work: only then are claims seen *before* that taken over or removed, and of several that find so only one can make
claim n+1.
Claims only save work, so waiting for one has an end; that no half model is seen rests on the rename alone.
A fifo tells of its own kernel's processes alone: where other machines may write, too, nothing of what is taken over is
used, for it may still be written to after it was verified.
"""

import os
import re
import select
import shutil
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlops_deploy.spec.refs import ContentId
from mlops_deploy.store.volume import Volume, walked

_CLAIM: Final = re.compile(r"\.([0-9a-f]{64})\.([0-9]{1,9})")
_LOOK: Final = 1.0
"""Seconds for which who is at work is waited for at a time."""


@dataclass(frozen=True, slots=True)
class _Seen:
    path: Path
    content: str
    number: int


class Claim:
    """A private folder on the volume, in which a copy is made; the fifo is held open until `release`."""

    def __init__(self, path: Path, alive: int | None) -> None:
        self._alive = alive
        self.path = path
        self.model = path / "model"

    def adopt(self, dead: Sequence[_Seen], content: str | None) -> None:
        """Take over the largest copy that was begun of `content`, and remove all else that the dead have left."""
        for old in sorted(dead, key=lambda one: (one.content != content, -_bytes(one.path / "model"))):
            self.discard(old.path, keep=old.content == content)

    def discard(self, path: Path, *, keep: bool = False) -> None:
        """Remove what is at `path`; with `keep` its `model` becomes ours, where we have none.

        Renamed first: whoever might still use it fails instead of publishing what is left of it.
        """
        old = self.path / "old"
        with suppress(OSError):  # another one may have been faster
            path.rename(old)
            if keep and not self.model.exists() and not (old / "model").is_symlink():
                with suppress(OSError):
                    (old / "model").rename(self.model)
            _remove(old)

    def publish(self, home: Path, found: Callable[[], bool]) -> None:
        """Give the copy its name, by one rename; what is damaged there goes with the claim. Raises `OSError`.

        To remove here what is replaced would keep readers waiting.
        """
        if home.exists() and not found():
            with suppress(OSError):
                home.rename(self.path / "replaced")
        try:
            self.model.rename(home)
        except OSError:
            if not found():
                raise

    def release(self, *, keep: bool = False) -> None:
        """Let others begin; with `keep` what was copied stays for the next one who copies the same model."""
        if not keep or not self.model.exists():
            _remove(self.path)
        if self._alive is not None:
            os.close(self._alive)
            self._alive = None


class Claims:
    """The way of one process to a claim on one model; waits for others at most `patience` times a second."""

    def __init__(self, volume: Volume, content: ContentId, patience: int) -> None:
        self._volume = volume
        self._content = str(content)
        self._patience = patience
        self._waited = self._last = 0

    def taken(self) -> Claim | None:
        """Make a claim, and take over what dead ones of any model have left; None while another copies this model.

        Raises `OSError` when a claim cannot be made, `FileExistsError` when somebody else was faster.
        """
        dead = self._seen()
        last = max((one.number for one in dead if one.content == self._content), default=0)
        if last != self._last:
            self._waited, self._last = 0, last
        if dead and not self._nobody_copies(_LOOK):
            if last and self._has_fifo() and self._waited < self._patience:
                self._waited += 1
                return None
            dead = []
        claim = self._made(last + 1)
        claim.adopt(dead, self._content if self._volume.is_of_one_kernel else None)
        return claim

    def tidied(self) -> None:
        """Remove what dead ones have left, when nobody is at work; does not wait."""
        with suppress(OSError):
            dead = self._seen()
            if dead and os.access(self._volume.versions, os.W_OK) and self._nobody_copies(0.0):
                claim = self._made(max((one.number for one in dead if one.content == self._content), default=0) + 1)
                claim.adopt(dead, None)
                claim.release()

    def _made(self, number: int) -> Claim:
        # The fifo is open before the claim can be seen.
        alive = os.open(self._volume.alive, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC) if self._has_fifo() else None
        path = self._volume.versions / f".{self._content}.{number}"
        try:
            path.mkdir(mode=0o700)
        except OSError:
            if alive is not None:
                os.close(alive)
            raise
        return Claim(path, alive)

    def _seen(self) -> list[_Seen]:
        folder = self._volume.versions
        named = (match for name in os.listdir(folder) if (match := _CLAIM.fullmatch(name)))  # noqa: PTH208 - names alone
        return [_Seen(folder / match[0], match[1], int(match[2])) for match in named]

    def _has_fifo(self) -> bool:
        try:
            return stat.S_ISFIFO(self._volume.alive.lstat().st_mode)
        except OSError:
            return False

    def _nobody_copies(self, look: float) -> bool:
        """Whether nobody has the fifo open for writing; takes up to `look` seconds to say no."""
        if not self._has_fifo():
            return False
        try:
            reading = os.open(self._volume.alive, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return _ended(reading) or (_closed_within(reading, look) and _ended(reading))
        finally:
            os.close(reading)


def _ended(reading: int) -> bool:
    try:
        while os.read(reading, 65536):
            pass
    except BlockingIOError:
        return False
    return True


def _closed_within(reading: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(reading, 0)
    return bool(poll.poll(seconds * 1000))


def _bytes(folder: Path) -> int:
    try:
        return sum(entry.st_size for _, entry in walked(folder))
    except OSError:
        return 0


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
