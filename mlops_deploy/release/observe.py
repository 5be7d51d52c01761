"""Looking at a service without changing anything: slots, router, freeze, what was promoted, which release is open."""

from dataclasses import dataclass, replace
from typing import Final, TypeVar

from mlops_deploy.errors import NeedsHumanError, UnusableInputError
from mlops_deploy.release import lease as leases
from mlops_deploy.release.codec import decode
from mlops_deploy.release.exchange import Run, lines, router_view, slot_view, stored
from mlops_deploy.release.journal import Standing, from_line, standing
from mlops_deploy.release.state import Artefact, Freeze, Live, Observed

FREEZE: Final = "freeze"
LIVE: Final = "live"
CURRENT: Final = "release"
"""The key that names the last release that began; its journal says whether it has ended."""

T = TypeVar("T")


def artefact_key(key: str) -> str:
    """Where an artefact is kept."""
    return f"artefact/{key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Who is at work: the lease's holder, if anybody, and the release that has not ended, if any."""

    holder: leases.Lease | None
    holder_age: float
    release: str | None
    open: Standing | None


def observe() -> Run[Observed]:
    """Everything that a strategy may look at."""
    a = yield from slot_view("a")
    b = yield from slot_view("b")
    router = yield from router_view()
    freeze = yield from kept(FREEZE, Freeze)
    live = yield from kept(LIVE, Live)
    keys = {a.key, b.key, live and live.key, live and live.previous} - {None}
    artefacts = {}
    for key in sorted(str(key) for key in keys):
        found = yield from kept(artefact_key(key), Artefact)
        if found is not None:
            artefacts[key] = found
    return Observed(a=a, b=b, router=router, freeze=freeze, live=live, artefacts=artefacts)


def situation() -> Run[Situation]:
    """Who is at work now; raise `NeedsHumanError` when the open release's journal cannot be read."""
    found = yield from stored(leases.KEY)
    release = yield from current()
    open_ = None if release is None else (yield from journal_of(release))
    unended = open_ if open_ is not None and open_.phase != "ended" else None
    held = leases.holder_of(found)
    return Situation(holder=held, holder_age=found.age, release=release, open=unended)


def current() -> Run[str | None]:
    """The id of the last release that began."""
    found = yield from stored(CURRENT)
    return found.value if isinstance(found.value, str) else None


def journal_of(release: str) -> Run[Standing]:
    """Where `release` stands; raise `NeedsHumanError` when its journal is lost or damaged.

    A promotion that was recorded is never taken back, also when the journal has lost the lines that speak of it.
    """
    found = yield from lines(release)
    try:
        state = None if found.damaged else standing([from_line(line, i) for i, line in enumerate(found.lines)])
    except UnusableInputError as error:
        raise _unreadable(release, error.message) from error
    if state is None:
        raise _unreadable(release, "a line of it is damaged" if found.damaged else "it is gone")
    return _recorded(state) if (yield from _is_live(release)) else state


def _is_live(release: str) -> Run[bool]:
    live = yield from kept(LIVE, Live)
    return live is not None and live.release == release


def _recorded(state: Standing) -> Standing:
    """Where a release stands that is recorded as live: at its promotion or later, with what follows left to do."""
    if state.phase in {"back", "ended"} or (state.promoted and state.phase == "forward"):
        return state
    index = max(state.index, state.plan.point_of_no_return)
    return replace(state, phase="forward", promoted=True, index=index, held=None, began=None)


def _unreadable(release: str, why: str) -> NeedsHumanError:
    return NeedsHumanError(
        f"the journal of release `{release}` cannot be read: {why}; traffic stays as committed",
        hint="`mlops-deploy abort` closes the release and leaves the traffic where it is",
    )


def kept(key: str, kind: type[T]) -> Run[T | None]:
    """What the ledger holds under `key`, None when it holds nothing; `UnusableInputError` when it is no `kind`."""
    found = yield from stored(key)
    return None if found.value is None else decode(kind, found.value, key)
