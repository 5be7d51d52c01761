"""Who may change a service now: one at a time, told by name, and never for ever."""

from random import Random
from typing import Any

import pytest

from mlops_deploy.errors import LockedError, UnreachableError
from mlops_deploy.release import lease as leases
from mlops_deploy.release.effects import Effect, GetKey, Lost, Pause, Paused, PutKey, ReadClock, Stored, Time
from mlops_deploy.release.lease import Holder, Lease, acquire, let_go, renew
from tests.simulation.world import World

ANNA = Holder(name="anna@build7", nonce="1", url="https://ci.example/42")
BEN = Holder(name="ben@laptop", nonce="2")


def run(world: World, generator: Any, lost: frozenset[int] = frozenset(), *, done: bool = True) -> Any:
    """The result of `generator`; the puts whose numbers are in `lost` get no answer, `done` all the same or not."""
    puts = 0

    def answer(effect: Effect) -> Any:
        nonlocal puts
        match effect:
            case ReadClock():
                return Time(wall=world.now, elapsed=world.now)
            case Pause(seconds=seconds):
                world.now += seconds
                return Paused()
            case PutKey() if (puts := puts + 1) in lost:
                world.now += 1.0
                if done:
                    world.perform(effect, 0)
                return Lost(reason="the router does not answer")
            case _:
                return world.perform(effect, 0)

    try:
        effect = next(generator)
        while True:
            effect = generator.send(answer(effect))
    except StopIteration as end:
        return end.value


@pytest.fixture
def world() -> World:
    return World(random=Random(0))


def test_the_token_grows_at_every_acquisition(world: World) -> None:
    for token in (1, 2, 3):
        lease, index = run(world, acquire(ANNA, "r1"))
        assert lease.token == token
        run(world, let_go(lease, index))


def test_a_second_one_is_told_who_holds_it(world: World) -> None:
    run(world, acquire(ANNA, "r1"))
    world.now += 12.0
    with pytest.raises(LockedError) as caught:
        run(world, acquire(BEN, "r2"))
    assert caught.value.message == (
        "release `r1` by `anna@build7` is running (last heard 12 s ago, https://ci.example/42)"
    )
    assert caught.value.hint is not None
    assert "60 s" in caught.value.hint


@pytest.mark.parametrize(("age", "free"), [(59.0, False), (60.0, False), (60.1, True)])
def test_it_expires(world: World, age: float, free: bool) -> None:  # noqa: FBT001
    run(world, acquire(ANNA, "r1"))
    world.now += age
    if free:
        assert run(world, acquire(BEN, "r2"))[0].token == 2
    else:
        with pytest.raises(LockedError):
            run(world, acquire(BEN, "r2"))


@pytest.mark.parametrize("done", [True, False])
def test_a_lost_answer_makes_one_holder(world: World, done: bool) -> None:  # noqa: FBT001
    lease, index = run(world, acquire(ANNA, "r1"), frozenset({1}), done=done)
    assert world.keys[leases.KEY][:2] == (leases.encode(lease), index)
    assert lease.token == 1


def test_a_ledger_that_never_takes_it_is_given_up(world: World) -> None:
    began = world.now
    with pytest.raises(UnreachableError):
        run(world, acquire(ANNA, "r1"), frozenset(range(1000)), done=False)
    assert world.now - began < 30.0


def test_a_sleeper_takes_up_its_own_lease_again(world: World) -> None:
    lease, index = run(world, acquire(ANNA, "r1"))
    world.now += 3600.0
    again, later = run(world, renew(lease, index))
    assert (again.token, again.beat, later) == (1, 1, index + 1)


def test_a_sleeper_does_not_get_back_what_another_took(world: World) -> None:
    lease, index = run(world, acquire(ANNA, "r1"))
    world.now += 61.0
    taken, at = run(world, acquire(BEN, "r2"))
    with pytest.raises(LockedError, match="lost to `ben@laptop`"):
        run(world, renew(lease, index))
    run(world, let_go(taken, at))
    with pytest.raises(LockedError, match="lost to somebody else"):
        run(world, renew(lease, index))


def test_a_new_token_refuses_what_was_sent_with_the_old_one(world: World) -> None:
    lease, index = run(world, acquire(ANNA, "r1"))
    fresh, _ = run(world, renew(lease, index, token=2))
    assert fresh.token == 2
    assert world._live_lease(2)
    assert not world._live_lease(1)


def test_letting_go_leaves_anothers_alone(world: World) -> None:
    lease, index = run(world, acquire(ANNA, "r1"))
    world.now += 61.0
    taken, _ = run(world, acquire(BEN, "r2"))
    run(world, let_go(lease, index))
    assert world.keys[leases.KEY][0] == leases.encode(taken)


def test_what_another_version_wrote_is_refused(world: World) -> None:
    world.keys[leases.KEY] = ({"holder": "anna"}, 1, world.now)
    with pytest.raises(LockedError) as caught:
        run(world, acquire(BEN, "r2"))
    assert caught.value.hint == "another version of mlops-deploy wrote it; use that one"


def test_a_free_lease_keeps_the_last_token() -> None:
    free = Lease(token=7, ttl=60.0, holder=None, release=None)
    assert leases.holder_of(Stored(value=leases.encode(free), index=9, age=0.0)) is None
    effects = acquire(ANNA, None)
    assert next(effects) == GetKey(key=leases.KEY)
