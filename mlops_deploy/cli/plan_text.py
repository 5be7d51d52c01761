"""A plan as people read it: what changes, in which steps, and what the way back would be."""

from collections.abc import Iterator
from typing import Final

from mlops_deploy.cli.console import harmless
from mlops_deploy.release.forecast import Change, ChangeKind, Forecast
from mlops_deploy.release.plan import Base, Held, Plan
from mlops_deploy.release.state import Artefact, Slot
from mlops_deploy.release.steps import Stop, describe

_LONGEST: Final = 100
"""Characters of a value that are shown."""

_SIGNS: Final[dict[ChangeKind, str]] = {"added": "+", "deleted": "-", "edited": "~"}


def plan_lines(plan: Plan, forecast: Forecast | None = None) -> Iterator[str]:
    """The lines of a plan, with what the target says of it beforehand."""
    now, then = _live(plan), plan.artefact(plan.candidate)
    if not plan.steps:
        yield f"{plan.project} on {plan.target}: nothing to do, {then.version} is live"
        return
    yield f"{plan.project} on {plan.target}: {plan.strategy}, slot {plan.slot}"
    yield f"  model     {_change(now.version if now else None, then.version)}"
    yield f"  carrier   {_change(now.carrier_digest.short if now else None, then.carrier_digest.short)}"
    yield f"  server    {_change(_server(now) if now else None, _server(then))}"
    if now is not None and now.key != then.key and _same_parts(now, then):
        yield "  settings  changed"
    for number, planned in enumerate(plan.steps, start=1):
        yield f"{'  steps    ' if number == 1 else ' ' * 11} {number}. {describe(planned.step)}"
    yield f"  rollback  {way_back(plan, now)}"
    if forecast is not None:
        yield from forecast_lines(forecast)
    if plan.base.freeze is not None:
        yield f"  frozen    {plan.base.freeze}: no release begins before `mlops-deploy unfreeze`"


def forecast_lines(forecast: Forecast) -> Iterator[str]:
    """What a target says beforehand: every change of the job, what stands in the way, what to beware of."""
    yield from _column("job", [_changed(change) for change in forecast.changes])
    yield from _column("placing", [f"impossible now: {obstacle}" for obstacle in forecast.obstacles])
    yield from _column("beware", list(forecast.warnings))


def _column(name: str, lines: list[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield f"{f'  {name}' if number == 0 else '':<11} {harmless(line)}"


def _changed(change: Change) -> str:
    old, new = _short(change.old), _short(change.new)
    said = f": {old} -> {new}" if change.kind == "edited" and old + new else f": {new or old}" if old + new else ""
    return f"{_SIGNS[change.kind]} {change.place}{said}{f' ({change.note})' if change.note else ''}"


def _short(value: str) -> str:
    line = value.replace("\n", "\\n")
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


def way_back(plan: Plan, now: Artefact | None) -> str:
    """What `rollback` will mean once the plan is carried out."""
    slot = plan.base.route.live
    if now is None:
        unknown = slot is not None and _held(plan.base, slot).key is not None
        return f"none: nothing is known of what slot {slot} holds" if unknown else "none: nothing is live now"
    if any(isinstance(planned.step, Stop) and planned.step.slot == slot for planned in plan.steps):
        return f"cold: {now.version} has to be started again"
    return f"hot, one router write: {now.version} stays parked in slot {slot}"


def _live(plan: Plan) -> Artefact | None:
    slot = plan.base.route.live
    key = _held(plan.base, slot).key if slot else None
    return next((artefact for artefact in plan.artefacts if artefact.key == key), None)


def _held(base: Base, slot: Slot) -> Held:
    return base.b if slot == "b" else base.a


def _server(artefact: Artefact) -> str:
    return f"{artefact.server} ({artefact.server_id.removeprefix('sha256:')[:12]})"


def _same_parts(now: Artefact, then: Artefact) -> bool:
    return (now.carrier_digest, now.server_id) == (then.carrier_digest, then.server_id)


def _change(now: str | None, then: str) -> str:
    if now is None:
        return f"{then} (new)"
    return f"{then} (unchanged)" if now == then else f"{now} -> {then}"
