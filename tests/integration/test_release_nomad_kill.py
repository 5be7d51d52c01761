"""A release on Nomad whose command is killed at some point of each phase: traffic stays, and it can be ended."""

import pytest

from tests.integration.test_release_docker_faults import kill_and_end

pytestmark = [pytest.mark.nomad, pytest.mark.docker]

KILLED = [(1, "resume"), (4, "abort"), (6, "resume"), (7, "abort"), (9, "resume"), (11, "abort"), (13, "resume")]
KILLED += [(14, "abort"), (15, "resume"), (17, "resume"), (19, "resume"), (21, "resume")]


@pytest.fixture(scope="module")
def three(nomad_service_of_all):
    """Version 1 is live, two others are built."""
    service = nomad_service_of_all
    service.versions = service.build_all(1, 2, 3)
    service.release(1)
    return service


@pytest.mark.parametrize(("point", "end"), KILLED)
def test_a_command_that_is_killed_leaves_traffic_and_a_release_that_can_be_ended(three, point, end):
    """One service for all of them: each begins where the one before has left it, with what is in no slot."""
    kill_and_end(three, point, end)
