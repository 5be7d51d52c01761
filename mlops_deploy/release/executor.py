"""A release from its first line to its last: open, walk forward, turn back when a step fails, end.

Every step: write the intent, act, observe, write the result. Whoever takes over after a death reads the journal, looks
at the world, and repeats the step that was begun; repeating is always right, because every step is idempotent.

Turning back runs the undo of *every* step before the promotion, also of those that never began: an undo that has
nothing to do changes nothing, and so a journal that lost its last lines is no danger.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

from mlops_deploy.errors import (
    DeployError,
    InterruptedByUserError,
    LockedError,
    NeedsHumanError,
    UnreachableError,
    UnusableInputError,
)
from mlops_deploy.release import lease as leases
from mlops_deploy.release.acts import StepFailedError, act
from mlops_deploy.release.codec import encode
from mlops_deploy.release.exchange import BrokenWorldError, Run, clock, lines, router_view, slot_view
from mlops_deploy.release.journal import (
    Advanced,
    Began,
    Done,
    Ended,
    HeldBack,
    Interrupted,
    Opened,
    Standing,
    Taken,
    Tally,
    Turned,
)
from mlops_deploy.release.lease import Holder
from mlops_deploy.release.observe import CURRENT, FREEZE, Situation, artefact_key, journal_of, kept, observe, situation
from mlops_deploy.release.plan import Plan, base_of
from mlops_deploy.release.session import Session
from mlops_deploy.release.state import Artefact, Freeze, RouterView
from mlops_deploy.release.steps import Bake, Hold, Planned, Shift, Start, Step, Stop

Result = Literal["released", "nothing", "held", "aborted", "reverted", "stuck", "interrupted", "unreachable", "locked"]

REVERTED: Final = 5
NEVER_READY: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a command ended: its exit code, and what the journal says too. `switch` in seconds, None without one."""

    result: Result
    code: int
    release: str | None
    reason: str
    lines: tuple[str, ...] = ()
    hint: str | None = None
    standing: Standing | None = None


def release(plan: Plan, name: str, holder: Holder) -> Run[Outcome]:
    """Carry out `plan` as the release `name`.

    Raises `LockedError` when another holds the lease, another release is open, the service is frozen or the plan
    stale; nothing has changed then.
    """
    lease, index = yield from leases.acquire(holder, name)
    session = yield from _session(name, lease, index, plan.artefacts)
    try:
        yield from refuse_busy()
        yield from refuse_stale(plan)
        standing = yield from _opened(session, plan, holder)
    except DeployError:
        yield from _free(session)
        raise
    return (yield from _carried(session, standing))


def resume(holder: Holder) -> Run[Outcome]:
    """Go on with the open release in its direction; raise `UnusableInputError` when there is none."""
    session, standing = yield from _taken(holder)
    if standing.phase == "held":
        yield from _free(session)
        raise UnusableInputError(
            f"release `{session.release}` waits for a decision",
            hint="`mlops-deploy advance` goes on, `mlops-deploy abort` turns back",
        )
    return (yield from _carried(session, standing))


def advance(holder: Holder) -> Run[Outcome]:
    """Decide that the release which is held goes on; raise `UnusableInputError` when none is held."""
    session, standing = yield from _taken(holder)
    if standing.phase != "held":
        yield from _free(session)
        raise UnusableInputError(
            f"release `{session.release}` does not wait for a decision",
            hint="`mlops-deploy resume` goes on with it, `mlops-deploy abort` turns back",
        )
    time = yield from clock()
    yield from session.record(Advanced(at=time.wall, index=standing.index, by=holder.name))
    return (yield from _carried(session, (yield from journal_of(session.release))))


