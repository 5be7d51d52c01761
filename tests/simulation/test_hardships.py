"""Hardships that no drawn run meets: a journal that lost its end, a machine that slept, two servers that died."""

import pytest

from mlops_deploy.release import lease as leases
from mlops_deploy.release.codec import encode
from mlops_deploy.release.effects import Effect, PutKey
from mlops_deploy.release.journal import Ended
from mlops_deploy.release.observe import FREEZE, LIVE
from mlops_deploy.release.state import Freeze, whole
from tests.simulation.enumeration import clean
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.sim import TARGET, Actor, Fault, Injector, Sim, no_fault
from tests.simulation.story import Story, Verb, begin
from tests.simulation.world import ViolationError


def released(name: str) -> Story:
    """A release of the scenario, at its end."""
    story = begin(name, 0)
    story.release(story.plan)
    story.sim.go()
    if story.open():
        story.visit("advance")
        story.sim.go()
    assert not story.open()
    return story


@pytest.mark.parametrize("verb", ["resume", "abort", "tend"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_promotion_stands_however_much_of_its_journal_is_lost(name: str, verb: Verb) -> None:
    length = len(released(name).sim.world.journals["r1"])
    for cut in range(1, length):
        story = released(name)
        world = story.sim.world
        del world.journals["r1"][cut:]
        written, live = world.generation, world.keys[LIVE]
        story.actors.clear()  # what they said is what the journal said then
        story.sim.idle(90_000.0)
        story.settle(verb)
        story.check()
        assert (world.generation, world.keys[LIVE]) == (written, live), f"{cut} lines were left"
        end = story.last()
        assert isinstance(end, Ended)
        assert end.code == 0


@pytest.mark.parametrize("verb", ["resume", "advance"])
def test_a_command_that_is_refused_writes_nothing(verb: Verb) -> None:
    name = "hold" if verb == "resume" else "next"
    story = begin(name, 0)
    actor = story.release(story.plan)
    while not story.open() or (name == "hold" and not actor.over):
        story.sim.step(actor)
    actor.effect = None
    before = list(story.sim.world.journals["r1"])
    story.sim.idle(61.0)
    refused = story.visit(verb)
    story.sim.go()
    assert refused.error is not None
    assert story.sim.world.journals["r1"] == before


SLEEP = 65.0


def asleep(name: str, missed: float) -> None:
    """The machine is suspended before each effect of a release, one release after the other."""
    for number in range(1, len(clean(name)) + 1):
        asleep_at(name, number, missed)


def asleep_at(name: str, number: int, missed: float) -> None:
    """The machine is suspended before the effect `number` of a release, which another aborts meanwhile."""
    story = begin(name, 0)
    sim, actor = story.sim, story.release(story.plan)
    while actor.count < number - 1:
        sim.step(actor)
    if isinstance(actor.effect, TARGET):
        return  # asked for at the very instant: nothing can be looked at in between
    actor.ready += SLEEP
    actor.hindered += SLEEP
    actor.missed = missed
    story.visit("abort", after=leases.TTL + 1.0)
    sim.go()
    sim.idle(leases.TTL + 1.0)
    story.settle("abort")
    story.check()


@pytest.mark.parametrize("name", SCENARIOS)
def test_who_slept_looks_at_the_lease_before_it_commands(name: str) -> None:
    asleep(name, 0.0)


def test_a_clock_that_stands_still_in_sleep_is_found() -> None:
    with pytest.raises(ViolationError, match="I6"):
        asleep("next", SLEEP)


def both_die(name: str, inject: Injector = no_fault) -> tuple[Story, Actor]:
    """A release whose candidate dies under traffic, and the old server with it."""
    story = begin(name, 0)
    story.harmed = True
    world, slot = story.sim.world, story.plan.slot or "b"

    def before(sim: Sim) -> None:
        if world.route == whole(slot):
            world.kill("a")
            world.kill("b")
            sim.before = None

    story.sim.before = before
    return story, story.release(story.plan, inject)


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in {"unbaked", "hold"}])
def test_an_old_server_that_died_too_is_started_again(name: str) -> None:
    story, actor = both_die(name)
    story.sim.go()
    assert actor.outcome is not None
    assert (actor.outcome.result, story.open()) in {("reverted", False), ("released", False)}
    story.check()
    story.again()


def stuck(inject: Injector = no_fault, freeze: Freeze | None = None) -> tuple[Story, Actor]:
    """A release that cannot turn back, because the router serves nobody any more."""
    story = begin("next", 0)
    story.harmed = True
    world = story.sim.world

    def before(sim: Sim) -> None:
        if world.route == whole("b"):
            world.silence(1e6)
            if freeze is not None:
                world.keys[FREEZE] = (encode(freeze), 1, world.now)
            sim.before = None

    story.sim.before = before
    return story, story.release(story.plan, inject)


def test_a_freeze_that_a_person_set_is_neither_replaced_nor_lifted() -> None:
    freeze = Freeze(reason="incident 812", by="anna@ops", at=1.0)
    story, actor = stuck(freeze=freeze)
    story.sim.go()
    assert actor.outcome is not None
    assert (actor.outcome.result, actor.outcome.code) == ("stuck", 6)
    story.sim.idle(leases.TTL + 1.0)
    story.sim.world.mend()
    story.settle("abort")
    assert story.sim.world.keys[FREEZE][0] == encode(freeze)


def _before_the_freeze(_actor: Actor, effect: Effect) -> Fault | None:
    return Fault.SLEPT if isinstance(effect, PutKey) and effect.key == FREEZE else None


def test_who_froze_too_late_takes_it_back() -> None:
    story, actor = stuck(_before_the_freeze)
    while not actor.slept:
        story.sim.step(actor)
    story.sim.world.mend()
    story.sim.idle(leases.TTL + 1.0)
    other = story.visit("abort")
    while not other.over:
        story.sim.step(other)
    assert not story.open()
    actor.hindered += 1000.0
    actor.ready = story.sim.world.now + 1.0
    story.sim.go()
    assert actor.outcome is not None
    assert actor.outcome.result == "locked"
    story.check()


def test_a_lease_that_a_dead_process_takes_late_has_expired_when_its_seconds_are_over() -> None:
    story = begin("next", 0)
    story.sim.lateness = 20.0

    def inject(actor: Actor, effect: Effect) -> Fault | None:
        if isinstance(effect, PutKey):
            return Fault.LATE if actor.hindered == 0.0 else Fault.CRASH_BEFORE
        return None

    dead = story.release(story.plan, inject)
    story.sim.go()
    assert dead.crashed
    story.sim.idle(20.0)
    assert story.sim.world.keys[leases.KEY][1] == 1
    story.again()


def test_who_mends_a_service_brings_no_server_back_that_was_told_to_stop() -> None:
    world = released("next").sim.world
    server = world.slots["a"]
    assert server is not None
    server.stopping, server.ends = world.now, world.now + 2.0
    world.kill("a")
    world.mend()
    world.advance(world.now + 3.0)
    assert world.view("a").state == "absent"


@pytest.mark.parametrize("seconds", [0.02, 5.0])
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_route_is_confirmed_once_it_is_in_force_however_late_that_is(name: str, seconds: float) -> None:
    story = begin(name, 0)
    story.sim.world.applying = seconds
    actor = story.release(story.plan)
    story.sim.go()
    assert actor.error is None
    assert actor.outcome is not None
    assert actor.outcome.code == 0
    story.settle("advance")
    story.check()
