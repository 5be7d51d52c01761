"""How a command that changed something ended: what is live, what the router counted meanwhile, how long it took."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from mlops_deploy.api.drive import World, drive
from mlops_deploy.errors import DeployError
from mlops_deploy.release.effects import Lines
from mlops_deploy.release.exchange import Run, lines
from mlops_deploy.release.journal import Done, Ended, Entry, Opened, Tally, from_line
from mlops_deploy.release.observe import observe
from mlops_deploy.release.outcome import Outcome, Result, tally_of
from mlops_deploy.release.plan import live_slot
from mlops_deploy.release.state import SLOTS, Counters, Observed, Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What the router counted between two moments."""

    entry: Counters
    a: Counters
    b: Counters


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotReport:
    """One slot: the version that it holds, its state, and its share of the traffic in 10,000."""

    version: str | None
    state: str
    share: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The end of a command. `traffic` is None where nothing could be counted, with the reason in `uncounted`.

    `live` names what gets all traffic; `switch` and `seconds` are seconds, of the last route and of the whole release.
    """

    result: Result
    code: int
    release: str | None
    reason: str
    lines: tuple[str, ...] = ()
    hint: str | None = None
    live: str | None = None
    slot: Slot | None = None
    slots: dict[Slot, SlotReport] | None = None
    traffic: Traffic | None = None
    uncounted: str | None = None
    switch: float | None = None
    seconds: float | None = None


def counted(before: Tally, after: Tally) -> Traffic | None:
    """What was counted in between; None when the router was started anew, because then nothing can be subtracted."""
    if before.started != after.started:
        return None
    return Traffic(entry=_less(after.entry, before.entry), a=_less(after.a, before.a), b=_less(after.b, before.b))


def _less(after: Counters, before: Counters) -> Counters:
    return Counters(requests=after.requests - before.requests, failed=after.failed - before.failed)


def report_on(outcome: Outcome, world: World) -> Report:
    """The report of a command that ended with `outcome`; what cannot be looked at any more is left out."""
    seen: Observed | None = None
    entries: tuple[Entry, ...] = ()
    if outcome.result == "unreachable":  # it has been waited for long enough
        return _reported(outcome, seen, entries)
    with suppress(DeployError):
        seen = drive(observe(), world)
        entries = _entries(drive(_journal(outcome.release), world))
    return _reported(outcome, seen, entries)


def nothing_done(observed: Observed) -> Report:
    """The report of a command that found everything as it was asked for."""
    outcome = Outcome(result="nothing", code=0, release=None, reason="nothing to do")
    return _reported(outcome, observed, ())


def _journal(release: str | None) -> Run[Lines]:
    return Lines(lines=()) if release is None else (yield from lines(release))


def _entries(found: Lines) -> tuple[Entry, ...]:
    return tuple(from_line(line, number) for number, line in enumerate(found.lines))


def _reported(outcome: Outcome, seen: Observed | None, entries: Sequence[Entry]) -> Report:
    opened = next((entry for entry in entries if isinstance(entry, Opened)), None)
    ended = next((entry for entry in entries if isinstance(entry, Ended)), None)
    after = ended.tally if ended and ended.tally else tally_of(seen.router) if seen else None
    traffic = counted(opened.tally, after) if opened and after else None
    switches = [entry.switch for entry in entries if isinstance(entry, Done) and entry.switch is not None]
    slot = live_slot(seen) if seen else None
    return Report(
        result=outcome.result,
        code=outcome.code,
        release=outcome.release,
        reason=outcome.reason,
        lines=outcome.lines,
        hint=outcome.hint,
        live=_version(seen, slot) if seen and slot else None,
        slot=slot,
        slots={name: _slot(seen, name) for name in SLOTS} if seen else None,
        traffic=traffic,
        uncounted="the router was started anew meanwhile" if opened and after and traffic is None else None,
        switch=switches[-1] if switches else None,
        seconds=max(0.0, entries[-1].at - opened.at) if opened else None,
    )


def _version(seen: Observed, slot: Slot) -> str | None:
    artefact = seen.artefact(slot)
    return artefact.version if artefact else None


def _slot(seen: Observed, slot: Slot) -> SlotReport:
    share = seen.router.route.weight(slot)
    return SlotReport(version=_version(seen, slot), state=seen.slot(slot).state, share=share)
