"""The commands on releases: begin one, go on with it, decide, turn it back. Each takes the lease and lets go of it.

What they have in common, the loop over the steps, is `walk.carried`; one step is `acts.act`, the way back `turning`.
"""

from typing import TypeVar

from mlops_deploy.errors import DeployError, LockedError, NeedsHumanError, UnusableInputError
from mlops_deploy.release import lease as leases
from mlops_deploy.release.codec import encode
from mlops_deploy.release.exchange import Run, clock, lines, router_view, stored
from mlops_deploy.release.journal import Advanced, Opened, Standing, Taken
from mlops_deploy.release.lease import Holder
from mlops_deploy.release.observe import (
    CURRENT,
    FREEZE,
    Situation,
    artefact_key,
    journal_of,
    kept,
    observe,
    situation,
)
from mlops_deploy.release.outcome import DECIDE, Outcome, tally_of
from mlops_deploy.release.plan import Plan, base_of, stale
from mlops_deploy.release.session import Session
from mlops_deploy.release.state import Artefact, Freeze
from mlops_deploy.release.turning import turn
from mlops_deploy.release.walk import carried

T = TypeVar("T")


def release(plan: Plan, name: str, holder: Holder) -> Run[Outcome]:
    """Carry out `plan` as the release `name`.

    Raises `LockedError` when another holds the lease, another release is open, the service is frozen or the plan
    stale; nothing has changed then.
    """
    session = yield from begun(holder, name, plan.artefacts)
    standing = yield from or_free(session, _opening(session, plan, holder))
    return (yield from carried(session, standing))


def resume(holder: Holder) -> Run[Outcome]:
    """Go on with the open release in its direction; raise `UnusableInputError` when there is none."""
    session = yield from begun(holder, None)
    standing = yield from or_free(session, _resumed(session, holder))
    return (yield from carried(session, standing))


def advance(holder: Holder) -> Run[Outcome]:
    """Decide that the release which is held goes on; raise `UnusableInputError` when none is held."""
    session = yield from begun(holder, None)
    standing = yield from or_free(session, _advanced(session, holder))
    return (yield from carried(session, standing))


def abort(holder: Holder, reason: str) -> Run[Outcome]:
    """Turn the open release back; a journal that cannot be read is closed, and traffic left where it is.

    Raises `UnusableInputError` when no release is open, or when the open one is promoted already.
    """
    session = yield from begun(holder, None)
    standing = yield from or_free(session, _aborted(session, holder, reason))
    if isinstance(standing, Outcome):
        yield from session.let_go()
        return standing
    outcome = yield from carried(session, standing)
    return _as_asked(outcome) if outcome.result == "reverted" else outcome


def begun(holder: Holder, name: str | None, artefacts: tuple[Artefact, ...] = ()) -> Run[Session]:
    """Take the lease; raise `LockedError` at once when another holds it."""
    time = yield from clock()
    lease, index = yield from leases.acquire(holder, name)
    known = {artefact.key: artefact for artefact in artefacts}
    return Session(release=name or "", lease=lease, index=index, renewed=time.elapsed, artefacts=known)


def or_free(session: Session, run: Run[T]) -> Run[T]:
    """The result of `run`; what it raises is raised when the lease has been let go of."""
    try:
        return (yield from run)
    except DeployError:
        yield from session.let_go()
        raise


def found(session: Session) -> Run[Standing]:
    """Let `session` be of the open release, and write nothing yet; raise `UnusableInputError` when there is none."""
    now = yield from situation()
    if now.open is None or now.release is None:
        raise UnusableInputError("no release is open", hint="`mlops-deploy status` shows what is live")
    session.release = now.release
    session.artefacts = {artefact.key: artefact for artefact in now.open.plan.artefacts}
    session.position = len((yield from lines(now.release)).lines)
    return now.open


