"""`down` in virtual time: killed at every effect, after a release that was killed anywhere, it ends clean all the same.

The world itself refuses what must never happen: a slot that is touched while it has traffic, a write without a lease.
"""

from dataclasses import replace
from random import Random

import pytest

from mlops_deploy.api.down import down as end
from mlops_deploy.api.down import free, take_down
from mlops_deploy.api.service import find_keeper
from mlops_deploy.errors import InterruptedByUserError, LockedError, UnreachableError
from mlops_deploy.release import executor
from mlops_deploy.release import lease as leases
from mlops_deploy.release.codec import encode
from mlops_deploy.release.effects import AskServer, Pause
from mlops_deploy.release.journal import Ended, from_line
from mlops_deploy.release.lease import Holder
from mlops_deploy.release.observe import CURRENT, FREEZE
from mlops_deploy.release.state import CLOSED, Freeze
from tests.simulation.enumeration import at
from tests.simulation.scenarios import SCENARIOS, planned, world_of
from tests.simulation.service import Ports, story_of
from tests.simulation.sim import LOCAL, Fault, Sim, no_fault

DRAIN = 5.0
FAULTS = (Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.LOST_REQUEST, Fault.LOST_ANSWER, Fault.DUPLICATE)


def simulation(name):
    return Sim(world=world_of(SCENARIOS[name], Random(0)), random=Random(0))


def holder(number):
    return Holder(name=f"p{number}", nonce=str(number))


def taken_down(who, *, force=False):
    found, session = yield from take_down(who, DRAIN, force=force)
    yield from free(session)
    return found


def down(sim, number=9, inject=no_fault, *, force=False):
    actor = sim.start(f"down {number}", taken_down(holder(number), force=force), inject)
    actor.oracle = None  # it knows releases
    sim.go()
    return actor


def orphan(sim, name, number):
    """A release that dies at its effect `number`; whether it came so far."""
    sim.world.plans["r1"] = planned(name)
    actor = sim.start("p1", executor.release(planned(name), "r1", holder(1)), at(number, Fault.CRASH_AFTER))
    sim.go()
    sim.world.now += leases.TTL + 1
    return actor.crashed


def is_down(sim, *, freed=True):
    assert sim.world.route == CLOSED
    assert [sim.world.view(slot).state for slot in "ab"] == ["absent", "absent"]
    lease, *_ = sim.world.keys[leases.KEY]
    assert not freed or lease["holder"] is None
    current, *_ = sim.world.keys.get(CURRENT, (None,))
    assert current is None or sim.world.ended(current)


@pytest.mark.parametrize("name", ["first", "next", "next-from-b", "parked-same"])
def test_a_service_ends(name):
    sim = simulation(name)
    first = down(sim)
    assert first.error is None
    assert first.outcome.running
    is_down(sim)
    again = down(sim, 10)
    assert again.error is None
    is_down(sim)


@pytest.mark.parametrize("fault", FAULTS)
def test_it_dies_anywhere_and_the_next_one_ends_it(fault):
    clean = simulation("parked-same")
    down(clean)
    points = [event[2] for event in clean.trace if not isinstance(event[3], LOCAL)]
    assert len(points) > 20
    for number in points:
        sim = simulation("parked-same")
        first = down(sim, inject=at(number, fault))
        assert first.crashed or first.error is None, (number, first.error)
        if first.crashed:
            sim.world.now += leases.TTL + 1
            assert down(sim, 10).error is None
        is_down(sim, freed=fault is not Fault.LOST_REQUEST)  # letting go is tried once: a lease expires by itself


@pytest.mark.parametrize("name", ["next", "recreate", "hold"])
def test_a_release_that_died_anywhere_is_ended_by_force_alone(name):
    points = 0
    for number in range(1, 2000, 7):
        sim = simulation(name)
        if not orphan(sim, name, number):
            break
        points += 1
        was_open = CURRENT in sim.world.keys and not sim.world.ended(sim.world.keys[CURRENT][0])
        before = sim.world.route
        refused = down(sim)
        assert isinstance(refused.error, LockedError) == was_open
        if was_open:
            assert sim.world.route == before, "who is refused has changed nothing"
            assert "down --force" in refused.error.hint
        forced = down(sim, 10, force=True)
        assert forced.error is None, forced.error
        is_down(sim)
        if was_open:
            assert forced.outcome.release == "r1"
            last = from_line(sim.world.journals["r1"][-1], 0)
            assert isinstance(last, Ended)
            assert last.code == 130
    assert points > 5