def abort(holder: Holder, reason: str) -> Run[Outcome]:
    """Turn the open release back; a journal that cannot be read is closed, and traffic left where it is.

    Raises `UnusableInputError` when no release is open, or when the open one is promoted already.
    """
    lease, index = yield from leases.acquire(holder, None)
    session = yield from _session("", lease, index, ())
    try:
        found = yield from situation()
    except NeedsHumanError as lost:
        yield from session.put(CURRENT, None)
        yield from _free(session)
        return Outcome(result="aborted", code=0, release=None, reason=f"{lost.message}; closed, nothing was changed")
    standing = yield from _joined(session, found, holder)
    if standing.promoted:
        yield from _free(session)
        raise UnusableInputError(
            f"release `{session.release}` is promoted: it can only be finished",
            hint="`mlops-deploy resume` finishes it, then `mlops-deploy rollback` goes back",
        )
    if standing.phase != "back":
        time = yield from clock()
        exposed = yield from _exposed(standing)
        yield from session.record(Turned(at=time.wall, index=standing.index, reason=reason, exposed=exposed))
        standing = yield from journal_of(session.release)
    outcome = yield from _carried(session, standing)
    return _as_asked(outcome) if outcome.result == "reverted" else outcome


def _as_asked(outcome: Outcome) -> Outcome:
    """An abort that ended clean is what was asked for."""
    return Outcome(result="aborted", code=0, release=outcome.release, reason=outcome.reason, standing=outcome.standing)


def _session(name: str, lease: leases.Lease, index: int, artefacts: tuple[Artefact, ...]) -> Run[Session]:
    time = yield from clock()
    known = {artefact.key: artefact for artefact in artefacts}
    return Session(release=name, lease=lease, index=index, renewed=time.elapsed, artefacts=known)


def refuse_busy() -> Run[None]:
    """Raise `LockedError` when the service is frozen, or a release of it has not ended."""
    freeze = yield from kept(FREEZE, Freeze)
    if freeze is not None:
        raise LockedError(
            f"the service is frozen by `{freeze.by}`: {freeze.reason}", hint="`mlops-deploy unfreeze` lifts it"
        )
    found = yield from situation()
    if found.open is not None:
        raise open_release(found)


def open_release(found: Situation) -> LockedError:
    """The error of a release that has not ended."""
    doing = "waits for a decision" if found.open and found.open.phase == "held" else "has not ended, and nobody runs it"
    going_on = "advance" if found.open and found.open.phase == "held" else "resume"
    return LockedError(
        f"release `{found.release}` {doing}",
        hint=f"`mlops-deploy {going_on}` goes on with it, `mlops-deploy abort` turns back",
    )


def refuse_stale(plan: Plan) -> Run[None]:
    """Raise `LockedError` when what `plan` was made from has changed."""
    now = base_of((yield from observe()))
    if now != plan.base:
        raise LockedError(
            "the plan is stale: the slots, the route or the freeze have changed since it was made",
            hint="`mlops-deploy plan` makes a new one",
        )


def _opened(session: Session, plan: Plan, holder: Holder) -> Run[Standing]:
    for artefact in plan.artefacts:
        yield from session.put(artefact_key(artefact.key), encode(artefact))
    time = yield from clock()
    tally = tally_of((yield from router_view()))
    opened = Opened(
        at=time.wall, release=session.release, holder=holder.name, token=session.token, plan=plan, tally=tally
    )
    yield from session.record(opened)
    yield from session.put(CURRENT, session.release)
    return Standing(opened=opened)


def tally_of(view: RouterView) -> Tally:
    """The router's counters now."""
    return Tally(started=view.started, a=view.a.counters, b=view.b.counters, entry=view.entry)


def _taken(holder: Holder) -> Run[tuple[Session, Standing]]:
    lease, index = yield from leases.acquire(holder, None)
    session = yield from _session("", lease, index, ())
    try:
        found = yield from situation()
    except DeployError:
        yield from _free(session)
        raise
    return session, (yield from _joined(session, found, holder))


def _joined(session: Session, found: Situation, holder: Holder) -> Run[Standing]:
    if found.open is None or found.release is None:
        yield from _free(session)
        raise UnusableInputError("no release is open", hint="`mlops-deploy status` shows what is live")
    session.release = found.release
    session.artefacts = {artefact.key: artefact for artefact in found.open.plan.artefacts}
    session.position = len((yield from lines(found.release)).lines)
    time = yield from clock()
    yield from session.record(Taken(at=time.wall, holder=holder.name, token=session.token))
    return found.open


