"""How a command on a release ended, and the last line that says so in the journal."""

from dataclasses import dataclass
from typing import Final, Literal

from mlops_deploy.errors import DeployError
from mlops_deploy.release.exchange import Run, clock, router_view
from mlops_deploy.release.journal import Ended, Standing, Tally
from mlops_deploy.release.observe import FREEZE, journal_of, kept
from mlops_deploy.release.session import Session
from mlops_deploy.release.state import Freeze, RouterView

Result = Literal["released", "nothing", "held", "aborted", "reverted", "stuck", "interrupted", "unreachable", "locked"]

DECIDE: Final = "`mlops-deploy advance` goes on, `mlops-deploy abort` turns back"
GO_ON: Final = "`mlops-deploy resume` goes on, `mlops-deploy abort` turns back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a command ended: its exit code, why, and where the release stands now, None where no journal says it."""

    result: Result
    code: int
    release: str | None
    reason: str
    lines: tuple[str, ...] = ()
    hint: str | None = None
    standing: Standing | None = None


def stopped(result: Result, session: Session, error: DeployError, code: int | None = None) -> Outcome:
    """The outcome of a release that has not ended, because of `error`."""
    return Outcome(
        result=result,
        code=error.exit_code if code is None else code,
        release=session.release,
        reason=error.message,
        lines=error.detail,
        hint=error.hint or GO_ON,
    )


def tally_of(view: RouterView) -> Tally:
    """The router's counters now."""
    return Tally(started=view.started, a=view.a.counters, b=view.b.counters, entry=view.entry)


def ended(session: Session, code: int, reason: str) -> Run[Standing]:
    """Lift the release's own freeze and write its last line."""
    freeze = yield from kept(FREEZE, Freeze)
    if freeze is not None and freeze.by == session.release:
        yield from session.put(FREEZE, None)
    time = yield from clock()
    tally = tally_of((yield from router_view()))
    yield from session.record(Ended(at=time.wall, code=code, reason=reason, tally=tally))
    return (yield from journal_of(session.release))
