"""What is so now: the slots, the router, who is at work, what waits for a decision. Looks, and changes nothing."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Literal

from mlops_deploy.api.drive import World, drive
from mlops_deploy.api.service import Service, find_keeper, find_native, world_on
from mlops_deploy.errors import NeedsHumanError, UnreachableError
from mlops_deploy.ports import Clock, Keeper
from mlops_deploy.release import lease as leases
from mlops_deploy.release.acts import limit
from mlops_deploy.release.exchange import PATIENCE, Run, stored
from mlops_deploy.release.journal import Standing
from mlops_deploy.release.observe import current, journal_of, observe
from mlops_deploy.release.rollback import before, is_hot
from mlops_deploy.release.rolling import RollingView
from mlops_deploy.release.state import Live, Observed, Slot
from mlops_deploy.release.steps import Step

Role = Literal["live", "candidate", "parked", "failed", "stopped", "empty"]
Course = Literal["running", "orphaned", "held", "stuck", "unreadable"]

SECOND: Final = 1.0
"""How often a service is looked at while somebody watches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One look. `holder` has the lease, heard `age` seconds ago; `release` is the last one that began.

    `open` is where that one stands unless it has ended, `trouble` why its journal cannot be read.
    """

    observed: Observed
    holder: leases.Lease | None
    age: float
    release: str | None
    open: Standing | None
    trouble: str | None

    @property
    def live(self) -> Live | None:
        """The promotion that what is live goes back to, None when nothing is live or it is not promoted (yet)."""
        live, slot = self.observed.live, self.observed.router.route.live
        good = live is not None and slot == live.slot and self.observed.slot(live.slot).key == live.key
        return live if good else None

    @property
    def hot(self) -> bool:
        """Whether `rollback` would be one router write."""
        target = before(self.observed)
        return target is not None and is_hot(self.observed, target)

    @property
    def course(self) -> Course | None:
        """How the open release goes, None when none is open."""
        if self.trouble is not None:
            return "unreadable"
        if self.open is None:
            return None
        if self.open.phase == "held":
            return "held"
        if self.holder is not None:
            return "running"
        freeze = self.observed.freeze
        return "stuck" if freeze is not None and freeze.by == self.release else "orphaned"

    def role(self, slot: Slot) -> Role:
        """What `slot` is to the service."""
        view = self.observed.slot(slot)
        if self.observed.router.route.weight(slot) and view.state != "absent":
            return "live"
        if view.state in {"failed", "absent"}:
            return "failed" if view.state == "failed" else "empty"
        if self.open is not None and self.open.plan.slot == slot and not self.open.promoted:
            return "candidate"
        return "parked" if view.state == "running" else "stopped" if view.state == "stopped" else "candidate"


def look() -> Run[Status]:
    """Look once."""
    observed = yield from observe()
    found = yield from stored(leases.KEY)
    release = yield from current()
    standing, trouble = None, None
    if release is not None:
        try:
            standing = yield from journal_of(release)
        except NeedsHumanError as lost:
            trouble = lost.message
    return Status(
        observed=observed,
        holder=leases.holder_of(found),
        age=found.age,
        release=release,
        open=standing if standing is not None and standing.phase != "ended" else None,
        trouble=trouble,
    )


def following(status: Status | RollingView | None) -> tuple[str, ...]:
    """What makes sense next: commands without their program, the first before the second."""
    if not isinstance(status, Status):
        return ("release",) if status is None else ("logs",)
    match status.course:
        case "held":
            return ("advance", "abort")
        case "running":
            return ("status -w",)
        case "stuck" | "unreadable":
            return ("abort",)
        case "orphaned":
            return ("resume",) if status.open and status.open.promoted else ("resume", "abort")
        case None:
            return (_at_rest(status),)


def _at_rest(status: Status) -> str:
    if status.observed.freeze is not None:
        return "unfreeze"
    if status.live is None:
        return "release"
    return "rollback" if status.hot else "history"


def doing(standing: Standing) -> Step | None:
    """The step that was begun and has not ended, forward or back."""
    began = standing.began
    if began is None:
        return None
    planned = standing.plan.steps[began.index]
    return planned.undo[began.part] if began.undo else planned.step


def deadline(standing: Standing) -> float | None:
    """When, in seconds since 1970, what an open release does now has to be over; None between two steps."""
    if standing.phase == "held" and standing.held is not None:
        return standing.held.until
    step = doing(standing)
    return None if step is None or standing.began is None else standing.began.at + limit(step)


class HastyClock:
    """The time of another clock for those who only look: waiting gains them nothing, so no patience is left after it.

    A look that is not answered is tried once more, at once.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._skipped = 0.0

    def wall(self) -> float:
        """See `ports.Clock`."""
        return self._clock.wall()

    def elapsed(self) -> float:
        """See `ports.Clock`."""
        return self._clock.elapsed() + self._skipped

    def pause(self, seconds: float) -> str | None:  # noqa: ARG002 - see above
        """Over at once."""
        self._skipped += PATIENCE
        return None

    def listening(self) -> AbstractContextManager[None]:
        """See `ports.Clock`."""
        return self._clock.listening()


def looking(service: Service, keeper: Keeper) -> World:
    """The world of a command that only looks."""
    return World(target=service.target, keeper=keeper, clock=HastyClock(service.clock))


def status(service: Service) -> Status | RollingView | None:
    """How the service is, None where nothing runs; raise `UnreachableError` when its router alone does not.

    Of one that was released with `--native` its one job.
    """
    keeper = find_keeper(service)
    if keeper is None:
        return find_native(service)
    with world_on(service, keeper):
        return drive(look(), looking(service, keeper))


def watch(service: Service) -> Iterator[Status | RollingView | UnreachableError | None]:
    """The status every second, for ever; also what cannot be reached at the moment, and None before a first release."""
    while True:
        keeper = None
        try:
            if (keeper := find_keeper(service)) is None:
                yield find_native(service)
                service.clock.pause(SECOND)
                continue
            while True:
                yield drive(look(), looking(service, keeper))
                service.clock.pause(SECOND)
        except UnreachableError as gone:
            yield gone
            service.clock.pause(SECOND)
        finally:
            if keeper is not None:
                keeper.close()
