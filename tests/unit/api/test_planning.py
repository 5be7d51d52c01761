"""From what is in the store and what runs to a plan, and back from a file."""

import errno
from dataclasses import replace

import pytest

from mlops_deploy.api.planning import Wish, load_plan, look, preview, write_plan
from mlops_deploy.errors import DeployError, UnreachableError, UnusableInputError
from mlops_deploy.release.plan import save
from mlops_deploy.release.state import CLOSED
from mlops_deploy.release.steps import Hold
from tests.simulation.scenarios import key
from tests.simulation.service import story_of


def planned(sim, **wish):
    return preview(sim.service, sim.shelf, Wish(**wish), sim.story)


def test_a_preview_is_the_plan_that_a_release_carries_out():
    sim = story_of("next")
    before = sim.world.generation, dict(sim.world.keys)
    made = planned(sim)
    assert made.steps == sim.plan().steps
    assert (made.candidate, made.strategy, made.slot) == (key(2), "bluegreen", "b")
    assert (sim.world.generation, sim.world.keys) == before
    assert sim.ports.closed == 1
    sim.release()
    (done,) = sim.world.plans.values()
    assert done == made


def test_the_configured_strategy_holds_until_another_is_asked_for():
    sim = story_of("recreate")
    assert planned(sim).strategy == "recreate"
    assert planned(sim, strategy="bluegreen").strategy == "bluegreen"
    assert any(isinstance(step.step, Hold) for step in planned(sim, strategy="bluegreen", hold=True).steps)


def test_without_a_router_the_first_release_is_planned_as_it_will_be():
    sim = story_of("first")
    sim.ports.made = False
    made = planned(sim)
    assert not sim.ports.made
    sim.ports.made = True
    assert made.steps == planned(sim).steps
    assert look(sim.service).router.route == CLOSED


def test_a_keeper_is_let_go_of_also_when_it_does_not_answer():
    sim = story_of("next")
    sim.world.gone = 1e6
    with pytest.raises(UnreachableError):
        look(sim.service)
    assert sim.ports.closed == 1


def test_only_the_newest_carrier_is_compared_with_the_files(tmp_path):
    model = tmp_path / "model"
    model.write_bytes(b"changed")
    sim = story_of("next")
    sim.spec = replace(sim.spec, model=replace(sim.spec.model, path=model))
    sim.find = lambda asked: sim.newest("toy")
    planned(sim, model="toy:1")
    assert sim.story.warned == []
    planned(sim)
    assert [warning.rpartition("; ")[2] for warning in sim.story.warned] == [
        "`mlops-deploy build-model` builds a new carrier"
    ]


def loaded(sim, **changes):
    return load_plan(sim.service, save(replace(planned(sim), **changes)), "p.json")


def test_a_plan_comes_back():
    sim = story_of("next")
    assert loaded(sim) == planned(sim)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"service": "other"}, "`p.json` is a plan for the service `other`, not for the service `toy`"),
        ({"environment": "prod"}, "`p.json` is a plan for the environment `prod`, not without an environment"),
        ({"target": "docker"}, "`p.json` is a plan for the target `docker`, not for the target `process`"),
    ],
)
def test_a_plan_of_something_else_is_refused(changes, said):
    with pytest.raises(UnusableInputError) as caught:
        loaded(story_of("next"), **changes)
    assert caught.value.message == said
    assert "`mlops-deploy plan -o FILE`" in caught.value.hint


def test_a_plan_without_an_environment_is_none_for_one():
    sim = story_of("next")
    text = save(planned(sim))
    sim.spec = replace(sim.spec, environment="prod")
    with pytest.raises(UnusableInputError, match="a plan without an environment, not for the environment `prod`"):
        load_plan(sim.service, text, "p.json")


def test_a_plan_is_written_whole_or_not_at_all(tmp_path):
    sim = story_of("next")
    write_plan(planned(sim), tmp_path / "p.json")
    assert (tmp_path / "p.json").read_text() == save(planned(sim))
    with pytest.raises(DeployError) as caught:
        write_plan(planned(sim), tmp_path / "none" / "p.json")
    assert caught.value.message.endswith("cannot be written: no such file or directory")
    assert caught.value.__cause__.errno == errno.ENOENT