def _carried(session: Session, standing: Standing) -> Run[Outcome]:
    """Walk on, whichever way, and let go of the lease however it ends."""
    try:
        outcome = yield from _walked(session, standing)
    except InterruptedByUserError as stop:
        outcome = yield from _interrupted(session, stop.message)
    except BrokenWorldError as broken:
        outcome = _ended("unreachable", broken.exit_code, session, broken)
    except UnreachableError as gone:
        outcome = _ended("unreachable", gone.exit_code, session, gone)
    except LockedError as fenced:
        return _ended("locked", fenced.exit_code, session, fenced)
    yield from _free(session)
    return outcome


def _ended(result: Result, code: int, session: Session, error: DeployError) -> Outcome:
    hint = "`mlops-deploy resume` goes on, `mlops-deploy abort` turns back" if result == "unreachable" else error.hint
    return Outcome(
        result=result, code=code, release=session.release, reason=error.message, lines=error.detail, hint=hint
    )


def _interrupted(session: Session, reason: str) -> Run[Outcome]:
    time = yield from clock()
    with suppress(DeployError):  # the journal is ahead already: it holds the step that was begun
        yield from session.record(Interrupted(at=time.wall, reason=reason))
    return Outcome(
        result="interrupted",
        code=InterruptedByUserError.exit_code,
        release=session.release,
        reason=f"{reason}: traffic stays as it was last committed",
        hint="`mlops-deploy resume` goes on, `mlops-deploy abort` turns back",
    )


def _free(session: Session) -> Run[None]:
    with suppress(DeployError):  # it expires by itself
        yield from session.let_go()


def _walked(session: Session, standing: Standing) -> Run[Outcome]:
    if standing.phase == "back":
        return (yield from _backward(session, standing))
    try:
        held = yield from _forward(session, standing)
    except (StepFailedError, BrokenWorldError) as failed:
        return (yield from _turned(session, failed))
    if held is not None:
        return held
    return (yield from _finished(session))


def _forward(session: Session, standing: Standing) -> Run[Outcome | None]:
    """Take the steps that are left; an outcome when the release is held."""
    spent = yield from _spent(standing)
    for index in range(standing.index, len(standing.plan.steps)):
        planned = standing.plan.steps[index]
        if isinstance(planned.step, Hold):
            return (yield from _hold(session, index, planned.step))
        yield from _stepped(session, planned, index, spent)
        spent = 0.0
    return None


def _spent(standing: Standing) -> Run[float]:
    """For how long the step that was begun had been going on; a clock set back counts as no time."""
    time = yield from clock()
    return max(0.0, time.wall - standing.began.at) if standing.began and not standing.began.undo else 0.0


def _stepped(session: Session, planned: Planned, index: int, spent: float) -> Run[None]:
    yield from session.rest(0.0)
    before = yield from clock()
    # A bake that goes on in another process keeps its first beginning.
    began = before.wall - (spent if isinstance(planned.step, Bake) else 0.0)
    yield from session.record(Began(at=began, index=index))
    evidence = yield from act(session, planned.step, spent)
    after = yield from clock()
    took = after.elapsed - before.elapsed
    switch = session.switch if isinstance(planned.step, Shift) else None
    yield from session.record(Done(at=after.wall, index=index, seconds=took, evidence=evidence, switch=switch))


def _hold(session: Session, index: int, step: Hold) -> Run[Outcome]:
    time = yield from clock()
    yield from session.record(HeldBack(at=time.wall, index=index, until=time.wall + step.deadline))
    return Outcome(
        result="held",
        code=0,
        release=session.release,
        reason=step.reason,
        hint="`mlops-deploy advance` goes on, `mlops-deploy abort` turns back",
        standing=(yield from journal_of(session.release)),
    )


