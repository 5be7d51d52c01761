"""A status as people read it: one line of what is live, a line for each slot, and who is at work."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from mlops_deploy.api.service import Service
from mlops_deploy.api.status import Course, Status, deadline, doing
from mlops_deploy.oci.names import printable
from mlops_deploy.release.rolling import RollingView
from mlops_deploy.release.state import WHOLE, Counters, Route, Slot
from mlops_deploy.release.steps import describe
from mlops_deploy.spec.refs import SHORT

_SHOWN: Final = 8
"""How many of the last lines of a task that failed are shown; JSON has them all."""

_COURSES: Final[dict[Course, str]] = {
    "running": "goes on",
    "orphaned": "has not ended, and nobody runs it; traffic stays as committed",
    "held": "waits for a decision",
    "stuck": "could not turn back, and a person is needed",
    "unreadable": "has a journal that cannot be read",
}


def status_lines(service: Service, status: Status | RollingView | None, now: float) -> list[str]:
    """What `status` shows at `now`, in seconds since 1970."""
    if status is None:
        return [f"{_name(service)}: nothing runs; it has not been released yet, or was taken down"]
    if isinstance(status, RollingView):
        return [printable(line) for line in _native_lines(service, status)]
    lines = [
        f"{_name(service)}   {_headline(status, now)}",
        *_slot_lines(status, "a", "├─", "│ "),
        *_slot_lines(status, "b", "└─", "  "),
        f"router:  {_router(status)}",
        f"lease:   {_lease(status)}",
        f"freeze:  {_freeze(status, now)}",
        *_release_lines(status, now),
    ]
    return [printable(line) for line in lines]


def _native_lines(service: Service, view: RollingView) -> Iterator[str]:
    """The one job of a release with `--native`; what is not ours to tell, Nomad's own command shows."""
    project = service.spec.project
    yield f"{_name(service)}   {view.state}: job `{project}`, version {view.version}, released with `--native`"
    yield f"├─ content     {view.content[:SHORT] if view.content else 'not known: the job was edited'}"
    yield f"├─ deployment  {view.deployment[:8] if view.deployment else 'none, or forgotten'}"
    yield f"└─ healthy     {', '.join(f'server `{one[:8]}`' for one in view.servers) or 'no server of this version'}"
    if view.cause is not None:
        yield f"      {view.cause.message}"
        yield from (f"      | {line}" for line in view.cause.lines[-_SHOWN:])
    yield f"`nomad job status {project}` shows all of it, `nomad job history {project}` what was before"


def when(seconds: float, now: float) -> str:
    """A time of this day by its minute, another one with its date; local."""
    then = datetime.fromtimestamp(seconds).astimezone()
    same = then.date() == datetime.fromtimestamp(now).astimezone().date()
    return f"{then:%H:%M}" if same else f"{then:%Y-%m-%d %H:%M}"


def span(seconds: float) -> str:
    """A duration, roughly: `42 s`, `3 min`, `5 h`."""
    seconds = max(0.0, seconds)
    for limit, unit, word in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {word}"
    return f"{seconds / 86400:.0f} days"


def share(route: Route, slot: Slot) -> str:
    """`100 %`."""
    return f"{route.weight(slot) * 100 / WHOLE:g} %"


def routed(route: Route) -> str:
    """Where a route sends requests."""
    if route.closed:
        return "closed (503)"
    if route.live is not None:
        return f"all traffic to slot {route.live}"
    return f"{share(route, 'a')} to slot a, {share(route, 'b')} to slot b"


def version(status: Status, slot: Slot) -> str:
    """What `slot` holds, as people name it; empty when it holds nothing."""
    key, artefact = status.observed.slot(slot).key, status.observed.artefact(slot)
    return artefact.version if artefact else f"unknown ({key[:12]})" if key else ""


def role(status: Status, slot: Slot) -> str:
    """What `slot` is to the service, with its share of the traffic."""
    match status.role(slot):
        case "live":
            return f"live {share(status.observed.router.route, slot)}"
        case "parked":
            return "parked hot"
        case word:
            return word


def _name(service: Service) -> str:
    spec = service.spec
    return f"{spec.service}{f' @ {spec.environment}' if spec.environment else ''} ({service.target_name})"


def _headline(status: Status, now: float) -> str:
    route = status.observed.router.route
    slot = route.live
    if slot is None or status.observed.slot(slot).key is None:
        return f"nothing is live: {routed(route)}"
    live = status.live
    since = f"  since {when(live.since, now)} ({live.release})" if live else "  not promoted yet"
    return f"live: {slot}  {version(status, slot)}{since}"


def _slot_lines(status: Status, slot: Slot, branch: str, trunk: str) -> Iterator[str]:
    view, lane = status.observed.slot(slot), status.observed.router.lane(slot)
    parts = [f"{branch} {slot}  {role(status, slot):<10}  {version(status, slot):<26}"]
    if view.state != "absent" or lane.sessions:
        parts += [f"{lane.sessions} in flight", f"router: {lane.verdict}"]
    if view.state not in {"absent", "running", role(status, slot)}:
        parts.append(view.state)
    if view.restarts:
        parts.append(f"{view.restarts} restarts")
    yield "  ".join(parts).rstrip()
    if view.remark:
        yield f"{trunk}    {view.remark}"
    if (why := view.cause or view.ended) is not None:
        yield f"{trunk}    {why.message}"
        yield from (f"{trunk}    | {line}" for line in why.lines[-_SHOWN:])


def _router(status: Status) -> str:
    view = status.observed.router
    if view.applied is None:
        return f"down; committed: {routed(view.route)} (generation {view.generation})"
    force = "" if view.applied == view.route else f", in force: {routed(view.applied)}"
    return f"up, {routed(view.route)} (generation {view.generation}){force}; {counted(view.entry)} since it started"


def counted(counters: Counters) -> str:
    """`1,234 requests, 0 failed`."""
    return f"{counters.requests:,} request{'' if counters.requests == 1 else 's'}, {counters.failed:,} failed"


def _lease(status: Status) -> str:
    lease = status.holder
    if lease is None or lease.holder is None:
        return "free"
    where = f", {lease.holder.url}" if lease.holder.url else ""
    return f"held by {lease.holder.name} (heard {span(status.age)} ago{where})"


def _freeze(status: Status, now: float) -> str:
    freeze = status.observed.freeze
    return f"by {freeze.by} since {when(freeze.at, now)}: {freeze.reason}" if freeze else "none"


def _release_lines(status: Status, now: float) -> Iterator[str]:
    course, standing = status.course, status.open
    if course is None:
        return
    yield f"release: {status.release} {_COURSES[course]}"
    if standing is None:
        yield f"         {status.trouble}"
        return
    yield f"         {standing.plan.strategy} by {standing.opened.holder} since {when(standing.opened.at, now)}"
    if standing.turned is not None:
        yield f"         turns back: {standing.turned.reason}"
    step, until = doing(standing), deadline(standing)
    if standing.phase == "held":
        step = standing.plan.steps[standing.index].step
    if step is not None:
        number = f"step {standing.index + 1} of {len(standing.plan.steps)}: "
        yield f"         {number if standing.phase != 'back' else 'taking back: '}{describe(step)}"
    if until is not None:
        late = f"over for {span(now - until)}" if until < now else f"in {span(until - now)}"
        yield f"         deadline {when(until, now)} ({late})"
