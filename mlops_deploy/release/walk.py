"""The loop of a release, which executes a plan: forward step by step, back when one fails, the lease let go of.

Every step: write the intent, act, observe, write the result. Whoever takes over after a death reads the journal, looks
at the world, and repeats the step that was begun; repeating is always right, because every step is idempotent.
"""

from contextlib import suppress

from mlops_deploy.errors import (
    DeployError,
    InterruptedByUserError,
    LockedError,
    NeedsHumanError,
    UnreachableError,
)
from mlops_deploy.release.acts import StepFailedError, act
from mlops_deploy.release.exchange import BrokenWorldError, Run, clock, router_view
from mlops_deploy.release.journal import Began, Done, HeldBack, Interrupted, Standing
from mlops_deploy.release.observe import journal_of
from mlops_deploy.release.outcome import DECIDE, GO_ON, Outcome, ended, stopped
from mlops_deploy.release.session import Session
from mlops_deploy.release.steps import Bake, Hold, Planned, Shift
from mlops_deploy.release.turning import backward, turn


def carried(session: Session, standing: Standing) -> Run[Outcome]:
    """Walk on, whichever way, and let go of the lease however it ends."""
    try:
        outcome = yield from _walked(session, standing)
    except InterruptedByUserError as stop:
        outcome = yield from _interrupted(session, stop.message)
    except UnreachableError as gone:
        outcome = stopped("unreachable", session, gone)
    except BrokenWorldError as broken:
        outcome = yield from _broken(session, standing, broken)
    except LockedError as fenced:
        outcome = stopped("locked", session, fenced)
    yield from session.let_go()
    return outcome


def _walked(session: Session, standing: Standing) -> Run[Outcome]:
    if standing.phase == "back":
        return (yield from backward(session, standing))
    try:
        held = yield from _forward(session, standing)
    except (StepFailedError, BrokenWorldError) as failed:
        return (yield from _turned(session, failed))
    if held is not None:
        return held
    reached = yield from ended(session, 0, "released")
    return Outcome(result="released", code=0, release=session.release, reason="released", standing=reached)


def _broken(session: Session, standing: Standing, broken: BrokenWorldError) -> Run[Outcome]:
    """Not even turning back could be written down: a person is needed when requests may have been exposed."""
    touched = True
    with suppress(DeployError):
        touched = (yield from router_view()).generation != standing.plan.base.generation
    if touched:
        return stopped("stuck", session, broken, NeedsHumanError.exit_code)
    return stopped("unreachable", session, broken)


def _interrupted(session: Session, reason: str) -> Run[Outcome]:
    time = yield from clock()
    if not session.closed:
        with suppress(DeployError):  # the journal is ahead already: it holds the step that was begun
            yield from session.record(Interrupted(at=time.wall, reason=reason))
    return Outcome(
        result="interrupted",
        code=InterruptedByUserError.exit_code,
        release=session.release,
        reason=f"{reason}: traffic stays as it was last committed",
        hint=GO_ON,
    )


def _forward(session: Session, standing: Standing) -> Run[Outcome | None]:
    """Take the steps that are left; an outcome when the release is held."""
    spent = yield from _spent(standing)
    for index in range(standing.index, len(standing.plan.steps)):
        planned = standing.plan.steps[index]
        if isinstance(planned.step, Hold):
            return (yield from _held(session, index, planned.step))
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


def _held(session: Session, index: int, step: Hold) -> Run[Outcome]:
    time = yield from clock()
    yield from session.record(HeldBack(at=time.wall, index=index, until=time.wall + step.deadline))
    reached = yield from journal_of(session.release)
    return Outcome(result="held", code=0, release=session.release, reason=step.reason, hint=DECIDE, standing=reached)


def _turned(session: Session, failed: DeployError) -> Run[Outcome]:
    standing = yield from journal_of(session.release)
    if standing.promoted:
        return stopped("stuck", session, failed, NeedsHumanError.exit_code)
    return (yield from backward(session, (yield from turn(session, standing, failed.message, failed.detail))))
