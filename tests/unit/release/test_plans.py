"""Strategies are pure: each start state has one tuple of steps."""

from dataclasses import replace
from random import Random

import pytest

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.release.plan import Plan, load, save
from mlops_deploy.release.rollback import previous
from mlops_deploy.release.state import CLOSED, Route, Slot, whole
from mlops_deploy.release.steps import AwaitReady, Bake, Drain, Hold, Planned, Promote, Shift, Start, Step, Stop, Warm
from mlops_deploy.release.strategies import HOLD_SECONDS, make_plan
from tests.simulation.scenarios import (
    BAKE,
    DEADLINE,
    DRAIN,
    SCENARIOS,
    SPEC,
    Scenario,
    artefact,
    key,
    look,
    plan_of,
    world_of,
)
from tests.simulation.scenarios import Start as State
from tests.simulation.world import Fate, World


def planned(state: State, strategy: str = "bluegreen", candidate: int = 2, *, hold: bool = False) -> Plan:
    scenario = Scenario(state, strategy=strategy, candidate=candidate, hold=hold)
    return plan_of(scenario, world_of(scenario, Random(0)))


def begun(slot: Slot, version: int) -> Planned:
    undo = (Drain(slot=slot, seconds=DRAIN), Stop(slot=slot, seconds=DRAIN))
    return Planned(step=Start(slot=slot, key=key(version)), undo=undo)


def proved(slot: Slot, version: int) -> tuple[Planned, ...]:
    return (
        Planned(step=AwaitReady(slot=slot, key=key(version), deadline=DEADLINE)),
        Planned(step=Warm(slot=slot, key=key(version), seconds=10.0)),
    )


def again(slot: Slot, version: int) -> tuple[Step, ...]:
    """How traffic comes back to `slot`: what ran there is started again, should it have ended."""
    ready = AwaitReady(slot=slot, key=key(version), deadline=DEADLINE)
    return (Start(slot=slot, key=key(version)), ready, Shift(route=whole(slot), serves=key(version)))


def switched(slot: Slot, version: int, *back: Step, bake: bool = True) -> tuple[Planned, ...]:
    return (
        Planned(step=Shift(route=whole(slot), serves=key(version)), undo=back),
        *((Planned(step=Bake(slot=slot, seconds=BAKE)),) if bake else ()),
        Planned(step=Promote(slot=slot, key=key(version))),
    )


CLOSE = Shift(route=CLOSED, serves=None)


def test_a_first_release_goes_to_slot_a_and_back_to_a_closed_router() -> None:
    assert planned(State(live=None)).steps == (begun("a", 2), *proved("a", 2), *switched("a", 2, CLOSE))


@pytest.mark.parametrize(("live", "free"), [("a", "b"), ("b", "a")])
def test_the_candidate_goes_to_the_slot_without_traffic(live: Slot, free: Slot) -> None:
    state = State(live=live, a=1 if live == "a" else None, b=1 if live == "b" else None)
    drained = Planned(step=Drain(slot=live, seconds=DRAIN))
    assert planned(state).steps == (begun(free, 2), *proved(free, 2), *switched(free, 2, *again(live, 1)), drained)


@pytest.mark.parametrize("strategy", ["bluegreen", "recreate"])
def test_a_release_waits_no_longer_than_it_may(strategy: str) -> None:
    scenario = Scenario(State(a=1), strategy=strategy, candidate=2, hold=False)
    spec = replace(SPEC, release=replace(SPEC.release, deadline=DEADLINE / 2))
    plan = make_plan(spec, "process", strategy, look(world_of(scenario, Random(0))), artefact(2))
    assert [p.step.deadline for p in plan.steps if isinstance(p.step, AwaitReady)] == [DEADLINE / 2]


def test_another_one_that_is_parked_finishes_its_requests_first() -> None:
    steps = planned(State(a=1, b=7)).steps
    assert steps[:2] == (Planned(step=Drain(slot="b", seconds=DRAIN)), begun("b", 2))


def test_the_same_one_that_is_parked_is_not_started_again() -> None:
    plan = planned(State(a=1, b=2))
    assert plan.hot
    assert plan.steps[0] == proved("b", 2)[0]


def test_a_parked_slot_that_stopped_is_started() -> None:
    scenario = Scenario(State(a=1, b=2))
    world = world_of(scenario, Random(0))
    world.kill("b")
    assert plan_of(scenario, world).steps[0] == begun("b", 2)


def test_what_runs_already_needs_nothing() -> None:
    for strategy in ("bluegreen", "recreate"):
        assert planned(State(a=2), strategy).steps == ()


def test_recreate_closes_stops_starts_and_can_start_the_old_one_again() -> None:
    assert planned(State(a=1), "recreate").steps == (
        Planned(step=CLOSE, undo=again("a", 1)),
        Planned(step=Drain(slot="a", seconds=DRAIN)),
        Planned(step=Stop(slot="a", seconds=DRAIN)),
        begun("b", 2),
        *proved("b", 2),
        *switched("b", 2, CLOSE),
    )