def _turned(session: Session, failed: DeployError) -> Run[Outcome]:
    standing = yield from journal_of(session.release)
    if standing.promoted:
        return _ended("stuck", NeedsHumanError.exit_code, session, failed)
    time = yield from clock()
    exposed = yield from _exposed(standing)
    turned = Turned(
        at=time.wall, index=standing.index, reason=failed.message, lines=tuple(failed.detail), exposed=exposed
    )
    yield from session.record(turned)
    return (yield from _backward(session, (yield from journal_of(session.release))))


def _exposed(standing: Standing) -> Run[bool]:
    """Whether traffic was touched: by the journal, or, should it have lost lines, by the route itself."""
    view = yield from router_view()
    return standing.exposed or view.route != standing.plan.base.route


def _backward(session: Session, standing: Standing) -> Run[Outcome]:
    turned, plan = standing.turned, standing.plan
    reason = turned.reason if turned else ""
    try:
        for index in range(min(plan.point_of_no_return, len(plan.steps)) - 1, -1, -1):
            if not (yield from _took_effect(plan.steps[index].step, begun=index <= standing.index)):
                continue
            for part, step in enumerate(plan.steps[index].undo):
                yield from _undone(session, step, index, part)
    except (StepFailedError, BrokenWorldError, UnreachableError) as failed:
        return (yield from _stuck(session, reason, failed))
    exposed = turned is not None and turned.exposed
    code = REVERTED if exposed else NEVER_READY
    yield from _end(session, code, reason)
    return Outcome(
        result="reverted",
        code=code,
        release=session.release,
        reason=reason,
        lines=turned.lines if turned else (),
        hint="`mlops-deploy logs` shows more of what the candidate wrote",
        standing=(yield from journal_of(session.release)),
    )


def _took_effect(step: Step, *, begun: bool) -> Run[bool]:
    """Whether a step has to be taken back: it was begun, or the world shows what it does although no line says so.

    A route is taken back only while it is the committed one: what replaced it was its undo, or somebody's decision.
    """
    match step:
        case Shift(route=route):
            return (yield from router_view()).route == route
        case Start(slot=slot, key=key):
            return begun or (yield from slot_view(slot)).key == key
        case Stop(slot=slot):
            return begun or (yield from slot_view(slot)).state in {"absent", "stopped"}
        case _:
            return begun


def _undone(session: Session, step: Step, index: int, part: int) -> Run[None]:
    yield from session.rest(0.0)
    before = yield from clock()
    yield from session.record(Began(at=before.wall, index=index, undo=True, part=part))
    evidence = yield from act(session, step)
    after = yield from clock()
    took = after.elapsed - before.elapsed
    yield from session.record(Done(at=after.wall, index=index, undo=True, part=part, seconds=took, evidence=evidence))


def _stuck(session: Session, reason: str, failed: DeployError) -> Run[Outcome]:
    """The way back cannot be confirmed: freeze the service, so that nothing else touches it before a person has."""
    time = yield from clock()
    why = f"release `{session.release}` could not turn back: {failed.message}"
    with suppress(DeployError):
        yield from session.put(FREEZE, encode(Freeze(reason=why, by=session.release, at=time.wall)))
    return Outcome(
        result="stuck",
        code=NeedsHumanError.exit_code,
        release=session.release,
        reason=f"{why} (it turned back because: {reason})",
        lines=tuple(failed.detail),
        hint="mend that, then `mlops-deploy abort` finishes turning back and lifts the freeze",
    )


def _finished(session: Session) -> Run[Outcome]:
    yield from _end(session, 0, "released")
    standing = yield from journal_of(session.release)
    return Outcome(result="released", code=0, release=session.release, reason="released", standing=standing)


def _end(session: Session, code: int, reason: str) -> Run[None]:
    freeze = yield from kept(FREEZE, Freeze)
    if freeze is not None and freeze.by == session.release:
        yield from session.put(FREEZE, None)
    time = yield from clock()
    tally = tally_of((yield from router_view()))
    yield from session.record(Ended(at=time.wall, code=code, reason=reason, tally=tally))
