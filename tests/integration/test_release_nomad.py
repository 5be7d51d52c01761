"""Blue/green on a real Nomad agent with Docker tasks, through the command line, under load: no request fails."""

import json
import os
import signal
import time
from contextlib import contextmanager

import pytest

from tests.integration.releasing import run, until
from tests.integration.test_release_docker import Watch

pytestmark = [pytest.mark.nomad, pytest.mark.docker]

SWITCHES = 12
REPLACED = 4
"""Every fourth switch is a release of a model that was in neither slot."""

COPYING = 60
"""Seconds that a copy takes."""

PATIENCE = 20
"""Seconds after which another run begins: a bootstrap waits for a minute, where one alone is at work."""

RARE = 4711
"""A model that no other test brings to the volume, which keeps what it has."""

BOOTSTRAP = 65532
"""The user of the bootstrap."""


@pytest.fixture
def service(make_nomad):
    return make_nomad()


def test_no_request_fails_while_two_versions_change_places_again_and_again(service):
    versions = service.build_all(1, 2, 3, 4)
    assert service.release(1)["result"] == "released"
    load, parked, live, fresh = service.load(rate=150, new=40), None, 1, iter((2, 3, 4))
    answered = {versions[1]}
    for number in range(SWITCHES):
        if number % REPLACED == 0:
            parked = next(fresh)
            report = service.release(parked)
        else:
            report = service.json("rollback")
        live, parked = parked, live
        answered.add(versions[live])
        assert report["live"] == f"{service.name}@{versions[live]}"
        assert report["failed"] == 0
        assert {service.serves() for _ in range(3)} == {versions[live]}
    time.sleep(1)
    count = load.end()
    assert count["failed"] == 0, count
    assert count["rate"] >= 100
    assert set(count["answered"]) == answered
    assert all(entry["failed"] == 0 for entry in service.json("history"))


def test_the_first_release_opens_the_router_and_down_leaves_nothing(service):
    version = service.build(1)
    first = service.run("release")
    assert first.stdout.startswith(f"{service.name}@{version} r-")
    assert service.serves() == version
    assert service.json("release")["result"] == "nothing"
    status = service.status()
    assert status["live"]["version"] == f"{service.name}@{version}"
    assert status["slots"]["a"]["state"] == "running"
    assert service.run("logs", "--task", "bootstrap").stdout.startswith(f"copied {service.name} {version}: ")
    assert "slot a is at 127.0.0.1" in service.run("logs", "--task", "router").stdout
    assert [entry["exit_code"] for entry in service.json("history")] == [0]
    service.run("down")
    assert service.jobs() == {}
    assert service.items(), "the state is a volume, which stays"
    service.run("release")
    assert service.serves() == version
    service.run("down", "--volumes")
    assert service.jobs() == service.items() == {}
    assert service.agent.ask("GET", f"/v1/vars?prefix=nomad/jobs/{service.name}") == []


def test_the_target_is_nomad_where_nomad_addr_is_set(service):
    service.configure(target=None)
    version = service.build(1)
    service.run("release")
    assert set(service.jobs()) == {"a", "router"}
    assert service.serves() == version


def test_a_candidate_waits_for_a_decision_and_can_be_advanced_or_turned_back(service):
    versions = service.build_all(1, 2)
    service.release(1)
    assert service.release(2, "--until", "ready")["result"] == "held"
    assert service.serves() == versions[1]
    assert service.json("abort")["result"] == "aborted"
    assert service.serves() == versions[1]
    assert service.status()["slots"]["b"]["state"] == "absent"
    service.release(2, "--until", "ready")
    assert service.json("advance")["result"] == "released"
    assert service.serves() == versions[2]


def test_a_saved_plan_is_carried_out_exactly_and_refused_once_it_is_stale(service):
    versions = service.build_all(1, 2)
    service.release(1)
    service.use(2)
    service.run("plan", "--model", f"{service.name}:2", "-o", "two.plan")
    assert service.json("release", "--plan", "two.plan")["live"].endswith(versions[2])
    assert "stale" in service.run("release", "--plan", "two.plan", code=3).stderr
    assert service.serves() == versions[2]


