"""Runs drawn from a seed: any start state, faults at any effect, harm from outside, several processes at once."""

from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Final

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.release.acts import PROOF_SECONDS
from mlops_deploy.release.effects import CommitRoute, Effect, Pause, ReadClock, Tell
from mlops_deploy.release.exchange import BREATH
from tests.simulation.enumeration import WRITES
from tests.simulation.scenarios import SCENARIOS, plan_of
from tests.simulation.sim import TARGET, TIMEOUT, Actor, Fault, Injector, Sim, no_fault
from tests.simulation.story import VERBS, Story, begin
from tests.simulation.world import GOOD, Fate, FateKind

NAMES: Final = tuple(SCENARIOS)

_ON_WRITES: Final = (
    Fault.LOST_REQUEST,
    Fault.LOST_ANSWER,
    Fault.LOST_ANSWER,
    Fault.LATE,
    Fault.DUPLICATE,
    Fault.SLOW,
    Fault.SLEPT,
    Fault.CRASH_BEFORE,
    Fault.CRASH_AFTER,
)
_ON_READS: Final = (Fault.LOST_REQUEST, Fault.LOST_REQUEST, Fault.STALE, Fault.STALE, Fault.SLOW, Fault.SLEPT)
_BAD: Final[tuple[FateKind, ...]] = ("never", "bootstrap", "memory", "crash", "identity", "prediction", "flaps")


@dataclass(frozen=True, slots=True)
class Weather:
    """How bad a run gets: the chances of a fault at a write, at a look, of an interrupt, and of a refusal for good."""

    write: float
    look: float
    interrupt: float
    broken: float


CALM: Final = Weather(0.0, 0.0, 0.0, 0.0)
_WEATHERS: Final = (
    CALM,
    Weather(0.02, 0.0, 0.0, 0.0),
    Weather(0.0, 0.02, 0.0, 0.0),
    Weather(0.05, 0.01, 0.005, 0.0),
    Weather(0.1, 0.05, 0.002, 0.002),
    Weather(0.3, 0.1, 0.0, 0.0),
)


def injector(random: Random, weather: Weather) -> Injector:
    """Faults as the weather has it."""
    if weather is CALM:
        return no_fault

    def inject(_actor: Actor, effect: Effect) -> Fault | None:
        kind = type(effect)
        if kind is ReadClock or kind is Tell:
            return None
        chance = random.random()
        if kind is Pause:
            return Fault.INTERRUPT if chance < weather.interrupt else None
        if chance < weather.broken:
            return Fault.BROKEN
        if isinstance(effect, WRITES):
            if chance >= weather.write:
                return None
            fault = random.choice(_ON_WRITES)
            return Fault.LATE if fault is Fault.SLEPT and isinstance(effect, TARGET) else fault
        return random.choice(_ON_READS) if chance < weather.look else None

    return inject


def fate(random: Random) -> Fate:
    """What becomes of the next server."""
    copy, load = 0.5 * random.random(), 2.0 * random.random()
    if random.random() < 0.7:
        return Fate(copy=copy, load=load)
    return Fate(kind=random.choice(_BAD), copy=copy, load=load, at=4.0 * random.random())


def harm(story: Story, random: Random) -> None:
    """What comes from outside, at moments that are drawn now."""
    events = sorted(random.randrange(400) for _ in range(random.choice((0, 0, 0, 1, 1, 2))))
    if not events:
        return
    story.harmed = True

    def before(sim: Sim) -> None:
        while events and len(sim.trace) >= events[0]:
            events.pop(0)
            _strike(sim, random)
        if not events:
            sim.before = None

    story.sim.before = before


def _strike(sim: Sim, random: Random) -> None:
    world = sim.world
    match random.randrange(6):
        case 0 | 1:
            world.kill(random.choice(("a", "b")))
        case 2:
            world.restart_engine(30.0 * random.random())
        case 3:
            world.restart_router(10.0 * random.random())
        case 4:
            world.silence(10.0 * random.random())
        case _:
            for actor in sim.actors:
                actor.wall += 7200.0 * (random.random() - 0.5)


def tell(seed: int) -> Story:
    """The run of `seed`; raise `ViolationError` when something does not hold."""
    story = prepared(seed)
    played(story)
    return story


def prepared(seed: int) -> Story:
    """The start of the run of `seed`."""
    random = Random(seed)
    story = begin(random.choice(NAMES), seed)
    story.sim.random = story.sim.world.random = random
    return story


def played(story: Story) -> None:
    """The run, from its start to its end."""
    random, sim = story.sim.random, story.sim
    weather = random.choice(_WEATHERS)
    bad = random.random() < 0.4
    sim.world.fates = [fate(random) if bad else GOOD for _ in range(4)]
    sim.world.applying = random.choice((0.0, 0.0, 0.02, 0.5, 5.0))
    sim.world.long_requests = random.choice((0.0, 0.02, 0.2))
    story.harmed |= bad or weather.broken > 0
    harm(story, random)
    story.release(story.plan, injector(random, weather))
    if random.random() < 0.3:
        _rival(story, random, weather)
    sim.go()
    for _ in range(random.choice((0, 0, 1, 1, 2, 3))):
        sim.idle(random.choice((0.0, 5.0, 61.0, 61.0, 300.0, 90000.0)))
        _visitor(story, random, weather)
        sim.go()
    sim.idle(120.0)
    sim.before = None
    story.settle(random.choice(VERBS))
    story.check()
    if random.random() < 0.1:
        story.again()


def overtaken(name: str, late: float) -> Story:
    """The candidate dies when the route is sent, which arrives `late`: while the release turns back, or afterwards."""
    story = begin(name, 0)
    sim, slot = story.sim, story.plan.slot or "a"
    story.harmed, sim.lateness = True, TIMEOUT + BREATH + PROOF_SECONDS + late

    def inject(_actor: Actor, effect: Effect) -> Fault | None:
        if isinstance(effect, CommitRoute) and effect.route.weight(slot):
            sim.world.kill(slot)
            return Fault.LATE
        return None

    story.release(story.plan, inject)
    sim.go()
    if story.open():
        story.visit("advance", inject)
        sim.go()
    sim.idle(120.0)
    story.settle("abort")
    story.check()
    return story


def _rival(story: Story, random: Random, weather: Weather) -> None:
    """Another process at the same time."""
    after = random.choice((0.0, 0.01, 5.0, 70.0)) * (0.5 + random.random())
    if random.random() < 0.4:
        story.release(story.plan, injector(random, weather), after=after)
    else:
        story.visit(random.choice(VERBS), injector(random, weather), after=after)


def _visitor(story: Story, random: Random, weather: Weather) -> None:
    if random.random() < (0.85 if story.open() else 0.3):
        story.visit(random.choice(VERBS), injector(random, weather))
        return
    story.sim.world.mend()
    with suppress(UnusableInputError):  # there is nothing to go back to any more
        plan = plan_of(story.scenario, story.sim.world)
        if plan.steps:
            story.release(plan, injector(random, weather))
