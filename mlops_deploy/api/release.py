"""`release`: refuse what may not begin, plan, bring what is needed, carry the plan out."""

from datetime import UTC, datetime
from functools import cache
from typing import Final
from uuid import uuid4

from mlops_deploy.api.drive import Witness, World, drive
from mlops_deploy.api.planning import Shelf, Wish, find_candidate, plan_from
from mlops_deploy.api.report import Report, nothing_done, report_on
from mlops_deploy.api.service import Service, made_world
from mlops_deploy.errors import UnreachableError
from mlops_deploy.ports import Story
from mlops_deploy.release import executor
from mlops_deploy.release.exchange import Run, clock, rest, router_view
from mlops_deploy.release.lease import locked
from mlops_deploy.release.observe import observe, situation
from mlops_deploy.release.plan import Plan, require_fresh
from mlops_deploy.release.state import SLOTS

_MOMENT: Final = 5.0
_PAUSE: Final = 0.2


def release(service: Service, shelf: Shelf, wish: Wish, story: Story, witness: Witness | None = None) -> Report:
    """Release what `wish` asks for; nothing to do is said without touching anything.

    Raises `UnusableInputError` first of all where the service runs without slots, then `LockedError` when another
    command is at work, a release is open, or the service is frozen.
    """
    candidate = cache(lambda: find_candidate(service, shelf, wish, story))

    def before() -> None:
        candidate()
        require_room(service)

    with made_world(service, before=before) as world:
        drive(may_begin(), world)
        plan = plan_from(service, drive(observe(), world), candidate(), wish)
        return carry_out(service, world, plan, story, witness)


def apply(service: Service, plan: Plan, story: Story, witness: Witness | None = None) -> Report:
    """Carry out exactly `plan`; raise `LockedError` when what it was made from has changed."""
    with made_world(service, before=lambda: require_room(service)) as world:
        drive(may_begin(), world)
        fresh = require_fresh(plan, drive(observe(), world))
        return carry_out(service, world, fresh, story, witness)


def require_room(service: Service) -> None:
    """Raise `UnusableInputError` for what is in a slot's place and is not ours, while nothing has been made yet."""
    for slot in SLOTS:
        service.target.observe(slot)


def may_begin() -> Run[None]:
    """Raise `LockedError` when a release could not begin now, `UnreachableError` when the router is silent."""
    found = yield from situation()
    if found.holder is not None:
        raise locked(found.holder, found.holder_age)
    yield from executor.refuse_busy()
    yield from _heard()


def _heard() -> Run[None]:
    """A router that does not answer could never be switched; one that was just started gets a moment."""
    until = (yield from clock()).elapsed + _MOMENT
    while (yield from router_view()).applied is None:
        if (yield from clock()).elapsed >= until:
            raise UnreachableError(
                "the router does not answer its keeper, so nothing was begun",
                hint="`mlops-deploy logs --task router` may say why; where it does not come back by itself, "
                "`mlops-deploy router apply --replace` makes it anew",
            )
        yield from rest(_PAUSE)


def carry_out(service: Service, world: World, plan: Plan, story: Story, witness: Witness | None) -> Report:
    """Prepare what `plan` has to start, and drive it to its end, or to an interrupt."""
    if not plan.steps:
        return nothing_done(drive(observe(), world))
    if not plan.hot:
        service.supply().prepare(plan.artefact(plan.candidate), story)
    run = executor.release(plan, new_id(service.clock.wall()), service.holder)
    with service.clock.listening():
        outcome = drive(run, world, witness)
    return report_on(outcome, world)


def new_id(wall: float) -> str:
    """`r-YYYYMMDD-HHMMSS-xxxx`: when it began, in UTC, and what tells it from others of that second."""
    return f"r-{datetime.fromtimestamp(wall, UTC):%Y%m%d-%H%M%S}-{uuid4().hex[:4]}"
