"""What happens when nobody comes: the declared outcome of a deadline that is over, for a timer to carry out."""

from typing import Final, Literal

from mlops_deploy.release.acts import limit
from mlops_deploy.release.exchange import Run, clock
from mlops_deploy.release.executor import begun, found, or_free, taken
from mlops_deploy.release.journal import Standing
from mlops_deploy.release.lease import Holder
from mlops_deploy.release.observe import situation
from mlops_deploy.release.outcome import Outcome
from mlops_deploy.release.session import Session
from mlops_deploy.release.steps import Bake
from mlops_deploy.release.turning import turn
from mlops_deploy.release.walk import carried

Due = Literal["finish", "turn", "overdue"]

MARGIN: Final = 30.0
"""Seconds that a step may take beyond its own deadline until what it saw is written, before its holder is given up."""


def tend(holder: Holder) -> Run[Outcome | None]:
    """Carry out what is due for an open release that nobody carries on; None when nothing is.

    Before the promotion a step whose deadline is over turns back, and so does a hold (then the release ends with 7); a
    bake that is over is finished, and so is whatever is promoted or turning back already. Raises `LockedError` when
    another takes the lease first.
    """
    now = yield from situation()
    if now.open is None or now.holder is not None or (yield from _due(now.open)) is None:
        return None
    session = yield from begun(holder, None)
    standing = yield from or_free(session, _decided(session, holder))
    if standing is None:
        yield from session.let_go()
        return None
    return (yield from carried(session, standing))


def _decided(session: Session, holder: Holder) -> Run[Standing | None]:
    """Where the release stands when what is due was decided; looked at once more, now that the lease is ours."""
    now = yield from situation()
    due = None if now.open is None else (yield from _due(now.open))
    if due is None:
        return None
    standing = yield from found(session)
    yield from taken(session, holder)
    if due == "finish":
        return standing
    held = standing.phase == "held"
    reason = "no decision came in time" if held else "nobody went on with it, and its deadline is over"
    return (yield from turn(session, standing, reason, overdue=held))


def _due(standing: Standing) -> Run[Due | None]:
    now = (yield from clock()).wall
    if standing.held is not None and standing.phase == "held":
        return "overdue" if now >= standing.held.until else None
    if standing.promoted or standing.phase == "back":
        return "finish"
    if standing.index >= len(standing.plan.steps):
        return "finish"
    step = standing.plan.steps[standing.index].step
    if isinstance(step, Bake):
        since = standing.began.at if standing.began else standing.at
        return "finish" if now >= since + step.seconds else None
    return "turn" if now >= standing.at + limit(step) + MARGIN else None