def test_recreate_lets_a_parked_slot_finish_before_it_stops_it() -> None:
    steps = planned(State(a=1, b=7), "recreate").steps
    assert [p.step for p in steps[:2]] == [Drain(slot="b", seconds=DRAIN), Stop(slot="b", seconds=DRAIN)]


def test_recreate_refuses_what_it_could_not_start_again() -> None:
    scenario = Scenario(State(a=1), strategy="recreate")
    observed = replace(look(world_of(scenario, Random(0))), artefacts={})
    with pytest.raises(UnusableInputError, match="nothing is known of what slot a holds"):
        make_plan(SPEC, "process", "recreate", observed, artefact(2))


def test_a_hot_rollback_is_a_proof_and_one_write() -> None:
    steps = planned(State(live="b", a=1, b=2, before=1), "rollback").steps
    assert steps == (proved("a", 1)[0], *switched("a", 1, *again("b", 2), bake=False))


def test_a_cold_rollback_starts_what_was_live_before() -> None:
    steps = planned(State(live="b", b=2, before=1), "rollback").steps
    assert steps[0] == begun("a", 1)
    assert not any(isinstance(p.step, Bake) for p in steps)


@pytest.mark.parametrize(("state", "message"), [
    (State(live=None), "nothing is live"), (State(a=1), "no earlier version"),
])  # fmt: skip
def test_a_rollback_needs_something_to_go_back_to(state: State, message: str) -> None:
    with pytest.raises(UnusableInputError, match=message):
        previous(look(world_of(Scenario(state), Random(0))))


@pytest.mark.parametrize("state", [State(a=1), State(a=2), State(live=None)])
def test_recreate_does_not_wait_for_a_decision_with_the_router_closed(state: State) -> None:
    with pytest.raises(UnusableInputError, match="`recreate` cannot wait for a decision") as caught:
        planned(state, "recreate", hold=True)
    assert "`--strategy bluegreen`" in str(caught.value.hint)


def test_a_hold_stands_before_the_candidate_gets_requests() -> None:
    steps = [p.step for p in planned(State(a=1), hold=True).steps]
    place = steps.index(Hold(reason="the candidate is ready", deadline=HOLD_SECONDS))
    assert isinstance(steps[place - 1], Warm)
    assert steps[place + 1] == Shift(route=whole("b"), serves=key(2))


def test_a_live_slot_that_was_removed_leaves_the_other_one_free() -> None:
    scenario = Scenario(State(a=1))
    world = world_of(scenario, Random(0))
    world.slots["a"] = None
    plan = plan_of(scenario, world)
    assert plan.slot == "b"
    assert plan.steps[3].undo == (CLOSE,)


def test_a_rollback_from_a_live_slot_that_was_removed_is_hot() -> None:
    scenario = Scenario(State(live="b", a=1, b=2, before=1), strategy="rollback")
    world = world_of(scenario, Random(0))
    world.slots["b"] = None
    assert plan_of(scenario, world).steps == (proved("a", 1)[0], *switched("a", 1, CLOSE, bake=False))


def test_no_slot_is_free_while_both_get_requests() -> None:
    world = world_of(Scenario(State(a=1, b=7)), Random(0))
    world.route = Route(share_b=500)
    with pytest.raises(UnusableInputError, match="both slots get requests"):
        plan_of(Scenario(State(a=1, b=7)), world)


def test_an_unknown_strategy_is_refused_with_the_known_ones() -> None:
    observed = look(world_of(Scenario(State(a=1)), Random(0)))
    with pytest.raises(UnusableInputError) as caught:
        make_plan(SPEC, "process", "canary", observed, artefact(2))
    assert caught.value.hint == "known: `bluegreen`, `recreate`, and on Nomad `rolling` with `--native`"


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_plan_comes_back_from_its_file(name: str) -> None:
    plan = plan_of(SCENARIOS[name], world_of(SCENARIOS[name], Random(0)))
    assert load(save(plan), "plan.json") == plan
    assert save(load(save(plan), "plan.json")) == save(plan)


def test_the_base_does_not_hold_health() -> None:
    scenario = SCENARIOS["next"]
    world: World = world_of(scenario, Random(0))
    before = plan_of(scenario, world).base
    server = world.slots["a"]
    assert server is not None
    server.fate = Fate(kind="flaps")
    world.silence(100.0)
    assert plan_of(scenario, world).base == before


def test_a_plan_of_another_version_is_refused_with_both_versions() -> None:
    text = save(planned(State(a=1))).replace('"schema": 1', '"schema": 2')
    with pytest.raises(UnusableInputError, match="version 2; this mlops-deploy reads version 1"):
        load(text, "plan.json")


def test_an_edited_plan_is_refused() -> None:
    text = save(planned(State(a=1))).replace('"seconds": 10.0', '"seconds": 0.0', 1)
    with pytest.raises(UnusableInputError, match="has been changed since it was written"):
        load(text, "plan.json")


def test_a_plan_that_was_cut_off_is_refused() -> None:
    text = save(planned(State(a=1)))
    for end in range(0, len(text) - 2, 97):
        with pytest.raises(UnusableInputError):
            load(text[:end], "plan.json")
