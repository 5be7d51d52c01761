"""Every boundary between two effects, with every fault that can happen there, and whoever comes afterwards."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Final

from mlops_deploy.release.effects import (
    AppendLine,
    AskServer,
    CommitRoute,
    Effect,
    EnsureSlot,
    ObserveSlot,
    Pause,
    PutKey,
    ReadClock,
    StopSlot,
    Tell,
)
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.sim import TARGET, Actor, Event, Fault, Injector, no_fault
from tests.simulation.story import Story, Verb, begin

WRITES: Final = (CommitRoute, PutKey, AppendLine, EnsureSlot, StopSlot)
SHORT: Final = ("first", "next", "parked-same", "recreate", "rollback-hot")
"""The start states of which pairs of crashes are enumerated too."""

AFTERWARDS: Final[tuple[Verb, ...]] = ("resume", "abort")


@dataclass(frozen=True, slots=True)
class Point:
    """The `number`-th effect of the first process, and what happens to it."""

    scenario: str
    number: int
    fault: Fault
    at: float = 0.0


def faults_of(effect: Effect) -> tuple[Fault, ...]:
    """What can happen to `effect` that is not the same as something happening to its neighbours."""
    if isinstance(effect, Pause):
        return (Fault.INTERRUPT,)
    if isinstance(effect, ReadClock | Tell):
        return ()
    if isinstance(effect, WRITES):
        slept = () if isinstance(effect, TARGET) else (Fault.SLEPT,)
        return (*_ON_WRITES, *slept)
    stale = (Fault.STALE,) if isinstance(effect, ObserveSlot) else ()
    lost = (Fault.LOST_REQUEST, Fault.BROKEN) if not isinstance(effect, AskServer) else (Fault.LOST_REQUEST,)
    return (*lost, *stale)


_ON_WRITES: Final = (
    Fault.CRASH_BEFORE,
    Fault.CRASH_AFTER,
    Fault.LOST_REQUEST,
    Fault.LOST_ANSWER,
    Fault.LATE,
    Fault.DUPLICATE,
    Fault.BROKEN,
)


@cache
def clean(name: str) -> tuple[Event, ...]:
    """What the first process does when nothing goes wrong; with a hold, up to the hold."""
    story = begin(name, 0)
    story.release(story.plan)
    story.sim.go()
    return tuple(story.sim.trace)


def points(name: str) -> Iterator[Point]:
    """Every point of the scenario `name`."""
    for now, _, number, effect, _, _ in clean(name):
        for fault in faults_of(effect):
            yield Point(scenario=name, number=number, fault=fault, at=now - 1000.0)


def at(number: int, fault: Fault) -> Injector:
    """That `fault` at the effect `number`, and no other."""

    def inject(actor: Actor, _effect: Effect) -> Fault | None:
        return fault if actor.count + 1 == number else None

    return inject


def tell(point: Point, verb: Verb) -> Story:
    """One run with one fault; raise `ViolationError` when something does not hold."""
    story = begin(point.scenario, 0)
    story.harmed = point.fault is Fault.BROKEN
    story.release(story.plan, at(point.number, point.fault))
    if point.fault is Fault.SLEPT:
        story.visit(verb, after=point.at + 61.0)
    finish(story, verb)
    return story


def pairs(name: str) -> Iterator[Callable[[], Story]]:
    """Every crash after a write, and after it every crash after a write of whoever comes next."""
    first = [point.number for point in points(name) if point.fault is Fault.CRASH_AFTER]
    for number in first:
        for verb in AFTERWARDS:
            alone = _crashed(name, number, verb)
            for second in [event[2] for event in alone if isinstance(event[3], WRITES)]:
                yield partial(tell_pair, name, number, second, verb)


def _crashed(name: str, number: int, verb: Verb) -> list[Event]:
    """What the second process does after the first crashed."""
    story = _after_crash(name, number)
    if story.open():
        actor = story.visit(verb)
        story.sim.go()
        return [event for event in story.sim.trace if event[1] == actor.name]
    return []


def _after_crash(name: str, number: int) -> Story:
    story = begin(name, 0)
    story.release(story.plan, at(number, Fault.CRASH_AFTER))
    story.sim.go()
    story.sim.idle(61.0)
    return story


def tell_pair(name: str, first: int, second: int, verb: Verb) -> Story:
    """One run with two crashes."""
    story = _after_crash(name, first)
    story.visit(verb, at(second, Fault.CRASH_AFTER))
    story.sim.go()
    story.sim.idle(61.0)
    story.settle(verb)
    story.check()
    return story


def tell_advances(name: str, fault: Fault) -> int:
    """Every write of the process that goes on after the hold, with `fault`; how many runs that were."""
    runs = 0
    events = _advanced(begin(name, 0), no_fault).sim.trace
    for number in [event[2] for event in events if event[1] == "p2" and isinstance(event[3], WRITES)]:
        for verb in AFTERWARDS:
            finish(_advanced(begin(name, 0), at(number, fault)), verb)
            runs += 1
    return runs


def _advanced(story: Story, inject: Injector) -> Story:
    story.release(story.plan)
    story.sim.go()
    story.visit("advance", inject)
    story.sim.go()
    story.sim.idle(61.0)
    return story


def finish(story: Story, verb: Verb) -> None:
    """Everybody comes to an end, and the service takes its next release."""
    story.sim.go()
    story.settle(verb)
    story.check()
    if verb == "abort":
        story.again()


__all__ = [
    "AFTERWARDS",
    "SCENARIOS",
    "SHORT",
    "Point",
    "at",
    "clean",
    "finish",
    "pairs",
    "points",
    "tell",
    "tell_advances",
]
