"""A cluster of three servers that loses its leader, its client or all servers in the middle of a release."""

import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.integration.nomad_cluster import cluster
from tests.integration.nomad_service import NomadService
from tests.integration.releasing import services, until

pytestmark = [pytest.mark.nomad, pytest.mark.docker]


@pytest.fixture(scope="module")
def servers():
    """The cluster of all tests here, which leave it whole; its folder's name is short, for the sockets of tasks."""
    with TemporaryDirectory(prefix="nomad-") as folder, cluster(Path(folder)) as one:
        yield one


@pytest.fixture
def two(servers, tiny_image, tmp_path):
    """A service that speaks with a server which does not lead; version 1 is live and version 2 is built."""
    leader = servers.leader()
    follower = next(one for one in servers.servers if one is not leader)
    with services(tmp_path, NomadService) as make:
        service = make(agent=follower)
        service.versions = service.build_all(1, 2)
        service.release(1)
        yield service
        mend(servers)


def mend(servers):
    """Start what does not run, and wait until all is as it was."""
    for one in servers.agents:
        if one.process.poll() is not None:
            one.launch()
    until(servers.client.ready, 60, "the cluster is whole")


def begin(service, *, registered=True):
    """A release of version 2 whose candidate loads its model, `registered` or not even begun by its node."""
    service.use(2)
    service.configure(env={"LOAD_SECONDS": "6"})
    command = service.start("release", "--model", f"{service.name}:2", "--output", "json")
    there = f"/v1/service/{service.name}-b" if registered else f"/v1/job/{service.name}-b/allocations"
    until(lambda: command.poll() is not None or service.agent.ask("GET", there), 60, "a release is in its middle")
    assert command.poll() is None, command.communicate()
    return command


def end_clean(service, command):
    """The release goes on to its end, or says what is missing; then `resume` takes it there. Nobody was refused."""
    out, story = command.communicate(timeout=180)
    assert "Traceback" not in story
    if command.returncode:
        assert command.returncode in {6, 8}, story
        assert "error: " in story
        service.expire_lease()
        out = service.run("resume", "--output", "json").stdout
    assert json.loads(out)["result"] == "released", story
    status = service.status()
    assert status["lease"] is status["release"] is None
    assert status["live"]["version"] == f"{service.name}@{service.versions[2]}"
    assert service.serves() == service.versions[2]


def test_the_leader_is_killed_in_the_middle_of_a_release(servers, two):
    with two.load(rate=60, new=20) as load:
        command = begin(two)
        old = servers.leader()
        assert old is not two.agent
        old.kill()
        end_clean(two, command)
        assert servers.leader() is not old
        count = load.end()
    assert count["failed"] == 0, count
    assert set(count["answered"]) == set(two.versions.values())


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_the_agent_of_the_tasks_is_restarted_in_the_middle_of_a_release(servers, two, how):
    with two.load(rate=60, new=20) as load:
        command = begin(two)
        before = {part: two.allocation(part)["ID"] for part in ("a", "b", "router")}
        getattr(servers.client, how)()
        time.sleep(2)
        servers.client.start()
        end_clean(two, command)
        two.json("rollback")
        assert two.serves() == two.versions[1], "the router that was there before follows again"
        count = load.end()
    assert count["failed"] == 0, count
    assert {part: two.allocation(part)["ID"] for part in before} == before


def test_all_servers_are_away_for_a_while(servers, two):
    with two.load(rate=60, new=20) as load:
        for one in servers.servers:
            one.kill()
        refused = two.run("release", "--model", f"{two.name}:2", code=8)
        assert "error: " in refused.stderr
        two.run("status", code=8)
        time.sleep(5)
        mend(servers)
        until(servers.client.has_keys, 60, "there is a leader again")
        assert two.serves() == two.versions[1]
        two.release(2)
        count = load.end()
    assert count["failed"] == 0, count
    assert set(count["answered"]) == set(two.versions.values())


def test_all_servers_are_away_while_a_candidate_loads(servers, two):
    with two.load(rate=60, new=20) as load:
        command = begin(two)
        for one in servers.servers:
            one.kill()
        time.sleep(8)
        assert two.serves() == two.versions[1], "traffic is as committed"
        mend(servers)
        end_clean(two, command)
        count = load.end()
    assert count["failed"] == 0, count


def test_all_servers_are_away_when_a_candidate_starts(servers, two):
    """A node that cannot register a server that it has started does not try again: such a candidate is given up."""
    two.configure(ready={"golden": "golden.jsonl", "deadline": "30s"})
    with two.load(rate=60, new=20) as load:
        command = begin(two, registered=False)
        for one in servers.servers:
            one.kill()
        time.sleep(8)
        mend(servers)
        _, story = command.communicate(timeout=180)
        assert command.returncode in {0, 4, 6, 8}, story
        if command.returncode == 4:
            assert two.serves() == two.versions[1]
            assert "503" in story
            two.release(2)
        elif command.returncode:
            two.expire_lease()
            two.run("resume")
        status = two.status()
        assert status["lease"] is status["release"] is None
        assert two.serves() == two.versions[2]
        count = load.end()
    assert count["failed"] == 0, count