def test_a_second_release_is_refused_and_ctrl_c_leaves_what_can_be_resumed(service):
    versions = service.build_all(1, 2)
    service.release(1)
    service.configure(env={"LOAD_SECONDS": "25"})
    service.use(2)
    command = service.start("release", "--model", f"{service.name}:2")
    while not (status := service.status())["lease"]:
        assert command.poll() is None
    assert status["lease"]["holder"] in service.run("release", "--model", f"{service.name}:2", code=3).stderr
    command.send_signal(signal.SIGINT)
    _, story = command.communicate(timeout=20)
    assert command.returncode == 130
    assert "resume" in story
    assert service.serves() == versions[1]
    assert service.json("resume")["result"] == "released"
    assert service.serves() == versions[2]


def test_recreate_answers_503_with_retry_after_and_starts_the_old_one_again_when_the_new_one_fails(service):
    versions = service.build_all(1, 2)
    service.configure(release={"strategy": "recreate", "bake": "0s", "drain": "3s"})
    service.release(1)
    with Watch(service) as watch:
        service.release(2)
    assert {seen for seen, *_ in watch.seen} == {200, 503}
    assert all(retry for seen, _, retry in watch.seen if seen == 503)
    assert [version for seen, version, _ in watch.seen if seen == 200][-1] == versions[2]
    with Watch(service) as watch:
        report = service.release(1, code=5, SAYS_VERSION="f" * 12)
    assert report["result"] == "reverted"
    assert {version for seen, version, _ in watch.seen if seen == 200} == {versions[2]}
    assert {seen for seen, *_ in watch.seen} == {200, 503}
    assert service.serves() == versions[2]


@pytest.mark.parametrize("volume", [{"kind": "alloc"}, {"kind": "host", "name": "models"}, {"kind": "dynamic"}])
def test_the_model_is_there_before_the_server_starts_in_every_volume(service, volume):
    service.configure(nomad={"volume": volume})
    versions = service.build_all(1, 2)
    service.release(1)
    service.release(2)
    service.release(1)  # into the slot that it has been in before
    assert service.serves() == versions[1]
    for slot in "ab":
        states = service.allocation(slot)["TaskStates"]
        assert states["bootstrap"]["FinishedAt"] <= states["server"]["StartedAt"]
        assert states["server"]["Restarts"] == 0
    names = {f"{service.name}-{slot}-models" for slot in "ab"} if volume["kind"] == "dynamic" else set()
    assert volumes(service) == names
    service.run("down", "--volumes")
    assert volumes(service) == set()


def volumes(service):
    """The names of the host volumes that were made for the service."""
    found = service.agent.ask("GET", "/v1/volumes?type=host") or []
    return {one["Name"] for one in found if one["Name"].startswith(f"{service.name}-")}


@pytest.mark.skipif(os.geteuid() != 0, reason="writes as the user of the bootstrap")
def test_a_copy_that_takes_a_minute_exposes_nothing(service):
    """Another run copies the same model to the same volume, so the bootstrap waits for it before it copies itself."""
    versions = service.build_all(1, RARE)
    service.release(1)
    service.use(RARE)
    content = json.loads(service.run("build-model", "--store", ".mlops/store", "--output", "json").stdout)["content_id"]
    volume = {"volume": {"kind": "host", "name": "models"}}
    service.configure(nomad=volume, ready={"golden": "golden.jsonl", "deadline": "180s"})
    with service.load(rate=120, new=30) as load:
        with copying(service.agent.volume, content) as claim:
            command = service.start("release", "--model", f"{service.name}:{RARE}")
            until(lambda: service.jobs().keys() >= {"b"}, 30, "the candidate has been begun")
            started, number = time.monotonic(), 1
            while (passed := time.monotonic() - started) < COPYING:
                if passed > number * PATIENCE:
                    number += 1
                    claim(number)
                assert service.serves() == versions[1]
                assert command.poll() is None
                assert service.agent.ask("GET", f"/v1/service/{service.name}-b") == []
                time.sleep(0.5)
            assert service.status()["slots"]["b"]["state"] == "preparing"
        _, story = command.communicate(timeout=90)
        assert command.returncode == 0, story
        assert service.serves() == versions[RARE]
        count = load.end()
    assert "the model is being copied" in story
    assert count["failed"] == 0, count
    assert set(count["answered"]) == {versions[1], versions[RARE]}


