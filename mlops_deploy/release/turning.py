"""Turning back: the undo of every step before the promotion, last first, also of those that no line speaks of.

What a step did is looked for in the world, so that a journal that lost its last lines is no danger, and turning back
may itself be cut off and begun again.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from mlops_deploy.errors import DeployError, InterruptedByUserError, NeedsHumanError, UnreachableError
from mlops_deploy.release.acts import StepFailedError, act
from mlops_deploy.release.exchange import BrokenWorldError, Run, clock, lines, router_view, slot_view
from mlops_deploy.release.journal import Began, Done, Standing, Turned, bounded
from mlops_deploy.release.observe import journal_of
from mlops_deploy.release.outcome import Outcome, ended, stopped
from mlops_deploy.release.session import Session
from mlops_deploy.release.state import Freeze
from mlops_deploy.release.steps import Shift, Start, Step

NEVER_READY: Final = 4
REVERTED: Final = 5
OVERDUE: Final = 7


def turn(
    session: Session, standing: Standing, reason: str, detail: Sequence[str] = (), *, overdue: bool = False
) -> Run[Standing]:
    """Record that the release turns back. It was exposed when the route was written since the plan was made.

    From here on nothing that was sent on the way forward can still take effect.
    """
    yield from session.fence()
    session.position = len((yield from lines(session.release)).lines)  # whatever of the last one has arrived
    generation = (yield from router_view()).generation
    turned = Turned(
        at=(yield from clock()).wall,
        index=standing.index,
        reason=reason,
        lines=tuple(detail),
        exposed=generation != standing.plan.base.generation,
        overdue=overdue,
    )
    yield from session.record(turned)
    return (yield from journal_of(session.release))


def backward(session: Session, standing: Standing) -> Run[Outcome]:
    """Undo what was done, last first, and end; or freeze the service when that cannot be confirmed."""
    turned = standing.turned
    reason = turned.reason if turned else ""
    try:
        yield from _all_undone(session, standing)
    except UnreachableError as gone:
        if turned is None or turned.exposed:
            return (yield from _stuck(session, reason, gone))
        return stopped("unreachable", session, gone)
    except (StepFailedError, BrokenWorldError) as failed:
        return (yield from _stuck(session, reason, failed))
    code = _code_of(turned)
    return Outcome(
        result="reverted",
        code=code,
        release=session.release,
        reason=reason,
        lines=turned.lines if turned else (),
        hint="`mlops-deploy status` shows what is live, `mlops-deploy history` keeps the reason",
        standing=(yield from ended(session, code, reason)),
    )


def _code_of(turned: Turned | None) -> int:
    if turned is None:
        return NEVER_READY
    return OVERDUE if turned.overdue else REVERTED if turned.exposed else NEVER_READY


def _all_undone(session: Session, standing: Standing) -> Run[None]:
    plan = standing.plan
    for index in range(plan.point_of_no_return - 1, -1, -1):
        planned = plan.steps[index]
        if planned.undo and (yield from _took_effect(planned.step, begun=index <= standing.index)):
            for part, step in enumerate(planned.undo):
                yield from _undone(session, step, index, part)


def _took_effect(step: Step, *, begun: bool) -> Run[bool]:
    """Whether a step has to be taken back: it was begun, or the world shows what it does although no line says so.

    A route is taken back only while it is the committed one, as what replaced it was its undo; a slot is emptied only
    of what was started there, never of something else.
    """
    match step:
        case Shift(route=route):
            return (yield from router_view()).route == route
        case Start(slot=slot, key=key):
            return (yield from slot_view(slot)).key == key
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
    why = bounded(f"release `{session.release}` could not turn back: {failed.message}")
    with suppress(UnreachableError, BrokenWorldError, InterruptedByUserError):
        yield from session.freeze(Freeze(reason=why, by=session.release, at=time.wall))
    return Outcome(
        result="stuck",
        code=NeedsHumanError.exit_code,
        release=session.release,
        reason=f"{why} (it turned back because: {reason})",
        lines=failed.detail,
        hint="mend that, then `mlops-deploy abort` finishes turning back and lifts the freeze",
    )
