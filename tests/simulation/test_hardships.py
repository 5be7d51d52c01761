"""Hardships that no drawn run meets: a journal that lost its end, a machine that slept, two servers that died."""

import pytest

from mlops_deploy.release.journal import Ended
from mlops_deploy.release.observe import LIVE
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.story import Story, Verb, begin


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
        world.now += 90_000.0
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
    story.sim.world.now += 61.0
    refused = story.visit(verb)
    story.sim.go()
    assert refused.error is not None
    assert story.sim.world.journals["r1"] == before