@contextmanager
def copying(volume, content):
    """As if runs of the bootstrap were at work on `content`: each has a claim of its own, and the fifo is held open."""
    versions, alive = volume / "v", volume / "v" / ".alive"

    def claim(number):
        folder = versions / f".{content}.{number}"
        folder.mkdir()
        os.chown(folder, BOOTSTRAP, BOOTSTRAP)

    versions.mkdir(exist_ok=True)
    if not alive.exists():
        os.mkfifo(alive, 0o600)
    for path in (versions, alive):
        os.chown(path, BOOTSTRAP, BOOTSTRAP)
    claim(1)
    held = os.open(alive, os.O_RDWR)
    try:
        yield claim
    finally:
        os.close(held)


def test_a_log_is_followed_until_its_slot_is_gone(service):
    service.build(1)
    service.configure(env={"LOAD_SECONDS": "0"})
    service.run("release")
    following = service.start("logs", "--follow", "--task", "bootstrap")
    assert following.stdout.readline().startswith(f"copied {service.name} ")
    assert following.poll() is None
    service.run("down")
    following.communicate(timeout=30)
    assert following.returncode == 0


@pytest.mark.parametrize("kind", ["job", "volume"])
def test_a_foreign_thing_of_our_name_is_refused_and_not_touched(service, kind):
    service.build(1)
    service.configure(nomad={"volume": {"kind": "dynamic"}})
    name = f"{service.name}-a" if kind == "job" else f"{service.name}-a-models"
    path = foreign(service.agent, kind, name)
    before = service.agent.ask("GET", path)
    try:
        done = run(*service.command("release"), cwd=service.folder, env=service.environ("release"))
        assert done.returncode in {2, 4}, done.stderr
        assert f"there is a {'job' if kind == 'job' else 'host volume'} `{name}`" in done.stderr
        assert service.agent.ask("GET", path) == before
        if kind == "job":
            assert list(service.jobs()) == ["a"], "no router is left"
    finally:
        service.agent.ask("DELETE", f"{path}?purge=true" if kind == "job" else f"{path}/delete")


def foreign(agent, kind, name):
    """A job, or a host volume, that somebody else has made; where it is in the API."""
    if kind == "job":
        task = {"Name": "t", "Driver": "raw_exec", "Config": {"command": "/bin/sleep", "args": ["600"]}}
        group = {"Name": "g", "Count": 0, "Tasks": [task]}
        job = {"ID": name, "Name": name, "Type": "service", "Datacenters": ["*"], "TaskGroups": [group]}
        agent.ask("PUT", "/v1/jobs", {"Job": job})
        until(lambda: agent.ask("GET", f"/v1/job/{name}")["Status"] == "dead", 30, "there is nothing to run")
        return f"/v1/job/{name}"
    capability = {"AccessMode": "single-node-writer", "AttachmentMode": "file-system"}
    volume = {"Name": name, "PluginID": "mkdir", "RequestedCapabilities": [capability]}
    made = agent.ask("PUT", "/v1/volume/host/create", {"Volume": volume})
    path = f"/v1/volume/host/{made['Volume']['ID']}"
    until(lambda: agent.ask("GET", path)["State"] == "ready", 30, "the volume is ready")
    return path


def test_a_plan_says_how_the_job_will_differ_and_what_stands_in_the_way(service):
    service.build_all(1, 2)
    service.release(1)
    service.use(2)
    service.configure(env={"COLOUR": "blue"}, resources={"memory": "9000Gi"})
    said = service.run("plan", "--model", f"{service.name}:2").stdout
    assert "+ group model.task server.Env[COLOUR]: blue" in said
    assert "~ group model.task server.Resources.MemoryMB: 1024 -> 9216000" in said
    assert "impossible now: 1 node has no 9,216,000 MiB of memory left" in said
    assert set(service.jobs()) == {"a", "router"}, "nothing has been registered"


def test_a_service_lives_in_the_namespace_that_it_names(service):
    space = f"{service.name}-space"
    service.agent.ask("PUT", f"/v1/namespace/{space}", {"Name": space})
    service.configure(nomad={"namespace": space})
    version = service.build(1)
    service.run("release")
    assert service.serves() == version
    assert service.jobs() == {}, "in the default namespace"
    found = service.agent.ask("GET", f"/v1/jobs?namespace={space}")
    assert {one["ID"] for one in found} == {f"{service.name}-a", f"{service.name}-router"}
    service.run("down", "--volumes")
    assert service.agent.ask("GET", f"/v1/jobs?namespace={space}") == []
    assert service.agent.ask("GET", f"/v1/vars?namespace={space}") == []
    service.agent.ask("DELETE", f"/v1/namespace/{space}")
