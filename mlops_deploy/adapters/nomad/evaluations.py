"""What a cluster's evaluations say of a job that they found no place for: decided here, without asking anybody."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mlops_deploy.adapters.nomad.slot_job import SlotJob

_NS: Final = 1_000_000_000

Evaluation = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """An evaluation that found no place; `metric` is what the scheduler says, `since` in seconds since 1970.

    `changing` while something of the service is about to leave a node.
    """

    metric: Mapping[str, Any]
    since: float
    changing: bool = False


def blocked(job: SlotJob, evaluations: object) -> Blocked | None:
    """What is said by the one that still waits for a place for the job as it is now; None when none does."""
    found = (one for one in _without_place(evaluations) if one["Status"] == "blocked" and _index(one) >= job.index)
    return next(map(_read, found), None)


def blocked_at_first(job: SlotJob, evaluations: object) -> Blocked | None:
    """What was said by the first that found no place for the job as it is now, whether it still waits or not."""
    found = [one for one in _without_place(evaluations) if _index(one) == job.index]
    return _read(min(found, key=lambda one: int(one["CreateIndex"]))) if found else None


def _without_place(evaluations: object) -> list[Evaluation]:
    listed = evaluations if isinstance(evaluations, list) else []
    return [one for one in listed if one.get("FailedTGAllocs")]


def _index(evaluation: Evaluation) -> int:
    """When the job was registered that it is about."""
    return evaluation.get("JobModifyIndex") or 0


def _read(evaluation: Evaluation) -> Blocked:
    metric = next(iter(evaluation["FailedTGAllocs"].values()))
    return Blocked(metric=metric, since=evaluation["CreateTime"] / _NS)
