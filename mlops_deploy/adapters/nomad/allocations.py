"""From what a cluster says of a slot's job to how the slot is: decided here, without asking anybody."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

from mlops_deploy.adapters.faults import CRASHES, SETTLED, Fault, bootstrap_ended, crashing, starved
from mlops_deploy.adapters.nomad.evaluations import Blocked
from mlops_deploy.adapters.nomad.placement import awaits_volume, may_pass, obstacles
from mlops_deploy.adapters.nomad.slot_job import SlotJob
from mlops_deploy.ports import Task
from mlops_deploy.release.state import SlotState

LASTING: Final = 2.0
"""Seconds after which a job that no node qualifies for counts as unplaceable: a node that has just come up needs a
moment to say which drivers it has."""

PASSING: Final = 6.0
"""The same for a job that finds no room, or no node that is up: these may come."""

CHANGING: Final = 20.0
"""The same while it is known that something changes: a task of ours is ending, or a volume of ours is being made. Less
than a release waits for a slot to be ready, so that the reason is told and not that time is over."""

_REFUSALS: Final = frozenset(
    {"Driver Failure", "Failed Artifact Download", "Failed Validation", "Setup Failure", "Task hook failed"}
)
_REFUSED_TWICE: Final = 2
_PULL: Final = re.compile(r"Failed to pull `(?P<image>[^`]*)`: (?P<why>.*)", re.DOTALL)
_LOCAL: Final = "sha256:"
ACTIVE: Final = frozenset({"pending", "running", "unknown"})
"""What an allocation says of itself as long as anything of it may still run."""

_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What happened to a task, `at` seconds since 1970; `code` and `starved` tell how it ended, where it did."""

    kind: str
    at: float
    text: str
    code: int | None
    starved: bool

    @classmethod
    def read(cls, event: Mapping[str, Any]) -> Self:
        """From the API's form."""
        details = event.get("Details") or {}
        ended = event["Type"] == "Terminated"
        return cls(
            kind=event["Type"],
            at=(event.get("Time") or 0) / _NS,
            text=details.get("driver_error") or event.get("DisplayMessage") or "",
            code=int(details.get("exit_code") or 0) if ended else None,
            starved=ended and details.get("oom_killed") == "true",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRun:
    """A task in an allocation; `started` in seconds since 1970, 0 before it was. The last ten events, oldest first."""

    task: Task
    state: str
    failed: bool
    restarts: int
    started: float
    events: tuple[Event, ...]

    @classmethod
    def read(cls, task: Task, state: Mapping[str, Any]) -> Self:
        """From the API's form."""
        return cls(
            task=task,
            state=state["State"],
            failed=state["Failed"],
            restarts=state["Restarts"],
            started=_seconds(state["StartedAt"]),
            events=tuple(map(Event.read, state["Events"] or ())),
        )

    @property
    def ends(self) -> tuple[Event, ...]:
        """How it ended, each time that is still known."""
        return tuple(event for event in self.events if event.code is not None)

    @property
    def code(self) -> int | None:
        """What it ended with the last time."""
        return self.ends[-1].code if self.ends else None

    @property
    def ended(self) -> float:
        """When it ended the last time."""
        return self.ends[-1].at if self.ends else 0.0

    @property
    def up(self) -> bool:
        """Whether it runs, or is about to be started again."""
        return self.state == "running" or (self.state == "pending" and bool(self.ends))

    def shaky(self, now: float) -> bool:
        """Whether it was started again, and has not run for long since."""
        return self.up and self.restarts > 0 and (self.state != "running" or now - self.started < SETTLED)

    def refusal(self) -> Event | None:
        """What keeps it from starting, once Nomad has given up or has met it twice."""
        last = max((i for i, event in enumerate(self.events) if event.kind == "Started"), default=-1)
        met = [event for event in self.events[last + 1 :] if event.kind in _REFUSALS]
        return met[-1] if met and (self.failed or len(met) >= _REFUSED_TWICE) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """One allocation of a slot's job; `version` is the job's that it runs, `created` in seconds since 1970."""

    id: str
    node: str
    version: int
    wanted: bool
    status: str
    description: str
    created: float
    order: int
    bootstrap: TaskRun | None
    server: TaskRun | None

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> Self:
        """From the API's form in a list."""
        states = found.get("TaskStates") or {}
        return cls(
            id=found["ID"],
            node=found["NodeName"],
            version=found["JobVersion"],
            wanted=found["DesiredStatus"] == "run",
            status=found["ClientStatus"],
            description=found.get("ClientDescription") or "",
            created=found["CreateTime"] / _NS,
            order=found["CreateIndex"],
            bootstrap=TaskRun.read("bootstrap", states["bootstrap"]) if "bootstrap" in states else None,
            server=TaskRun.read("server", states["server"]) if "server" in states else None,
        )

    def run(self, task: Task) -> TaskRun | None:
        """One of its tasks; None before it was set up."""
        return self.bootstrap if task == "bootstrap" else self.server

    @property
    def active(self) -> bool:
        """Whether anything of it may still run."""
        return self.status in ACTIVE


def current(job: SlotJob | None, allocations: Sequence[Allocation]) -> Allocation | None:
    """The allocation that counts: the newest of the job as it is now; what is left of an earlier one does not."""
    if job is None:
        return None
    ours = [one for one in started_by(job, allocations) if one.wanted or job.stopped]
    return max(ours, key=lambda one: one.order, default=None)


def started_by(job: SlotJob, allocations: Sequence[Allocation]) -> list[Allocation]:
    """Those that run, or ran, the job as it is now.

    While a job waits for a node, the scheduler comes back to what has failed before it, to start that elsewhere, and
    then writes it down as one of the new version. So the version alone does not tell: what is over and older than the
    registration is none of it.
    """
    return [one for one in allocations if one.version == job.version and (one.active or one.order > job.index)]


def judge(
    job: SlotJob | None, allocations: Sequence[Allocation], *, blocked: Blocked | None, now: float
) -> SlotState | Fault:
    """How a slot is, at `now` by the clock of the cluster. What is being stopped counts as running."""
    if job is None or job.stopped:
        return "running" if any(one.active for one in allocations) else "absent"
    held = current(job, allocations)
    if held is None or held.status == "lost":
        return _unplaced(job, blocked, now) or "preparing"
    if fault := _bootstrap_fault(job, held) or _server_fault(job, held, now):
        return fault
    match held.status:
        case "failed":
            return Fault(kind="start", message=f"the allocation on `{held.node}` failed: {held.description.lower()}")
        case "complete":
            return "stopped"
        case _:
            return "running" if held.server is not None and held.server.up else "preparing"


def ending(held: Allocation | None, now: float) -> str | None:
    """How a server ended that was started again a moment ago, or for good; None for any other."""
    server = held.server if held else None
    if server is None or server.code is None:
        return None
    if server.state == "dead":
        return f"the server ended with {server.code}"
    return f"the server ended with {server.code}, and was started again" if server.shaky(now) else None


def restarts(job: SlotJob | None, allocations: Sequence[Allocation]) -> int:
    """How often the server was started again, on whatever node, since the artefact was put into the slot."""
    ours = [] if job is None else started_by(job, allocations)
    return sum(one.server.restarts if one.server else 0 for one in ours) + max(len(ours) - 1, 0)


def unready(job: SlotJob | None, held: Allocation | None, blocked: Blocked | None) -> str:
    """What a slot that is being prepared waits for, in words; empty while its model is being copied."""
    if job is None or held is None or held.status == "lost":
        why = f": {'; '.join(obstacles(job, blocked.metric))}" if job and blocked else ""
        return f"it is not placed on a node yet{why}"
    if held.bootstrap is None or held.bootstrap.state == "pending":
        return f"node `{held.node}` prepares the bootstrap"
    return "" if held.bootstrap.state == "running" else f"node `{held.node}` prepares the server"


def _unplaced(job: SlotJob, blocked: Blocked | None, now: float) -> Fault | None:
    if blocked is None or now - blocked.since < _patience(job, blocked):
        return None
    return Fault(kind="placement", message=f"no node can take the slot: {'; '.join(obstacles(job, blocked.metric))}")


def _patience(job: SlotJob, blocked: Blocked) -> float:
    """Seconds that a job may stay without a node."""
    if not may_pass(job, blocked.metric):
        return LASTING
    return CHANGING if blocked.changing or awaits_volume(job, blocked.metric) else PASSING


def _bootstrap_fault(job: SlotJob, held: Allocation) -> Fault | None:
    it = held.bootstrap
    if it is None or not (it.code or it.refusal()):
        return None
    if it.ends and it.ends[-1].starved:
        return starved("bootstrap", job.limit("bootstrap"))
    return bootstrap_ended(it.code) if it.code else _unstartable(it, held)


def _server_fault(job: SlotJob, held: Allocation, now: float) -> Fault | None:
    it = held.server
    if it is None:
        return None
    over = it.state == "dead" and it.failed
    if any(end.starved for end in it.ends) and (over or it.shaky(now)):
        return starved("server", job.limit("server"))
    if fault := _unstartable(it, held):
        return fault
    if over and it.code is not None:
        again = it.restarts > 0
        return (
            crashing(it.code)
            if again
            else Fault(kind="crash", message=f"the server ended with {it.code}", task="server")
        )
    often = it.restarts >= CRASHES and (it.started - held.created) / it.restarts <= SETTLED
    return crashing(it.code) if often and it.shaky(now) else None


def _unstartable(it: TaskRun, held: Allocation) -> Fault | None:
    refusal = it.refusal()
    if refusal is None:
        return None
    lines = tuple(line for line in refusal.text.splitlines() if line.strip())
    if absent := image_absent(refusal.text, held.node):
        return Fault(kind="image", message=absent, lines=lines)
    return Fault(kind="start", message=f"the {it.task} cannot be started: {_short(refusal.text)}", lines=lines)


def image_absent(text: str, node: str) -> str | None:
    """What it means when a driver refuses a task with `text` for the want of an image; None for any other refusal."""
    pull = _PULL.fullmatch(text)
    if pull is None:
        return None
    why = "" if pull["image"].startswith(_LOCAL) else f", and cannot be pulled: {_short(pull['why'])}"
    return f"the image `{pull['image']}` is not in the engine of node `{node}`{why}"


def _short(text: str) -> str:
    return (text.splitlines() or [""])[0].removeprefix("Error response from daemon: ").rstrip(".")


def _seconds(text: str | None) -> float:
    return datetime.fromisoformat(text).timestamp() if text else 0.0
