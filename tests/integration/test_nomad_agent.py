"""The agents and the cluster that other tests stand on: they come up, come back with their tasks, and leave nothing."""

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.integration import nomad_leftovers
from tests.integration.nomad_agent import Agent, agent
from tests.integration.nomad_cluster import Cluster, cluster
from tests.integration.nomad_tls import ELSEWHERE, Certificates
from tests.integration.releasing import TINY, docker, until

pytestmark = pytest.mark.nomad

STUBBORN = 'trap "" TERM; while :; do sleep 1; done'
RAW = {"command": "/bin/sh", "args": ["-c", STUBBORN]}


def job(name: str, driver: str, config: dict[str, Any]) -> dict[str, Any]:
    """A service whose one task does not end when it is told to."""
    resources = {"CPU": 50, "MemoryMB": 32}
    task = {"Name": "task", "Driver": driver, "Config": config, "KillTimeout": 25_000_000_000, "Resources": resources}
    group = {"Name": "group", "Count": 1, "Tasks": [task]}
    return {"Job": {"ID": name, "Name": name, "Type": "service", "Datacenters": ["*"], "TaskGroups": [group]}}


def running(one: Agent) -> int:
    """How many tasks run that were never restarted."""
    states = [state for found in one.ask("GET", "/v1/allocations") for state in (found["TaskStates"] or {}).values()]
    return sum(state["State"] == "running" and not state["Restarts"] for state in states)


def nothing_left(folder: Path) -> bool:
    """Whether nothing of an agent is on this machine but files."""
    found = (nomad_leftovers.containers, nomad_leftovers.processes, nomad_leftovers.mounts)
    return not any(look(folder) for look in found) and not list(nomad_leftovers.cgroups(folder))


def nomad(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What the nomad program says of an agent."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("NOMAD_")} | environment
    return subprocess.run(["nomad", *arguments], env=env, capture_output=True, text=True, timeout=60, check=False)


def test_tasks_outlive_an_agent_and_nothing_outlives_its_removal(tmp_path: Path) -> None:
    with agent(tmp_path / "agent") as one:
        one.ask("POST", "/v1/jobs", job("raw", "raw_exec", RAW))
        until(lambda: running(one) == 1, 60, "a task runs")
        before = min(pid for pid in nomad_leftovers.processes(one.folder) if STUBBORN in command(pid).split("\0"))
        one.kill()
        one.start()
        one.stop()
        one.start()
        until(lambda: running(one) == 1, 60, "the agent has its task again")
        assert STUBBORN in command(before).split("\0")
        assert not nothing_left(one.folder)
        started = time.monotonic()
    assert nothing_left(tmp_path / "agent")
    assert time.monotonic() - started < 20, "not even a task that ignores its end makes a removal long"


def command(pid: int) -> str:
    """The command line of a process; of what the task waits for, each has ended a second after its begin."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


@pytest.mark.docker
@pytest.mark.usefixtures("tiny_image")
def test_containers_go_with_their_agent_and_no_other_does(tmp_path: Path) -> None:
    docker("tag", TINY, f"{TINY}:agent")
    label = f"{nomad_leftovers.ALLOCATION}=00000000-0000-0000-0000-000000000000"
    other = docker("run", "--detach", "--rm", "--network=none", "--label", label, TINY, "sleep", "300")
    try:
        with agent(tmp_path / "agent") as one:
            config = {"image": f"{TINY}:agent", "entrypoint": [], "command": "sh", "args": ["-c", STUBBORN]}
            one.ask("POST", "/v1/jobs", job("container", "docker", config))
            until(lambda: running(one) == 1, 60, "a container runs")
            assert len(nomad_leftovers.containers(one.folder)) == 1
        assert nothing_left(tmp_path / "agent")
        assert docker("inspect", "--format", "{{.State.Running}}", other) == "true"
    finally:
        docker("rm", "--force", other)
        docker("rmi", f"{TINY}:agent")


def test_an_agent_with_tokens_and_certificates(tmp_path: Path) -> None:
    with agent(tmp_path / "agent", acl=True, tls=Certificates(tmp_path / "certificates")) as one:
        assert one.ask("GET", "/v1/jobs") == []
        with pytest.raises(OSError, match="403 Permission denied"):
            one.ask("GET", "/v1/jobs", token="")
        assert nomad("node", "status", **one.variables).returncode == 0
        refused = nomad("node", "status", NOMAD_ADDR=one.address, NOMAD_CACERT=one.variables["NOMAD_CACERT"])
        assert "certificate required" in refused.stderr
        one.stop()
        one.start()
        assert one.ask("GET", "/v1/jobs") == []


def test_an_agent_whose_certificate_has_another_name(tmp_path: Path) -> None:
    with agent(tmp_path / "agent", tls=Certificates(tmp_path / "certificates", ELSEWHERE)) as one:
        assert one.ask("GET", "/v1/jobs") == []
        refused = nomad("node", "status", **one.variables)
        assert refused.returncode == 1
        assert "failed to verify certificate" in refused.stderr


def serves(one: Cluster) -> bool:
    """Whether the cluster takes requests: a leader answers."""
    return one.client.has_keys()


def test_a_cluster_loses_its_leader_its_client_and_all_its_servers(tmp_path: Path) -> None:
    with cluster(tmp_path / "cluster") as one:
        assert len(one.client.ask("GET", "/v1/status/peers")) == 3
        one.client.ask("POST", "/v1/jobs", job("raw", "raw_exec", RAW))
        until(lambda: running(one.client) == 1, 60, "a task runs")
        old = one.leader()
        old.kill()
        assert one.leader() is not old
        until(lambda: serves(one), 60, "the others serve")
        old.start()
        one.client.kill()
        one.client.start()
        for server in one.servers:
            server.kill()
        assert not serves(one)
        for server in one.servers:
            server.launch()
        until(lambda: serves(one), 60, "all servers are back")
        assert running(one.client) == 1
    assert all(nothing_left(member.folder) for member in one.agents)
