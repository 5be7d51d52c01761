"""The journal of a release: entries that are only ever appended, and where a release stands after them.

The intent of a step is written before it acts and its result after it was observed, so that whoever reads the journal
after a crash knows what may have been done and what certainly was.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, cast

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.release.codec import decode_any, encode
from mlops_deploy.release.plan import Plan
from mlops_deploy.release.state import Counters

Phase = Literal["forward", "back", "held", "ended"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The router's counters at one moment, by lane; `started` names the proxy's run they belong to."""

    started: str
    a: Counters
    b: Counters
    entry: Counters


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A release begins: its plan, who runs it, and what the router had counted."""

    at: float
    release: str
    holder: str
    token: int
    plan: Plan
    tally: Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Began:
    """The step `index` is about to act; with `undo`, its `part`-th undo step is."""

    at: float
    index: int
    undo: bool = False
    part: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The step was observed to hold; `evidence` says by what. `switch` in seconds, where a route was committed."""

    at: float
    index: int
    undo: bool = False
    part: int = 0
    seconds: float = 0.0
    evidence: str = ""
    switch: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """The release turns back: the reason, the last lines of what failed, whether requests had been exposed.

    `overdue` when no decision came in time.
    """

    at: float
    index: int
    reason: str
    lines: tuple[str, ...] = ()
    exposed: bool = False
    overdue: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBack:
    """The lease was let go at step `index`, which waits for a decision until `until`."""

    at: float
    index: int
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Advanced:
    """The decision that the hold at `index` waited for."""

    at: float
    index: int
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted:
    """The holder was asked to stop, and let go of the lease; traffic stays as committed."""

    at: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Another holder goes on."""

    at: float
    holder: str
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The end: the exit code, why, and what the router had counted."""

    at: float
    code: int
    reason: str
    tally: Tally | None = None


Entry = Opened | Began | Done | Turned | HeldBack | Advanced | Interrupted | Taken | Ended


LONGEST: Final = 500
"""Characters of one text in a journal: whatever a server says, a line of a journal can be written."""

MOST_LINES: Final = 40


def bounded(text: str) -> str:
    """`text`, or as much of it as a journal takes."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def to_line(entry: Entry) -> str:
    """One entry as one line of JSON, without its end; of long texts their beginning, of many lines the last ones."""
    return json.dumps(encode(_bounded(entry)), separators=(",", ":"), sort_keys=True)


def _bounded(entry: Entry) -> Entry:
    match entry:
        case Turned():
            lines = tuple(bounded(line) for line in entry.lines[-MOST_LINES:])
            return replace(entry, reason=bounded(entry.reason), lines=lines)
        case Interrupted() | Ended():
            return replace(entry, reason=bounded(entry.reason))
        case Done():
            return replace(entry, evidence=bounded(entry.evidence))
        case _:
            return entry


def from_line(line: str, number: int) -> Entry:
    """The entry of line `number`; raise `UnusableInputError` for anything that was not written by `to_line`."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        data = None
    return cast("Entry", decode_any(Entry, data, f"journal line {number + 1}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a release stands: the plan, the next step forward, whether it turned back, and how it ended.

    `at` is the time of the last line. `promoted` from the intent to promote on: what was decided is not taken back.
    """

    opened: Opened
    at: float
    phase: Phase = "forward"
    index: int = 0
    promoted: bool = False
    turned: Turned | None = None
    held: HeldBack | None = None
    began: Began | None = None
    ended: Ended | None = None
    switch: float | None = None

    @property
    def plan(self) -> Plan:
        """The plan that is being carried out."""
        return self.opened.plan


def standing(entries: Sequence[Entry]) -> Standing | None:
    """Where the release stands after `entries`; None when it never began, which changed nothing."""
    if not entries or not isinstance(entries[0], Opened):
        return None
    state = Standing(opened=entries[0], at=entries[0].at)
    for entry in entries[1:]:
        state = replace(_after(state, entry), at=entry.at)
    return state


def _after(state: Standing, entry: Entry) -> Standing:  # noqa: PLR0911 - one return for each entry
    plan = state.opened.plan
    match entry:
        case Began(index=index) | Done(index=index) | HeldBack(index=index) | Advanced(index=index) if not (
            0 <= index < len(plan.steps)
        ):
            raise UnusableInputError(f"the plan has no step {index}")
        case Began(undo=False, index=index):
            promoted = state.promoted or index == plan.point_of_no_return
            return replace(state, began=entry, index=index, promoted=promoted)
        case Began():
            return replace(state, began=entry)
        case Done(undo=False, index=index, switch=switch):
            switch = state.switch if switch is None else switch
            return replace(state, began=None, index=index + 1, switch=switch)
        case Turned():
            return replace(state, phase="back", turned=entry, began=None)
        case HeldBack(index=index):
            return replace(state, phase="held", held=entry, index=index)
        case Advanced(index=index):
            return replace(state, phase="forward", held=None, index=index + 1)
        case Ended():
            return replace(state, phase="ended", ended=entry, began=None)
        case _:
            return state
