"""A service that is watched where nothing can be refreshed in place: a line for each change."""

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Final

from mlops_deploy.api.status import Status, doing
from mlops_deploy.cli.status_text import role, routed, status_lines, version
from mlops_deploy.errors import UnreachableError
from mlops_deploy.oci.names import printable
from mlops_deploy.release.rolling import RollingView
from mlops_deploy.release.state import SLOTS, Slot
from mlops_deploy.release.steps import describe

if TYPE_CHECKING:
    from mlops_deploy.api.service import Service

_KINDS: Final = frozenset({"service", "job", "router"})
"""What a look begins with: nothing runs, one job, or slots behind a router. Another kind is shown as a whole."""

_GONE: Final = {"release": "has ended", "target": "reachable again"}


def change_lines(service: "Service", looks: Iterator[Status | RollingView | UnreachableError | None]) -> Iterator[str]:
    """The whole status, then what has changed, each line with its time; for ever."""
    before: dict[str, str] = {}
    for look in looks:
        now = datetime.now().astimezone()
        if isinstance(look, UnreachableError):
            found = before | {"target": f"not reachable: {look.message}"}
        else:
            found = facts(look)
        if not isinstance(look, UnreachableError) and not _KINDS & before.keys() & found.keys():
            yield from status_lines(service, look, now.timestamp())
        else:
            yield from (f"{now:%H:%M:%S}  {line}" for line in _differences(before, found))
        before = found


def _differences(before: dict[str, str], found: dict[str, str]) -> Iterator[str]:
    yield from (f"{name}: {_GONE[name.split()[0]]}" for name in before if name not in found)
    yield from (printable(f"{name}: {text}") for name, text in found.items() if before.get(name) != text)


def facts(status: Status | RollingView | None) -> dict[str, str]:
    """What is worth a line when it changes: no counters, no ages."""
    if status is None:
        return {"service": "nothing runs"}
    if isinstance(status, RollingView):
        why = f": {status.cause.message}" if status.cause else ""
        return {"job": f"version {status.version}, {len(status.servers)} healthy, {status.state}{why}"}
    router, freeze, lease = status.observed.router, status.observed.freeze, status.holder
    found = {
        "router": f"{routed(router.route)} (generation {router.generation})" if router.applied else "down",
        **{f"slot {slot}": _slot(status, slot) for slot in SLOTS},
        "lease": f"held by {lease.holder.name}" if lease and lease.holder else "free",
        "freeze": f"by {freeze.by}: {freeze.reason}" if freeze else "none",
    }
    if status.course is not None:
        found[f"release {status.release}"] = _release(status)
    return found


def _slot(status: Status, slot: Slot) -> str:
    view, lane = status.observed.slot(slot), status.observed.router.lane(slot)
    cause = f": {view.cause.message}" if view.cause else ""
    parts = (role(status, slot), version(status, slot), f"{view.state}{cause}", "up" if lane.up else "not up")
    return ", ".join(part for part in parts if part)


def _release(status: Status) -> str:
    standing = status.open
    if standing is None:
        return str(status.trouble)
    step = doing(standing)
    return f"{status.course}, {'turning back, ' if standing.phase == 'back' else ''}{describe(step) if step else ''}"