@pytest.mark.parametrize("force", [True, False])
def test_a_holder_that_lives_is_never_pushed_aside(force):
    sim = simulation("next")
    sim.world.plans["r1"] = planned("next")
    release = sim.start("p1", executor.release(planned("next"), "r1", holder(1)))
    for _ in range(60):
        sim.step(release)
    actor = sim.start("down", taken_down(holder(2), force=force))
    actor.oracle = None
    sim.go()
    assert isinstance(actor.error, LockedError)
    assert "release `r1` by `p1` is running" in actor.error.message
    assert release.outcome.result == "released"


def test_a_freeze_keeps_it_away_and_stays_where_force_goes_on():
    sim = simulation("next")
    frozen = encode(Freeze(reason="incident 812", by="eve@x", at=0.0))
    sim.world.keys[FREEZE] = (frozen, 1, sim.world.now)
    refused = down(sim)
    assert "the service is frozen by `eve@x`: incident 812" in refused.error.message
    assert sim.world.route != CLOSED
    assert down(sim, 10, force=True).error is None
    is_down(sim)
    assert sim.world.keys[FREEZE][0] == frozen


def test_an_interrupt_frees_the_lease_and_the_next_one_goes_on():
    clean = simulation("next")
    down(clean)
    for number in [event[2] for event in clean.trace if isinstance(event[3], Pause)]:
        sim = simulation("next")
        stopped = down(sim, inject=at(number, Fault.INTERRUPT))
        assert isinstance(stopped.error, InterruptedByUserError)
        assert stopped.error.hint == "`mlops-deploy down` goes on"
        assert sim.world.keys[leases.KEY][0]["holder"] is None
        assert down(sim, 10).error is None
        is_down(sim)


def test_it_asks_no_server_anything():
    sim = simulation("parked-same")
    down(sim)
    assert not any(isinstance(event[3], AskServer) for event in sim.trace)


def test_a_router_that_is_down_hides_freeze_and_release_so_only_force_goes_on():
    sim = story_of("next")
    sim.ports.made = False
    removed = []
    sim.ports.remove = lambda *, volumes, before_router: removed.append(volumes)
    with pytest.raises(LockedError, match="the router does not run") as caught:
        end(sim.service, sim.story, volumes=False, force=False)
    assert "`mlops-deploy router apply` starts it" in caught.value.hint
    assert removed == []
    assert end(sim.service, sim.story, volumes=False, force=True).running
    assert removed == [False]


@pytest.mark.parametrize(
    ("target", "rest", "starts"),
    [
        ("docker", "the router and the network", "`mlops-deploy router apply` starts it, "),
        ("nomad", "the jobs of the slots and of the router", "Nomad starts it again by itself, "),
        ("process", "the router", "`mlops-deploy router apply` starts it, "),
    ],
)
def test_what_is_removed_and_what_brings_a_router_back_are_called_as_on_the_target(target, rest, starts):
    sim = story_of("next")
    service = replace(sim.service, target_name=target)
    sim.ports.remove = lambda *, volumes, before_router: before_router()
    sim.ports.made = False
    with pytest.raises(LockedError) as caught:
        end(service, sim.story, volumes=False, force=False)
    assert caught.value.hint.startswith(starts)
    with pytest.raises(UnreachableError) as away:
        find_keeper(service)
    assert f"{away.value.hint}, ".startswith(starts)
    sim.ports.made = True
    end(service, sim.story, volumes=False, force=False)
    assert sim.story.said[-1] == f"remove {rest}"


@pytest.mark.parametrize("lag", [7.0, 1e6])
def test_no_server_is_stopped_before_the_proxy_says_that_it_is_closed(lag):
    sim = story_of("next")
    open_, observed, until, stops = sim.world.route, sim.ports.observed, sim.world.now + lag, []

    def behind():
        view = observed()
        return view if sim.world.now >= until else replace(view, applied=open_)

    def stop(slot, grace):
        stops.append(sim.world.now)
        return Ports.stop(sim.ports, slot, grace)

    sim.ports.observed, sim.ports.stop = behind, stop
    sim.ports.remove = lambda *, volumes, before_router: before_router()
    if lag == 7.0:
        assert end(sim.service, sim.story, volumes=False, force=False).running
        assert min(stops) >= until
        return
    with pytest.raises(UnreachableError, match="does not close within 30 s, so no server was stopped"):
        end(sim.service, sim.story, volumes=False, force=False)
    assert stops == []
    assert sim.world.keys[leases.KEY][0]["holder"] is None


def test_the_lease_is_held_until_the_slots_are_gone():
    sim = story_of("next")
    held = []

    def remove(*, volumes, before_router):
        assert not volumes
        held.append(sim.world.keys[leases.KEY][0]["holder"])
        before_router()
        held.append(sim.world.keys[leases.KEY][0]["holder"])

    sim.ports.remove = remove
    assert end(sim.service, sim.story, volumes=False, force=False).running
    assert held[0] is not None
    assert held[1] is None
