"""A plan for people: what changes, in which steps, and what the way back will be."""

from dataclasses import replace
from random import Random

import pytest

from mlops_deploy.api import decisions
from mlops_deploy.cli.plan_text import plan_lines, way_back
from mlops_deploy.release.effects import EnsureSlot
from mlops_deploy.release.forecast import Change, Forecast
from mlops_deploy.release.plan import Plan
from mlops_deploy.release.state import Freeze
from mlops_deploy.release.strategies import make_plan
from mlops_deploy.spec.refs import Digest
from tests.simulation.scenarios import SCENARIOS, SPEC, Scenario, Start, artefact, look, plan_of, world_of
from tests.simulation.service import Simulated


def plan(name) -> Plan:
    return plan_of(SCENARIOS[name], world_of(SCENARIOS[name], Random(0)))


def candidate(observed_change=None, **changes):
    """A plan from version 1 in slot a to it with `changes`."""
    observed = look(world_of(SCENARIOS["next"], Random(0)))
    observed = replace(observed, **(observed_change or {}))
    return make_plan(SPEC, "process", "bluegreen", observed, replace(artefact(1), **changes))


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_kind_of_plan(name, golden):
    golden(f"plan-{name}.txt", "".join(f"{line}\n" for line in plan_lines(plan(name))))


def test_nothing_to_do():
    scenario = Scenario(Start(a=2))
    assert list(plan_lines(plan_of(scenario, world_of(scenario, Random(0))))) == [
        "toy on process: nothing to do, toy@222222222222 is live"
    ]


def head(made):
    return [line for line in plan_lines(made) if line[2:10] in {"model   ", "carrier ", "server  ", "settings"}]


def test_what_stays_is_called_unchanged():
    assert head(candidate(server="other:2", server_id="sha256:" + "9" * 64)) == [
        "  model     toy@111111111111 (unchanged)",
        "  carrier   111111111111 (unchanged)",
        "  server    server:1 (1) -> other:2 (999999999999)",
    ]


def test_a_job_that_differs_while_its_parts_do_not_has_other_settings():
    assert head(candidate(job={"version": 1, "env": "x"}))[-1] == "  settings  changed"


def test_another_carrier_of_the_same_model():
    assert head(candidate(carrier_digest=Digest("c" * 64)))[1:] == [
        "  carrier   111111111111 -> cccccccccccc",
        "  server    server:1 (1) (unchanged)",
    ]


def test_a_freeze_is_told_with_its_end():
    freeze = Freeze(reason="incident 812", by="eve@x", at=1.0)
    lines = list(plan_lines(candidate({"freeze": freeze}, job={"version": 3})))
    assert lines[-1] == "  frozen    incident 812: no release begins before `mlops-deploy unfreeze`"
    assert "frozen" not in "".join(plan_lines(candidate(job={"version": 3})))


def test_an_unknown_live_model_is_not_called_nothing():
    made = plan("next")
    unknown = replace(made, artefacts=(artefact(2),))
    lines = list(plan_lines(unknown))
    assert lines[-1] == "  rollback  none: nothing is known of what slot a holds"
    assert way_back(plan("first"), None) == "none: nothing is live now"


def test_a_live_slot_that_was_removed_is_nothing():
    world = world_of(SCENARIOS["next"], Random(0))
    world.slots["a"] = None
    assert list(plan_lines(plan_of(SCENARIOS["next"], world)))[-1] == "  rollback  none: nothing is live now"


def test_the_way_back_that_is_promised_is_the_one_that_comes():
    """After a release by each strategy, `rollback` is hot exactly where the plan said so."""
    for name in ("next", "next-from-b", "recreate", "rollback-hot", "rollback-cold"):
        sim = Simulated(SCENARIOS[name])
        promised = next(line for line in plan_lines(sim.plan()) if line.startswith("  rollback"))
        if sim.scenario.strategy == "rollback":
            decisions.rollback(sim.service, sim.story)
        else:
            sim.release()
        started = []
        sim.ports.before = lambda effect, seen=started: seen.append(effect) if isinstance(effect, EnsureSlot) else None
        assert decisions.rollback(sim.service, sim.story).code == 0
        assert ("hot" in promised) == (not started), name


def test_what_the_target_says_beforehand():
    made = Forecast(
        changes=(
            Change(kind="edited", place="task server.Config.image", old="a:1", new="a:2"),
            Change(kind="added", place="task server", note="forces create/destroy update"),
            Change(kind="deleted", place="Env[X]", old="one\ntwo\x1b"),
        ),
        obstacles=("no node has 4 free cores",),
        warnings=("images are collected after 3m", "another"),
    )
    lines = list(plan_lines(plan("next"), made))
    start = lines.index("  job       ~ task server.Config.image: a:1 -> a:2")
    assert lines[start + 1 : start + 6] == [
        "            + task server (forces create/destroy update)",
        "            - Env[X]: one\\ntwo\\x1b",
        "  placing   impossible now: no node has 4 free cores",
        "  beware    images are collected after 3m",
        "            another",
    ]


def test_a_long_value_is_cut():
    made = Forecast(changes=(Change(kind="added", place="Env[X]", new="x" * 200),))
    assert f"  job       + Env[X]: {'x' * 99}…" in plan_lines(plan("next"), made)
