"""What single steps look at, where no course of a whole release shows it."""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from mlops_deploy.errors import LockedError
from mlops_deploy.release import acts, executor, walk
from mlops_deploy.release.codec import encode
from mlops_deploy.release.effects import Effect, ObserveRouter, ReadClock, Time
from mlops_deploy.release.exchange import Run
from mlops_deploy.release.journal import Began, Opened, Standing
from mlops_deploy.release.observe import FREEZE, LIVE
from mlops_deploy.release.outcome import tally_of
from mlops_deploy.release.state import Freeze, SlotView, whole
from tests.simulation.scenarios import SCENARIOS, key, plan_of, planned, world_of
from tests.simulation.story import begin
from tests.simulation.world import World


def answered(run: Run[Any], answer: Callable[[Effect], Any]) -> Any:
    """What comes of `run`."""
    try:
        effect = next(run)
        while True:
            effect = run.send(answer(effect))
    except StopIteration as end:
        return end.value


def test_a_slot_that_the_proxy_still_sends_requests_to_is_not_touched() -> None:
    view = world_of(SCENARIOS["next"], Random(0)).router()
    leaving = replace(view, route=whole("b"), applied=whole("a"))

    def answer(effect: Effect) -> Any:
        assert isinstance(effect, ObserveRouter)
        return leaving

    with pytest.raises(acts.StepFailedError, match="slot a gets 100 % of the traffic"):
        answered(acts._refuse_traffic("a"), answer)


def test_a_candidate_that_was_started_again_under_traffic_is_given_up() -> None:
    first = SlotView(slot="b", state="running", restarts=1)
    acts._refuse_death(first, first)
    with pytest.raises(acts.StepFailedError, match="its server ended, and was started again"):
        acts._refuse_death(first, replace(first, restarts=2))


@pytest.mark.parametrize(("now", "spent"), [(105.0, 5.0), (90.0, 0.0)])
def test_a_clock_set_back_counts_as_no_time(now: float, spent: float) -> None:
    tally = tally_of(world_of(SCENARIOS["next"], Random(0)).router())
    opened = Opened(at=1.0, release="r1", holder="anna", token=1, plan=planned("next"), tally=tally)
    standing = Standing(opened=opened, at=100.0, began=Began(at=100.0, index=0))

    def answer(effect: Effect) -> Time:
        assert isinstance(effect, ReadClock)
        return Time(wall=now, elapsed=0.0)

    assert answered(walk._spent(standing), answer) == spent


def _revised(world: World) -> None:
    server = world.slots["a"]
    assert server is not None
    server.revision = "another"


def _frozen(world: World) -> None:
    world.keys[FREEZE] = (encode(Freeze(reason="incident", by="anna", at=1.0)), 1, world.now)


@pytest.mark.parametrize("change", [_revised, _frozen])
def test_a_plan_is_stale_when_a_slot_was_made_anew_or_the_service_frozen(change: Callable[[World], None]) -> None:
    world = world_of(SCENARIOS["next"], Random(0))
    plan = plan_of(SCENARIOS["next"], world)
    answered(executor.refuse_stale(plan), lambda effect: world.perform(effect, 0))
    change(world)
    with pytest.raises(LockedError, match="the plan is stale"):
        answered(executor.refuse_stale(plan), lambda effect: world.perform(effect, 0))


def test_what_has_the_traffic_and_does_not_run_is_released_anew() -> None:
    scenario = replace(SCENARIOS["next"], candidate=1)
    world = world_of(scenario, Random(0))
    assert plan_of(scenario, world).steps == ()
    world.kill("a")
    assert plan_of(scenario, world).steps != ()


@pytest.mark.parametrize(("name", "previous"), [("first", None), ("next", 1), ("rollback-hot", 2)])
def test_a_promotion_records_what_it_took_over_from(name: str, previous: int | None) -> None:
    story = begin(name, 0)
    story.release(story.plan)
    story.sim.go()
    live = story.sim.world.keys[LIVE][0]
    assert isinstance(live, dict)
    assert live["previous"] == (None if previous is None else key(previous))
