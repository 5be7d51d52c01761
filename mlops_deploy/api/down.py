"""`down`: end a service in order. The router answers 503 first, requests finish, then the servers stop."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from mlops_deploy.api.drive import drive
from mlops_deploy.api.service import Service, how_it_starts, world_on
from mlops_deploy.errors import (
    DeployError,
    InterruptedByUserError,
    LockedError,
    NeedsHumanError,
    UnreachableError,
    UnusableInputError,
)
from mlops_deploy.ports import Keeper, Story
from mlops_deploy.release import lease as leases
from mlops_deploy.release.acts import CONFIRM_SECONDS, act
from mlops_deploy.release.effects import Effect, Tell
from mlops_deploy.release.exchange import Run, clock, lines, router_view, slot_view
from mlops_deploy.release.executor import refuse_busy
from mlops_deploy.release.journal import Ended
from mlops_deploy.release.lease import Holder
from mlops_deploy.release.observe import CURRENT, FREEZE, kept, situation
from mlops_deploy.release.outcome import tally_of
from mlops_deploy.release.session import Session
from mlops_deploy.release.state import CLOSED, SLOTS, Freeze
from mlops_deploy.release.steps import Drain, Step, Stop, describe, describe_route
from mlops_deploy.spec.deploy import Target

_POLL: Final = 0.05
_REST: Final[Mapping[Target, str]] = {
    "docker": "the router and the network",
    "nomad": "the jobs of the slots and of the router",
}
"""What a target still has of a service once its servers have stopped, beside a router."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What `down` met: whether anything ran, and the release that was open and has been ended by it."""

    running: bool
    release: str | None = None


def down(service: Service, story: Story, *, volumes: bool, force: bool) -> Found:
    """Close the router, let requests finish, stop both slots, remove everything but the volumes; these with `volumes`.

    Where the state is lost, and with `force` where it cannot be read or the router is silent, the slots are stopped
    without closing the router first.

    Raises `LockedError` when another command is at work, and without `force` when a release is open or a freeze
    stands, also when the router is down while a slot is not, because then neither can be read. May be repeated: what
    is gone already is no mistake.
    """
    keeper = service.target.keeper()
    if keeper is None:
        found = Found(running=any(service.target.observe(slot).state != "absent" for slot in SLOTS))
        if found.running and not force:
            raise LockedError(
                "the router does not run, so nobody can tell whether a release is open or the service is frozen",
                hint=f"{how_it_starts(service.target_name)}, `mlops-deploy down --force` goes on all the same",
            )
        _remove(service, story, found, volumes=volumes)
        return found
    drain = service.spec.release.drain
    with world_on(service, keeper) as world:
        if why := _lost(keeper, force=force):
            return _unclosed(service, story, why, volumes=volumes)
        try:
            with service.clock.listening():
                run = take_down(service.holder, drain, force=force)
                found, session = drive(run, world, lambda effect, _: _tell(story, effect))
        except UnreachableError as silent:
            if not force:
                raise
            return _unclosed(service, story, silent.message, volumes=volumes)
        # Until the slots are gone nobody else may begin; whoever begins then, loses the router and is told so.
        _remove(service, story, found, volumes=volumes, before_router=lambda: drive(free(session), world))
    return found


def _lost(keeper: Keeper, *, force: bool) -> str | None:
    """Why nobody can hold the lease of this service, for good: its state is gone or, by `force`, damaged."""
    try:
        keeper.get(leases.KEY)
    except NeedsHumanError as gone:
        return gone.message
    except (UnreachableError, UnusableInputError):
        return None
    except DeployError as damaged:
        return damaged.message if force else None
    return None


def _unclosed(service: Service, story: Story, why: str, *, volumes: bool) -> Found:
    """End a service whose router cannot be closed first: its slots stop as they do by themselves."""
    story.say(f"the router is not closed first: {why}")
    found = Found(running=True)
    _remove(service, story, found, volumes=volumes)
    return found


