"""From what a cluster says of the router's job to whether its router comes up: decided here, without asking anybody."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from mlops_deploy.adapters.nomad.allocations import ACTIVE, TaskRun, image_absent
from mlops_deploy.adapters.nomad.placement import may_pass, obstacles
from mlops_deploy.adapters.nomad.slot_job import SlotJob
from mlops_deploy.errors import DeployError, UnusableInputError
from mlops_deploy.render.nomad_router import TASK

LASTING: Final = 2.0
"""Seconds after which no node is expected any more to qualify, or to get the port back: it may have just come up."""

PASSING: Final = 6.0
"""The same where there is no room, or no node that is up."""

_PORT: Final = "reserved port collision"
_NO_ADDRESS: Final = "cannot listen at"
_DEFINITE: Final = 2
"""What a router ends with that has nothing to start with, see docs/keeper.md: another attempt would meet the same."""

_ENDS: Final = 2
_ELSEWHERE: Final = "stop what has it, or set another `port`"

_IMAGE: Final = "`nomad.router_image` names one in a registry that every node can pull"

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The allocation that runs, or is to run, the job as it is now."""

    id: str
    node: str
    running: bool
    run: TaskRun | None

    @classmethod
    def newest(cls, job: Document, allocations: Sequence[Document]) -> Self | None:
        """Of the allocations in the API's form; None when there is none yet."""
        ours = [one for one in allocations if one["DesiredStatus"] == "run" and _is_started_by(job, one)]
        found = max(ours, key=lambda one: int(one["CreateIndex"]), default=None)
        if found is None:
            return None
        state = (found.get("TaskStates") or {}).get(TASK)
        return cls(
            id=found["ID"],
            node=found["NodeName"],
            running=found["ClientStatus"] == "running",
            run=None if state is None else TaskRun.read("router", state),
        )


def _is_started_by(job: Document, one: Document) -> bool:
    """Whether it runs, or ran, the job as it is now: see `allocations.started_by`."""
    young = one["ClientStatus"] in ACTIVE or one["CreateIndex"] > job["JobModifyIndex"]
    return bool(one["JobVersion"] == job["Version"] and young)


def unplaced(job: SlotJob, metric: Document, waited: float) -> DeployError | None:
    """Why no node takes the router, once waiting longer than `waited` seconds is of no use."""
    taken = any(_PORT in dimension for dimension in metric.get("DimensionExhausted") or {})
    if waited < (PASSING if may_pass(job, metric) and not taken else LASTING):
        return None
    why = "; ".join(obstacles(job, metric))
    return UnusableInputError(f"no node can take the router: {why}", hint=_ELSEWHERE if taken else None)


def is_over(held: Held, *, new: bool) -> bool:
    """Whether the router has ended in a way that starting it again does not mend.

    A `new` one is given up when it ends for the second time; one that ran before may have done so long ago.
    """
    run = held.run
    if run is None:
        return False
    definite = run.code == _DEFINITE and run.state != "running"
    often = new and len(run.ends) >= _ENDS
    return run.refusal() is not None or run.state == "dead" or definite or often


def failure(held: Held, image: str, lines: Sequence[str]) -> DeployError:
    """Why the router of `held` is over; `lines` are its last words."""
    refusal = held.run.refusal() if held.run else None
    if refusal is not None:
        if absent := image_absent(refusal.text, held.node):
            return UnusableInputError(f"the router cannot start: {absent}", hint=_IMAGE)
        said = (refusal.text.splitlines() or [""])[0].rstrip(".")
        return DeployError(f"the router `{image}` cannot be started: {said}", detail=refusal.text.splitlines())
    taken = next((line for line in reversed(lines) if _NO_ADDRESS in line), None)
    if taken is not None:
        reason = taken.strip().removeprefix("router: ")
        return UnusableInputError(f"the router cannot listen on node `{held.node}`: {reason}", hint=_ELSEWHERE)
    code = held.run.code if held.run else None
    return DeployError(f"the router ended with {code} on node `{held.node}`", detail=lines)
