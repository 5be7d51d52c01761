"""What the holder of the lease may do: write the journal and the router, and go on holding the lease meanwhile."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from mlops_deploy.errors import LockedError, UnreachableError
from mlops_deploy.release import lease as leases
from mlops_deploy.release.codec import encode
from mlops_deploy.release.effects import (
    Answer,
    AppendLine,
    Broken,
    CommitRoute,
    Committed,
    Lost,
    Refused,
    Tell,
    Written,
)
from mlops_deploy.release.exchange import BREATH, PATIENCE, BrokenWorldError, Run, clock, lines, put, rest, stored
from mlops_deploy.release.journal import Ended, Entry, to_line
from mlops_deploy.release.lease import Lease
from mlops_deploy.release.observe import FREEZE
from mlops_deploy.release.state import Artefact, Freeze, Route
from mlops_deploy.spec.deploy import JsonValue

_TRIES: Final = 3


@dataclass(slots=True, kw_only=True)
class Session:
    """One holder's work on one release. Its writes are refused by the ledger as soon as another holder took over."""

    release: str
    lease: Lease
    index: int
    renewed: float
    artefacts: Mapping[str, Artefact] = field(default_factory=dict)
    position: int = 0
    closed: bool = False
    """Whether the journal's last line is its end, after which nothing is written."""

    switch: float | None = None
    """Seconds from the last commit of a route to the first answer that shows it; None while nothing was committed."""

    @property
    def token(self) -> int:
        """The fencing token that every write carries."""
        return self.lease.token

    def rest(self, seconds: float) -> Run[None]:
        """Wait, and keep the lease alive; raise `InterruptedByUserError` when the user asks to stop."""
        yield from rest(seconds)
        yield from self.keep()

    def keep(self) -> Run[None]:
        """Renew the lease when it is due; on return it is ours for as long as a renewal is late or longer.

        Raises `LockedError` when somebody else took it, `UnreachableError` when writing it takes too long.
        """
        for _ in range(_TRIES):
            time = yield from clock()
            if time.elapsed - self.renewed < leases.RENEWAL:
                return
            yield from self._renew(time.elapsed)
        raise UnreachableError("the ledger takes too long to write the lease")

    def fence(self) -> Run[None]:
        """Take a new token, so that nothing which was sent before can still take effect."""
        time = yield from clock()
        yield from self._renew(time.elapsed, self.token + 1)

    def _renew(self, elapsed: float, token: int | None = None) -> Run[None]:
        self.lease, self.index = yield from leases.renew(self.lease, self.index, token=token)
        self.renewed = elapsed

    def let_go(self) -> Run[None]:
        """Free the lease."""
        yield from leases.let_go(self.lease, self.index)

    def tell(self, text: str) -> Run[None]:
        """Say what is being waited for."""
        yield Tell(text=text)

    def record(self, entry: Entry) -> Run[None]:
        """Append to the journal, exactly once, and durable on return; raise `LockedError` when the lease is lost."""
        line = to_line(entry)
        retried, patience = False, PATIENCE
        while True:
            effect = AppendLine(journal=self.release, line=line, position=self.position, token=self.token)
            answer = _checked((yield effect))
            if isinstance(answer, Refused) and answer.fenced and not retried:
                yield from self._reclaim()
                retried = True
                continue
            if not isinstance(answer, Written) and not (yield from self._is_last(line, answer)):
                patience = yield from self._waited(answer, patience)
                continue
            self.position += 1
            self.closed = isinstance(entry, Ended)
            return

    def _is_last(self, line: str, answer: Answer) -> Run[bool]:
        """Whether the journal ends with `line` where it should; raise when somebody else wrote there."""
        if isinstance(answer, Refused) and answer.fenced:
            raise leases.lost(None)
        found = (yield from lines(self.release)).lines
        if len(found) == self.position:
            return False
        if len(found) == self.position + 1 and found[-1] == line:
            return True
        raise leases.lost(leases.holder_of((yield from stored(leases.KEY))))

    def commit(self, route: Route, generation: int) -> Run[bool]:
        """Write `route` over `generation`, once; False when it has to be looked at again.

        Raises `LockedError` when the lease is lost.
        """
        answer = _checked((yield CommitRoute(route=route, generation=generation, token=self.token)))
        if isinstance(answer, Refused) and answer.fenced:
            yield from self._reclaim()
        return isinstance(answer, Committed)

    def put(self, key: str, value: JsonValue) -> Run[None]:
        """Write a key of the ledger, whatever it held; raise `LockedError` when the lease is lost."""
        for _ in range(2):
            found = yield from stored(key)
            if found.value == value:
                return
            answer = yield from put(key, value, found.index, self.token)
            if isinstance(answer, Written):
                return
            yield from self._reclaim()
        raise leases.lost(leases.holder_of((yield from stored(leases.KEY))))

    def freeze(self, freeze: Freeze) -> Run[None]:
        """Freeze the service; a freeze that stands is left alone. Raises `LockedError` when the lease is lost.

        The ledger takes this key from anybody, so the lease is looked at before, and afterwards once more: what was
        written too late is taken away again.
        """
        found = yield from stored(FREEZE)
        if found.value is not None:
            return
        yield from self._reclaim()
        answer = yield from put(FREEZE, encode(freeze), found.index, self.token)
        try:
            yield from self._reclaim()
        except LockedError:
            if isinstance(answer, Written):
                yield from put(FREEZE, None, answer.index, self.token)
            raise

    def _reclaim(self) -> Run[None]:
        """A lease that expired while we slept is taken up again, if nobody else took it."""
        time = yield from clock()
        yield from self._renew(time.elapsed)

    def _waited(self, answer: Answer, patience: float) -> Run[float]:
        if patience <= 0:
            raise UnreachableError(answer.reason if isinstance(answer, Lost) else "the ledger does not take a line")
        yield from rest(BREATH)
        return patience - BREATH


def _checked(answer: Answer) -> Answer:
    if isinstance(answer, Broken):
        raise BrokenWorldError(answer)
    return answer