def taken(session: Session, holder: Holder) -> Run[None]:
    """Write that `holder` goes on with the release. A command that is refused does not: the journal's times count."""
    time = yield from clock()
    yield from session.record(Taken(at=time.wall, holder=holder.name, token=session.token))


def _resumed(session: Session, holder: Holder) -> Run[Standing]:
    standing = yield from found(session)
    if standing.phase == "held":
        raise UnusableInputError(f"release `{session.release}` waits for a decision", hint=DECIDE)
    yield from taken(session, holder)
    return standing


def _advanced(session: Session, holder: Holder) -> Run[Standing]:
    standing = yield from found(session)
    if standing.phase != "held":
        raise UnusableInputError(
            f"release `{session.release}` does not wait for a decision",
            hint="`mlops-deploy resume` goes on with it, `mlops-deploy abort` turns back",
        )
    yield from taken(session, holder)
    time = yield from clock()
    yield from session.record(Advanced(at=time.wall, index=standing.index, by=holder.name))
    return (yield from journal_of(session.release))


def _aborted(session: Session, holder: Holder, reason: str) -> Run[Standing | Outcome]:
    try:
        standing = yield from found(session)
    except NeedsHumanError as lost:
        return (yield from _closed(session, lost))
    if standing.promoted:
        raise UnusableInputError(
            f"release `{session.release}` is promoted: it can only be finished",
            hint="`mlops-deploy resume` finishes it, then `mlops-deploy rollback` goes back",
        )
    yield from taken(session, holder)
    return standing if standing.phase == "back" else (yield from turn(session, standing, reason))


def _closed(session: Session, lost: NeedsHumanError) -> Run[Outcome]:
    """Nothing can be known of the open release: no other waits for it any more."""
    yield from session.put(CURRENT, None)
    return Outcome(result="aborted", code=0, release=None, reason=f"{lost.message}; closed, nothing was changed")


def _as_asked(outcome: Outcome) -> Outcome:
    """An abort that ended clean is what was asked for."""
    return Outcome(result="aborted", code=0, release=outcome.release, reason=outcome.reason, standing=outcome.standing)


def _opening(session: Session, plan: Plan, holder: Holder) -> Run[Standing]:
    yield from refuse_busy()
    yield from refuse_stale(plan)
    for artefact in plan.artefacts:
        yield from session.put(artefact_key(artefact.key), encode(artefact))
    time = yield from clock()
    tally = tally_of((yield from router_view()))
    opened = Opened(
        at=time.wall, release=session.release, holder=holder.name, token=session.token, plan=plan, tally=tally
    )
    yield from session.record(opened)
    yield from session.put(CURRENT, session.release)
    return Standing(opened=opened, at=time.wall)


def refuse_busy() -> Run[None]:
    """Raise `LockedError` when the service is frozen, or a release of it has not ended."""
    freeze = yield from kept(FREEZE, Freeze)
    if freeze is not None:
        own = freeze.by == (yield from stored(CURRENT)).value
        stuck = own and (yield from situation()).open is not None
        raise LockedError(
            f"the service is frozen by `{freeze.by}`: {freeze.reason}",
            hint=f"`mlops-deploy {'abort' if stuck else 'unfreeze'}` lifts it",
        )
    now = yield from situation()
    if now.open is not None:
        raise open_release(now)


def open_release(now: Situation) -> LockedError:
    """The error of a release that has not ended."""
    doing = "waits for a decision" if now.open and now.open.phase == "held" else "has not ended, and nobody runs it"
    going_on = "advance" if now.open and now.open.phase == "held" else "resume"
    return LockedError(
        f"release `{now.release}` {doing}",
        hint=f"`mlops-deploy {going_on}` goes on with it, `mlops-deploy abort` turns back",
    )


def refuse_stale(plan: Plan) -> Run[None]:
    """Raise `LockedError` when what `plan` was made from has changed."""
    if base_of((yield from observe())) != plan.base:
        raise stale()
