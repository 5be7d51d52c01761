"""The course of a release as the driver's witness hears it: which step stands where, what is waited for, the slots."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal

import click

from mlops_deploy.cli.status_text import span
from mlops_deploy.errors import UnusableInputError
from mlops_deploy.oci.names import printable
from mlops_deploy.release.acts import limit
from mlops_deploy.release.effects import (
    Answer,
    AppendLine,
    CommitRoute,
    Committed,
    Effect,
    Lines,
    ReadJournal,
    Tell,
    Written,
)
from mlops_deploy.release.journal import (
    Advanced,
    Began,
    Done,
    Ended,
    Entry,
    HeldBack,
    Interrupted,
    Opened,
    Taken,
    Turned,
    from_line,
)
from mlops_deploy.release.plan import Plan
from mlops_deploy.release.state import SLOTS, Artefact, Route, RouterView, Slot, SlotView
from mlops_deploy.release.steps import Step, describe

RowState = Literal["waiting", "running", "done", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One step: `began` in seconds since 1970, `limit` the seconds that it may take."""

    text: str
    limit: float
    state: RowState = "waiting"
    began: float | None = None
    seconds: float = 0.0
    note: str = ""
    back: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotLine:
    """One slot: `live`, `candidate` or `parked`, what it holds, its state, and its share of 10,000 requests."""

    slot: Slot
    role: str
    version: str
    state: str
    share: int


@dataclass(slots=True)
class Course:
    """Where a release stands, fed with every effect and its answer."""

    release: str = ""
    plan: Plan | None = None
    rows: list[Row] = field(default_factory=list)
    route: Route = field(default_factory=lambda: Route(closed=True))
    views: dict[Slot, SlotView] = field(default_factory=dict)
    turned: str = ""
    """Why the release turned back."""

    def hear(self, effect: Effect, answer: Answer) -> Entry | None:
        """Take one effect in; the journal's entry when that is what was written."""
        match effect, answer:
            case AppendLine(line=line), Written():
                entry = from_line(line, 0)
                self._follow(entry)
                return entry
            case ReadJournal(), Lines(lines=lines, damaged=False) if not self._begun:
                self._catch_up(lines)
            case CommitRoute(route=route), Committed():
                self.route = route
            case _, RouterView(route=route):
                self.route = route
            case _, SlotView(slot=slot):
                self.views[slot] = answer
            case Tell(text=text), _:
                self._change_running(lambda row: replace(row, note=legible(text)))
            case _:
                pass
        return None

    @property
    def running(self) -> Row | None:
        """The step that is being taken."""
        return next((row for row in self.rows if row.state == "running"), None)

    def slots(self) -> list[SlotLine]:
        """Both slots as they were last seen."""
        return [self._slot_line(slot) for slot in SLOTS]

    def version(self, key: str | None) -> str:
        """The model behind the key of an artefact, as people name it."""
        artefact = self._artefact(key)
        return artefact.version if artefact else "unknown" if key else "-"

    @property
    def before(self) -> str | None:
        """What was live when the release began, None when nothing was."""
        live = self.plan.base.route.live if self.plan else None
        key = self._planned_key(live) if live else None
        return self.version(key) if key else None

    @property
    def _begun(self) -> bool:
        return bool(self.rows) and any(row.state != "waiting" for row in self.rows)

    def _catch_up(self, lines: tuple[str, ...]) -> None:
        with suppress(UnusableInputError, IndexError):  # whether a journal can be gone on with is not decided here
            for number, line in enumerate(lines):
                self._follow(from_line(line, number))

    def _follow(self, entry: Entry) -> None:
        match entry:
            case Opened(plan=plan, release=release):
                self.release, self.plan, self.turned = release, plan, ""
                self.rows = [_row(planned.step) for planned in plan.steps]
                self.route = plan.base.route
            case Began(at=at, undo=False, index=index):
                self._set(index, state="running", began=at, note="")
            case Began(at=at, index=index, part=part):
                # One that another process had begun is begun anew.
                self.rows = [row for row in self.rows if not row.back or row.state == "done"]
                self.rows.append(replace(self._undo(index, part), state="running", began=at, back=True))
            case Done(undo=False, index=index, evidence=note, seconds=seconds):
                self._set(index, state="done", note=legible(note), seconds=seconds)
            case Done(evidence=note, seconds=seconds):
                self._change_running(lambda row: replace(row, state="done", note=legible(note), seconds=seconds))
            case Turned(at=at, reason=reason):
                self.turned = legible(reason)
                self._fail(at)
            case Advanced(index=index):
                self._set(index, state="done", note="decided")
            case HeldBack(at=at, index=index):
                self._set(index, state="running", began=at)
            case Interrupted() | Taken() | Ended():
                pass

    def _fail(self, at: float) -> None:
        self._change_running(
            lambda row: replace(row, state="failed", note="", seconds=max(0.0, at - (row.began or at)))
        )

    def _set(
        self, index: int, *, state: RowState, note: str = "", began: float | None = None, seconds: float = 0.0
    ) -> None:
        if index < len(self.rows):
            row = self.rows[index]
            began = row.began if began is None else began
            self.rows[index] = replace(row, state=state, note=note, began=began, seconds=seconds)

    def _change_running(self, change: Callable[[Row], Row]) -> None:
        for index, row in enumerate(self.rows):
            if row.state == "running":
                self.rows[index] = change(row)

    def _undo(self, index: int, part: int) -> Row:
        undo = self.plan.steps[index].undo if self.plan else ()
        return _row(undo[part])

    def _artefact(self, key: str | None) -> Artefact | None:
        artefacts = self.plan.artefacts if self.plan else ()
        return next((artefact for artefact in artefacts if artefact.key == key), None)

    def _slot_line(self, slot: Slot) -> SlotLine:
        view = self.views.get(slot)
        key = view.key if view else self._planned_key(slot)
        return SlotLine(
            slot=slot,
            role=self._role(slot, key),
            version=self.version(key),
            state=view.state if view else "",
            share=self.route.weight(slot),
        )

    def _planned_key(self, slot: Slot) -> str | None:
        if self.plan is None:
            return None
        return (self.plan.base.b if slot == "b" else self.plan.base.a).key

    def _role(self, slot: Slot, key: str | None) -> str:
        if key is None:
            return "empty"
        if self.route.weight(slot):
            return "live"
        return "candidate" if self.plan and key == self.plan.candidate else "parked"


def headline(course: Course) -> str:
    """Which release this is: from what, to what, how and where."""
    plan = course.plan
    if plan is None:
        return f"release {course.release}"
    after = course.version(plan.candidate)
    change = f"{course.before} -> {after}" if course.before else f"{after} (nothing was live)"
    where = f"{plan.strategy} on {plan.target}"
    return f"release {course.release}: {plan.project}: {change}, {where}, slot {plan.slot}"


def elapsed(row: Row, now: float) -> str:
    """For how long a step has been going on, and of how long it may."""
    took = max(0.0, now - row.began) if row.began is not None else 0.0
    return f"{took:.0f} s of {span(row.limit)}"


def legible(text: str) -> str:
    """Text of servers and of other people as one line that no terminal obeys."""
    return printable(click.unstyle(text))


def _row(step: Step) -> Row:
    return Row(text=describe(step), limit=limit(step))
