"""Why a cluster finds no node for a job, in words. Pure."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from mlops_deploy.adapters.nomad.slot_job import SlotJob

_PORT: Final = re.compile(r"reserved port collision (?:\S+)=(\d+)")

_UNITS: Final = {
    "cpu": ("CPU", "MHz of CPU"),
    "memory": ("MemoryMB", "MiB of memory"),
    "disk": ("DiskMB", "MiB of disk"),
}
_NO_VOLUME: Final = "missing compatible host volumes"


def obstacles(job: SlotJob, metric: Mapping[str, Any]) -> tuple[str, ...]:
    """What stands in the way on the nodes that the scheduler looked at, one sentence for each kind of reason."""
    return tuple(_reasons(job, metric)) or ("the scheduler names no reason",)


def awaits_volume(job: SlotJob, metric: Mapping[str, Any]) -> bool:
    """Whether a volume is missing that is made for the job alone."""
    return job.own_volume is not None and _NO_VOLUME in (metric.get("ConstraintFiltered") or {})


def without_own_volume(job: SlotJob, metric: Mapping[str, Any]) -> Mapping[str, Any]:
    """The metric without that the volume is missing that a release will make; empty when nothing else is wrong."""
    if not awaits_volume(job, metric):
        return metric
    other = {name: count for name, count in metric["ConstraintFiltered"].items() if name != _NO_VOLUME}
    return dict(metric) | {"ConstraintFiltered": other} if other or metric.get("NodesExhausted") else {}


def may_pass(job: SlotJob, metric: Mapping[str, Any]) -> bool:
    """Whether time alone may help: another job ends, a node comes back, a volume of the job's own becomes ready."""
    lasting = set(metric.get("ConstraintFiltered") or {}) - ({_NO_VOLUME} if job.own_volume else set())
    return not lasting or bool(metric.get("NodesExhausted")) or not metric.get("NodesEvaluated")


def _reasons(job: SlotJob, metric: Mapping[str, Any]) -> Iterator[str]:
    if not metric.get("NodesEvaluated"):
        yield f"no node is ready in {job.whereabouts}"
    for constraint, count in sorted((metric.get("ConstraintFiltered") or {}).items()):
        yield f"{_nodes(count)} {_filtered(job, constraint, count)}"
    for name, count in sorted((metric.get("ClassFiltered") or {}).items()):
        if not metric.get("ConstraintFiltered"):
            yield f"{_nodes(count)} of class `{name}` do not qualify"
    for dimension, count in sorted((metric.get("DimensionExhausted") or {}).items()):
        yield f"{_nodes(count)} {_exhausted(dimension, metric, count)}"
    for said in metric.get("QuotaExhausted") or ():
        yield f"the quota of the namespace is used up: {said}"


def _filtered(job: SlotJob, constraint: str, count: int) -> str:
    lacks = "lacks" if count == 1 else "lack"
    match constraint:
        case "missing drivers":
            return f"{lacks} a driver of the job: {', '.join(job.drivers)}"
        case "missing devices":
            return f"{lacks} a device of the job: {', '.join(job.devices)}"
        case _ if constraint == _NO_VOLUME:
            return f"{lacks} the host volume {', '.join(f'`{name}`' for name in job.volumes)}"
        case "missing network":
            return f"{lacks} the network that the job asks for"
        case _:
            return f"{'does' if count == 1 else 'do'} not meet `{constraint}`"


def _exhausted(dimension: str, metric: Mapping[str, Any], count: int) -> str:
    has = "has" if count == 1 else "have"
    if taken := _PORT.search(dimension):
        return f"{has} given port {taken[1]} to another job"
    if dimension not in _UNITS:
        return f"{has} not enough left: {dimension}"
    field, unit = _UNITS[dimension]
    # The bootstrap has ended before the server starts, so the larger of the two counts.
    asked = (metric.get("ResourcesExhausted") or {}).values()
    wanted = max((one.get(field) or 0 for one in asked), default=0)
    return f"{has} no {wanted:,} {unit} left" if wanted else f"{has} not enough {dimension} left"


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"