def _remove(
    service: Service, story: Story, found: Found, *, volumes: bool, before_router: Callable[[], None] = lambda: None
) -> None:
    if found.running:
        story.say(f"remove {_REST.get(service.target_name, 'the router')}")
    service.target.remove(volumes=volumes, before_router=before_router)


def take_down(holder: Holder, drain: float, *, force: bool) -> Run[tuple[Found, Session]]:
    """Nobody gets requests any more, both slots are stopped, an open release is ended; the lease is still held."""
    lease, index = yield from leases.acquire(holder, None)
    session = Session(release="", lease=lease, index=index, renewed=(yield from clock()).elapsed)
    try:
        if not force:
            yield from _refuse_busy()
        found = yield from _stopped(session, drain)
        release = yield from _end_open(session, holder)
    except InterruptedByUserError as stop:
        yield from free(session)
        raise InterruptedByUserError(
            f"{stop.message}: not everything has stopped yet",
            hint="`mlops-deploy down` goes on",
        ) from stop
    except DeployError:
        yield from free(session)
        raise
    return Found(running=found, release=release), session


def _tell(story: Story, effect: Effect) -> None:
    if isinstance(effect, Tell):
        story.say(effect.text)


def free(session: Session) -> Run[None]:
    """Let go of the lease, as the last word before the router ends."""
    with suppress(DeployError):  # it expires by itself
        yield from session.let_go()


def _refuse_busy() -> Run[None]:
    """A release that is open, or a freeze, is somebody's word that this service is not to be touched now."""
    try:
        yield from refuse_busy()
    except LockedError as busy:
        hint = f"{busy.hint}, `mlops-deploy down --force` goes on all the same"
        raise LockedError(busy.message, hint=hint) from busy


def _stopped(session: Session, drain: float) -> Run[bool]:
    """Close, drain, stop; whether there was anything to do. A slot that is not ours is refused before anything else."""
    views = ((yield from slot_view("a")), (yield from slot_view("b")))
    busy = [view.slot for view in views if view.state != "absent"]
    running = (yield from router_view()).applied is not None
    yield from _closed(session)
    drains: list[Step] = [Drain(slot=slot, seconds=drain) for slot in busy]
    stops: list[Step] = [Stop(slot=slot, seconds=drain) for slot in busy]
    for step in drains + stops:
        yield from session.tell(describe(step))
        yield from act(session, step)
    return running or bool(busy)


def _closed(session: Session) -> Run[None]:
    """Commit that nobody gets requests, and wait until the proxy says so, if it says anything at all."""
    until = (yield from clock()).elapsed + CONFIRM_SECONDS
    if (yield from router_view()).route != CLOSED:
        yield from session.tell(describe_route(CLOSED))
    while not (yield from _is_closed(session)):
        if (yield from clock()).elapsed >= until:
            raise UnreachableError(
                f"the router does not close within {CONFIRM_SECONDS:g} s, so no server was stopped",
                hint="`mlops-deploy logs --task router` may say why",
            )
        yield from session.rest(_POLL)


def _is_closed(session: Session) -> Run[bool]:
    view = yield from router_view()
    if view.route == CLOSED:
        return view.applied in {CLOSED, None}
    yield from session.keep()
    yield from session.commit(CLOSED, view.generation)
    return False


def _end_open(session: Session, holder: Holder) -> Run[str | None]:
    """Write the end of a release that was open, so that nothing waits for it should the volumes be kept."""
    try:
        found = yield from situation()
    except NeedsHumanError:  # its journal is lost: only the pointer to it can be taken away
        yield from session.put(CURRENT, None)
        return None
    if found.open is None or found.release is None:
        return None
    freeze = yield from kept(FREEZE, Freeze)
    if freeze is not None and freeze.by == found.release:
        yield from session.put(FREEZE, None)
    session.release = found.release
    session.position = len((yield from lines(found.release)).lines)
    now = (yield from clock()).wall
    tally = tally_of((yield from router_view()))
    reason = f"taken down by {holder.name}"
    yield from session.record(Ended(at=now, code=InterruptedByUserError.exit_code, reason=reason, tally=tally))
    return found.release
