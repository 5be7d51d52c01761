"""One blob on its way up, in one pass: when a session is lost, another is opened and what was sent is read anew."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from threading import Event, Lock
from typing import Final

from mlops_deploy.adapters.registry.answers import not_believed
from mlops_deploy.adapters.registry.modes import Mode, easier, teaches
from mlops_deploy.adapters.registry.pace import Patience
from mlops_deploy.adapters.registry.place import BreakError, Place
from mlops_deploy.adapters.registry.session import ChangedError, Session
from mlops_deploy.errors import DeployError, UnusableInputError
from mlops_deploy.spec.refs import Digest

_BREAKS: Final = 24
"""How many lost sessions one blob may cost."""

_BEFORE_EASIER: Final = 2
"""How many sessions may break in one mode, at the same place, before an easier one is tried."""

_PROGRESS: Final = 16 * 2**20
_REFUSES_MODE: Final = frozenset({400, 405, 411, 413, 416, 501})
_UNSURE: Final = frozenset({None, 408, 500, 502, 504})
"""Answers that may be to the size of a request as well as to anything else."""

_RANGE_NOT_SATISFIABLE: Final = 416


class HttpUpload:
    """See `ports.Upload`. It sends in the thread that calls; `abort` may come from another."""

    def __init__(self, place: Place, size: int, again: Callable[[], Iterable[bytes]], mode: Mode | None = None) -> None:
        self._place = place
        self._size = size
        self._again = again
        self._mode = mode or place.channel.modes.mode(place.channel.host)
        self._session: Session | None = None
        self._lost: Session | None = None
        self._reached = 0
        self._given_up = Event()
        self._busy = Lock()
        self._patience = self._fresh()
        self._breaks = self._in_mode = self._mark = 0
        self._checked = self._learned = False

    def write(self, block: memoryview) -> None:
        """See `ports.Upload`."""
        if self._reached + len(block) > self._size:
            raise AssertionError("more bytes than the blob has")
        with self._busy:
            if self._mode.kind != "whole":
                with self._dropping():
                    self._insist(lambda session: session.send(block[session.offset - self._reached :]))
            self._reached += len(block)

    def commit(self, digest: Digest) -> None:
        """See `ports.Upload`."""
        if self._reached != self._size:
            raise AssertionError("fewer bytes than the blob has")
        with self._busy, self._dropping():
            self._insist(lambda session: self._close(session, digest), digest)
            self._session = None
        if self._learned:
            self._place.channel.modes.learn(self._place.channel.host, self._mode)

    def abort(self) -> None:
        """See `ports.Upload`."""
        self._given_up.set()
        if (session := self._session) is not None:
            session.cut()
        if self._busy.acquire(timeout=self._place.channel.pace.farewell):
            try:
                self._drop()
            finally:
                self._busy.release()

    def _close(self, session: Session, digest: Digest) -> None:
        if self._mode.kind == "whole":
            session.complete_whole(digest, self._again())
        else:
            session.complete(digest, self._fresh())

    def _insist(self, deed: Callable[[Session], None], digest: Digest | None = None) -> None:
        """Do it, in as many sessions as it takes."""
        while True:
            try:
                self._require_wanted()
                session = self._session or self._begin()
                if self._mode.kind == "whole" and digest is None:
                    return
                deed(session)
            except BreakError as broken:
                self._recover(broken, digest)
            else:
                return

    @contextmanager
    def _dropping(self) -> Iterator[None]:
        """Leave nothing half done behind an error."""
        try:
            yield
        except ChangedError:
            self._drop()
            raise _changed(self._place) from None
        except BaseException:
            self._drop()
            raise

    def _begin(self) -> Session:
        """The session that was lost if it can go on, else a new one; with all in it that has been sent before."""
        lost, self._lost = self._lost, None
        if lost is None or not lost.found_again():
            if lost is not None:
                lost.cancel(self._farewell())
            lost = Session.begin(self._place, self._size, self._mode, self._fresh())
        session = self._session = lost
        if self._mode.kind != "whole":
            self._replay(session)
        return session

    def _replay(self, session: Session) -> None:
        position = 0
        if session.offset >= self._reached:
            return
        with closing(_generator(self._again())) as pieces:
            for piece in pieces:
                end = min(position + len(piece), self._reached)
                self._require_wanted()
                if session.offset < end:
                    session.send(memoryview(piece)[session.offset - position : end - position])
                position = end
                if position == self._reached:
                    return
        raise ChangedError

    def _recover(self, broken: BreakError, digest: Digest | None) -> None:
        """Choose what the next session does otherwise, and wait; raise when there is nothing left to try."""
        self._require_wanted()
        other_bytes = "DIGEST_INVALID" in broken.codes and digest is not None
        if other_bytes and digest is not None:
            self._check_source(digest)
        self._breaks += 1
        if self._reached >= self._mark + _PROGRESS:
            self._mark, self._in_mode, self._patience = self._reached, 0, self._fresh()
        self._in_mode += 1
        session, self._session = self._session, None
        if session is not None:
            session.close()
        changed = not other_bytes and self._ease(broken.status)
        self._lost = session if broken.status is None and not changed else None
        if session is not None and self._lost is None:
            session.cancel(self._farewell())
        if self._breaks >= _BREAKS:
            raise broken.error
        if not (changed or broken.at_once) and not self._patience.again(broken.after):
            raise broken.error

    def _ease(self, status: int | None) -> bool:
        """Take to an easier mode where the one we are in is refused, or breaks time and again."""
        patient = status in _UNSURE or (status == _RANGE_NOT_SATISFIABLE and self._mode.kind == "chunked")
        if status not in _REFUSES_MODE | _UNSURE or (patient and self._in_mode < _BEFORE_EASIER):
            return False
        if status is None and self._mode.kind == "chunked":
            return False
        mode = easier(self._mode, status)
        while mode is not None and mode.chunk >= self._size:
            mode = easier(mode, status)
        if mode is None:
            self._breaks = _BREAKS if status in _REFUSES_MODE else self._breaks
            return False
        self._mode, self._in_mode, self._patience = mode, 0, self._fresh()
        self._learned = teaches(mode, status, self._size)
        return True

    def _check_source(self, digest: Digest) -> None:
        """Tell whose fault it is that the registry counted another digest; only the way there is worth another try."""
        found = sha256()
        for piece in self._again():
            self._require_wanted()
            found.update(piece)
        if found.hexdigest() != digest.hex:
            raise ChangedError
        if self._checked:
            host, step = self._place.channel.host, self._place.step
            raise not_believed(host, f"gets other bytes than it is sent with {step}")
        self._checked = True

    def _drop(self) -> None:
        sessions = [session for session in (self._session, self._lost) if session is not None]
        self._session = self._lost = None
        for session in sessions:
            session.close()
            session.cancel(self._farewell())

    def _require_wanted(self) -> None:
        if self._given_up.is_set():
            raise DeployError(f"{self._place.step} was given up")

    def _fresh(self) -> Patience:
        return Patience(self._place.channel.pace, self._wait)

    def _farewell(self) -> Patience:
        return Patience(self._place.channel.pace, lambda _: None, tries=1)

    def _wait(self, seconds: float) -> bool:
        return self._given_up.wait(seconds)


def _generator(pieces: Iterable[bytes]) -> Generator[bytes, None, None]:
    yield from pieces


def _changed(place: Place) -> UnusableInputError:
    return UnusableInputError(
        f"the source of {place.step} changed while it was sent",
        hint="build again when whatever writes the model has finished",
    )
