"""A status as JSON: complete, with the same keys whatever is so. Times are ISO 8601 in UTC, shares in 10,000."""

from datetime import UTC, datetime
from typing import Any

from mlops_deploy.api.service import Service
from mlops_deploy.api.status import Status, deadline, doing, following
from mlops_deploy.cli.place import Place
from mlops_deploy.release.journal import Standing
from mlops_deploy.release.rolling import RollingView
from mlops_deploy.release.state import Cause, Route, Slot
from mlops_deploy.release.steps import describe

Document = dict[str, Any]


def status_document(service: Service, place: Place, status: Status | RollingView | None) -> Document:
    """Everything that `status` shows; where nothing has been released, `live` to `release` are null.

    `native` is the one job of a service that was released with `--native`, else null; then all the others are.
    """
    return {
        "service": service.spec.service,
        "environment": service.spec.environment,
        "target": service.target_name,
        **(_looked(status) if isinstance(status, Status) else dict.fromkeys(_PARTS)),
        "native": _native(service, status) if isinstance(status, RollingView) else None,
        "next": [place.command(words) for words in following(status)],
    }


_PARTS = ("live", "slots", "router", "lease", "freeze", "release")


def moment(seconds: float) -> str:
    """A time in seconds since 1970 as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _looked(status: Status) -> Document:
    return {
        "live": _live(status),
        "slots": {"a": _slot(status, "a"), "b": _slot(status, "b")},
        "router": _router(status),
        "lease": _lease(status),
        "freeze": _freeze(status),
        "release": _release(status),
    }


def _native(service: Service, view: RollingView) -> Document:
    return {
        "job": service.spec.project,
        "state": view.state,
        "version": view.version,
        "content_id": view.content,
        "deployment": view.deployment,
        "healthy": list(view.servers),
        "cause": _cause(view.cause),
    }


def _cause(cause: Cause | None) -> Document | None:
    return {"kind": cause.kind, "message": cause.message, "lines": list(cause.lines)} if cause else None


def _live(status: Status) -> Document | None:
    slot = status.observed.router.route.live
    if slot is None or status.observed.slot(slot).key is None:
        return None
    since = status.live
    return {
        "slot": slot,
        "version": _version(status, slot),
        "since": moment(since.since) if since else None,
        "release": since.release if since else None,
        "rollback": "hot" if status.hot else "cold" if since and since.previous else None,
    }


def _version(status: Status, slot: Slot) -> str | None:
    artefact = status.observed.artefact(slot)
    return artefact.version if artefact else None


def _slot(status: Status, slot: Slot) -> Document:
    view, artefact = status.observed.slot(slot), status.observed.artefact(slot)
    router = status.observed.router
    lane = router.lane(slot)
    return {
        "role": status.role(slot),
        "state": view.state,
        "version": artefact.version if artefact else None,
        "key": view.key,
        "content_id": view.content,
        "carrier": artefact.carrier if artefact else None,
        "carrier_digest": str(artefact.carrier_digest) if artefact else None,
        "server": artefact.server if artefact else None,
        "server_id": artefact.server_id if artefact else None,
        "revision": view.revision,
        "restarts": view.restarts,
        "share": router.route.weight(slot),
        "up": lane.up,
        "verdict": lane.verdict,
        "in_flight": lane.sessions,
        "requests": lane.counters.requests,
        "failed": lane.counters.failed,
        "cause": _cause(view.cause),
        "ended": {"message": view.ended.message, "lines": list(view.ended.lines)} if view.ended else None,
        "remark": view.remark or None,
    }


def _router(status: Status) -> Document:
    view = status.observed.router
    return {
        "up": view.applied is not None,
        "generation": view.generation,
        "committed": _route(view.route),
        "in_force": _route(view.applied) if view.applied else None,
        "requests": view.entry.requests,
        "failed": view.entry.failed,
        "run": view.started,
    }


def _route(route: Route) -> Document:
    return {"share_b": route.share_b, "closed": route.closed}


def _lease(status: Status) -> Document | None:
    lease = status.holder
    if lease is None or lease.holder is None:
        return None
    return {
        "holder": lease.holder.name,
        "url": lease.holder.url,
        "release": lease.release,
        "age": round(status.age, 1),
        "token": lease.token,
    }


def _freeze(status: Status) -> Document | None:
    freeze = status.observed.freeze
    return {"by": freeze.by, "reason": freeze.reason, "at": moment(freeze.at)} if freeze else None


def _release(status: Status) -> Document | None:
    if status.course is None:
        return None
    return {"id": status.release, "course": status.course, "trouble": status.trouble, **_open(status.open)}


def _open(standing: Standing | None) -> Document:
    if standing is None:
        return dict.fromkeys(("strategy", "by", "opened", "direction", "step", "number", "steps", "deadline", "reason"))
    step, until = doing(standing), deadline(standing)
    turned = standing.turned
    reason = turned.reason if turned else None
    if standing.phase == "held":
        step = standing.plan.steps[standing.index].step
    return {
        "strategy": standing.plan.strategy,
        "by": standing.opened.holder,
        "opened": moment(standing.opened.at),
        "direction": "back" if standing.phase == "back" else "forward",
        "step": describe(step) if step else None,
        "number": standing.index + 1,
        "steps": len(standing.plan.steps),
        "deadline": moment(until) if until else None,
        "reason": reason,
    }
