"""What has happened: every release from its own journal, also those that ended badly, or cannot be read any more."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from mlops_deploy.api.drive import World, drive
from mlops_deploy.api.report import Traffic, counted
from mlops_deploy.api.service import Service, find_keeper, world_on
from mlops_deploy.api.status import looking
from mlops_deploy.errors import UnusableInputError
from mlops_deploy.release.effects import Lines
from mlops_deploy.release.journal import Advanced, Entry, Interrupted, Standing, Taken, from_line, standing
from mlops_deploy.release.observe import current
from mlops_deploy.release.plan import Plan

End = Literal[
    "released", "aborted", "reverted", "ended", "held", "open", "unfinished", "never began", "damaged", "lost"
]

_ENDS: Final[dict[int, End]] = {0: "released", 4: "aborted", 5: "reverted"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One release. What its journal does not say (any more) is None; times in seconds, `at` since 1970.

    `before` and `after` are versions; `traffic` is what the router counted from its beginning to its end, None with a
    reason in `uncounted`; `takers` are those who went on with it after it was left, `advancers` those who decided so.
    """

    release: str
    end: End
    at: float | None = None
    by: str | None = None
    strategy: str | None = None
    before: str | None = None
    after: str | None = None
    code: int | None = None
    reason: str | None = None
    seconds: float | None = None
    switch: float | None = None
    traffic: Traffic | None = None
    uncounted: str | None = None
    interrupted: int = 0
    takers: tuple[str, ...] = ()
    advancers: tuple[str, ...] = ()


def history(service: Service, count: int) -> tuple[Record, ...]:
    """The last `count` releases, newest first; none when nothing has been released yet."""
    keeper = find_keeper(service)
    if keeper is None:
        return ()
    with world_on(service, keeper):
        return _records(looking(service, keeper), count)


def _records(world: World, count: int) -> tuple[Record, ...]:
    names = world.keeper.journals()
    last = drive(current(), world)
    lost = () if last is None or last in names else (Record(release=last, end="lost", reason="its journal is gone"),)
    found = (record_of(name, world.keeper.read(name), is_last=name == last) for name in reversed(names[-count:]))
    return (*lost, *found)[:count]


def record_of(release: str, found: Lines, *, is_last: bool) -> Record:
    """What the journal of `release` says; `is_last` when it is the one that may still be open."""
    entries, trouble = _entries(found)
    state = standing(entries)
    if state is None:
        if trouble is None:
            return Record(release=release, end="never began", reason="it ended before anything was changed")
        return Record(release=release, end="damaged", reason=trouble)
    plan, turned = state.plan, state.turned
    ended = state.ended
    traffic = counted(state.opened.tally, ended.tally) if ended and ended.tally else None
    return Record(
        release=release,
        end="damaged" if trouble else _end(state, is_last=is_last),
        at=state.opened.at,
        by=state.opened.holder,
        strategy=plan.strategy,
        before=_before(plan),
        after=_version(plan, plan.candidate),
        code=ended.code if ended else None,
        reason=trouble or (turned.reason if turned else None),
        seconds=max(0.0, ended.at - state.opened.at) if ended else None,
        switch=state.switch,
        traffic=traffic,
        uncounted="the router was started anew meanwhile" if ended and ended.tally and traffic is None else None,
        interrupted=sum(isinstance(entry, Interrupted) for entry in entries),
        takers=_takers(entries),
        advancers=tuple(entry.by for entry in entries if isinstance(entry, Advanced)),
    )


def _entries(found: Lines) -> tuple[Sequence[Entry], str | None]:
    """What can be read from the beginning on, and why it ends before the journal does."""
    entries: list[Entry] = []
    for number, line in enumerate(found.lines):
        try:
            entries.append(from_line(line, number))
        except UnusableInputError as error:
            return entries, error.message
    return entries, "a line of it is damaged" if found.damaged else None


def _takers(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Who took it up; whoever only made the decision that it waited for did not."""
    after = [*entries[1:], None]
    pairs = zip(entries, after, strict=True)
    return tuple(one.holder for one, then in pairs if isinstance(one, Taken) and not isinstance(then, Advanced))


def _end(state: Standing, *, is_last: bool) -> End:
    if state.ended is not None:
        return _ENDS.get(state.ended.code, "ended")
    if not is_last:
        return "unfinished"
    return "held" if state.phase == "held" else "open"


def _before(plan: Plan) -> str | None:
    slot = plan.base.route.live
    held = plan.base.a if slot == "a" else plan.base.b if slot == "b" else None
    return _version(plan, held.key) if held and held.key else None


def _version(plan: Plan, key: str) -> str | None:
    return next((artefact.version for artefact in plan.artefacts if artefact.key == key), None)
