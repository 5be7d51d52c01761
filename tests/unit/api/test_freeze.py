"""The freeze of a release that could not turn back: who is refused is sent to what lifts it."""

import pytest

from mlops_deploy.api import freeze as api
from mlops_deploy.errors import LockedError
from mlops_deploy.release.codec import encode
from mlops_deploy.release.observe import CURRENT, FREEZE
from mlops_deploy.release.state import Freeze
from tests.simulation.service import story_of


def frozen_by_its_release(sim):
    release = sim.world.keys[CURRENT][0]
    sim.world.keys[FREEZE] = (encode(Freeze(reason="it fell", by=release, at=0.0)), 1, sim.world.now)
    return release


def test_a_release_that_is_open_is_aborted_and_its_freeze_not_lifted():
    sim = story_of("held")
    sim.release()
    frozen_by_its_release(sim)
    with pytest.raises(LockedError) as refused:
        sim.release()
    assert refused.value.hint == "`mlops-deploy abort` lifts it"
    with pytest.raises(LockedError, match="it fell"):
        api.unfreeze(sim.service, force=False)


def test_the_freeze_of_a_release_that_has_ended_is_simply_lifted():
    sim = story_of("next")
    sim.release()
    release = frozen_by_its_release(sim)
    with pytest.raises(LockedError) as refused:
        sim.release()
    assert refused.value.hint == "`mlops-deploy unfreeze` lifts it"
    lifted = api.unfreeze(sim.service, force=False)
    assert (lifted.freeze.by, lifted.stuck) == (release, False)
