"""Whatever dies, traffic stays where it was last committed, and the release can be ended: on a real engine."""

import json
import os
import shutil
import signal
import subprocess

import pytest

from tests.integration.releasing import TINY, docker, listed, run, until

pytestmark = pytest.mark.docker


@pytest.fixture
def two(service):
    """Version 1 is live and version 2 is built."""
    service.versions = service.build_all(1, 2)
    service.release(1)
    return service


def begin(service, *, lines, **environment):
    """A release of version 2 that has written `lines` of its journal, or has ended."""
    service.use(2)
    service.configure(env=environment)
    before = service.journaled()
    command = service.start("release", "--model", f"{service.name}:2")
    until(lambda: command.poll() is not None or service.journaled() >= before + lines, 60, f"{lines} lines of journal")
    return command


def test_a_router_that_is_restarted_comes_back_with_the_committed_share(two):
    two.release(2)
    docker("restart", two.container("router"))
    until(lambda: answering(two) == two.versions[2], 60, "the router answers")
    assert {two.serves() for _ in range(20)} == {two.versions[2]}
    status = two.status()
    assert status["router"]["committed"] == status["router"]["in_force"] == {"share_b": 10_000, "closed": False}
    two.json("rollback")
    docker("restart", two.container("router"))
    until(lambda: answering(two) == two.versions[1], 60, "the router answers")


def router_is_up(service):
    looked = run(*service.command("status", "--output", "json"), cwd=service.folder, env=service.environ("status"))
    return looked.returncode == 0 and json.loads(looked.stdout)["router"]["up"]


def answering(service):
    try:
        return service.serves()
    except OSError:
        return None


def test_a_router_that_is_killed_in_the_middle_of_a_release_comes_back_and_the_release_goes_on(two):
    command = begin(two, lines=3, LOAD_SECONDS="10")
    os.kill(int(docker("inspect", "--format", "{{.State.Pid}}", two.container("router"))), signal.SIGKILL)
    until(lambda: answering(two) == two.versions[1], 60, "the router answers")
    _, story = command.communicate(timeout=90)
    if command.returncode == 8:
        assert two.json("resume")["result"] == "released"
    else:
        assert command.returncode == 0, story
    assert two.serves() == two.versions[2]


def test_a_router_that_somebody_stopped_is_said_and_started_by_the_next_release(two):
    docker("kill", two.container("router"))
    done = two.run("status", code=8)
    assert "router" in done.stderr
    two.release(2)
    assert two.serves() == two.versions[2]


KILLED = [(1, "resume"), (5, "abort"), (7, "resume"), (8, "abort"), (10, "resume"), (12, "abort"), (14, "resume")]
KILLED += [(15, "abort"), (16, "resume"), (18, "resume"), (20, "resume")]


@pytest.mark.parametrize(("point", "end"), KILLED)
def test_a_command_that_is_killed_leaves_traffic_and_a_release_that_can_be_ended(three, point, end):
    """One service for all of them: each begins where the one before has left it, with what is in no slot."""
    kill_and_end(three, point, end)


def kill_and_end(three, point, end):
    """Kill a release of the version that is in no slot, then `resume` or `abort` it; no request fails."""
    before = three.status()
    there = {slot["version"] for slot in before["slots"].values()}
    bias = next(bias for bias, version in three.versions.items() if f"{three.name}@{version}" not in there)
    live = before["live"]["version"].removeprefix(f"{three.name}@")
    three.use(bias)
    with three.load(rate=60, new=20) as load:
        killed = three.kill_at(point, "release", "--model", f"{three.name}:{bias}")
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        committed = three.serves()
        three.expire_lease()
        ended = run(*three.command(end, "--output", "json"), cwd=three.folder, env=three.environ(end))
        assert ended.returncode in {0, 2}, ended.stderr  # 2: it never began, or is promoted and can only be finished
        if ended.returncode and three.status()["release"]:
            three.run("resume")
        status = three.status()
        assert status["lease"] is status["release"] is None
        assert status["live"]["version"] == f"{three.name}@{three.serves()}"
        expected = {"resume": three.versions[bias], "abort": live}[end] if ended.returncode == 0 else committed
        assert three.serves() == expected, ended.stderr
        count = load.end()
    assert count["failed"] == 0, count
    assert set(count["answered"]) <= set(three.versions.values())


@pytest.fixture(scope="module")
def three(shared_service):
    """Version 1 is live, two others are built."""
    shared_service.versions = shared_service.build_all(1, 2, 3)
    shared_service.release(1)
    return shared_service


@pytest.mark.parametrize("kind", ["container", "volume", "network"])
def test_a_foreign_thing_of_our_name_is_refused_and_not_touched(service, kind):
    service.build(1)
    names = {
        "container": service.container("server", "a"),
        "volume": f"{service.name}-a-models",
        "network": f"{service.name}-a",
    }
    name = names[kind]
    create = {
        "container": ("run", "--detach", "--name", name, TINY, "sleep", "600"),
        "volume": ("volume", "create", name),
    }
    create["network"] = ("network", "create", name)
    docker(*create[kind])
    try:
        before = docker(kind, "inspect", name)
        done = run(*service.command("release"), cwd=service.folder, env=service.environ("release"))
        assert done.returncode in {2, 4}, done.stderr
        assert name in done.stderr
        assert "labels do not say" in done.stderr
        if done.returncode == 2:  # nothing was begun
            assert f"{name}` removes it" in done.stderr, "the hint names the way on"
            assert listed("container", service.name) == [], "no router is left"
        assert docker(kind, "inspect", name) == before
    finally:
        docker(kind, "rm", *(["--force"] if kind == "container" else []), name)


def test_a_port_that_is_taken_is_named_and_nothing_is_left(make_service):
    one = make_service()
    one.build(1)
    one.run("release")
    other = make_service(port=one.port)
    other.build(1)
    done = other.run("release", code=2)
    assert f"port {one.port} is taken" in done.stderr
    assert [listed(kind, other.name) for kind in ("container", "volume")] == [[], []]


def test_a_live_server_that_is_killed_from_outside_is_said_and_healed_by_a_release(two):
    docker("kill", two.container("server", "a"))
    until(lambda: two.status()["slots"]["a"]["state"] != "running", 60, "status says that it is gone")
    seen = two.status()["slots"]["a"]
    assert seen["state"] == "stopped"
    assert seen["ended"]["message"] == "the server was stopped from outside, and ended with 137"
    assert "  stopped\n" in (said := two.run("status").stdout)
    assert seen["ended"]["message"] in said
    until(lambda: not two.status()["slots"]["a"]["up"], 30, "the router calls it down")
    two.release(1)
    assert two.serves() == two.versions[1]
    assert two.status()["slots"][two.status()["live"]["slot"]]["state"] == "running"


@pytest.fixture
def own_engine(tmp_path_factory):
    """An engine of the test's own, which can be restarted; in a network of its own, with the images that are needed."""
    if os.geteuid() or not all(map(shutil.which, ("dockerd", "unshare", "nsenter", "ip"))):
        pytest.skip("an engine of its own needs root and dockerd")
    engine = Engine(tmp_path_factory.mktemp("own"))
    engine.start()
    yield engine
    engine.end()


class Engine:
    """`dockerd` in a network and a mount table of its own."""

    def __init__(self, root):
        self.root, self.host = root, f"unix://{root}/d.sock"
        self.process = self.holder = None

    def start(self):
        if self.holder is None:
            hold = "ip link set lo up && mount -t tmpfs none /run && echo there && exec sleep infinity"
            command = ["unshare", "--net", "--mount", "sh", "-c", hold]
            self.holder = subprocess.Popen(command, stdout=subprocess.PIPE)
            with self.holder.stdout as said:
                assert said.readline() == b"there\n"
        own = [f"--{name}={self.root}/{name}" for name in ("data-root", "exec-root")]
        command = ["dockerd", *own, f"--pidfile={self.root}/pid", f"--host={self.host}", "--config-file=/dev/null"]
        with (self.root / "log").open("ab") as log:
            self.process = subprocess.Popen([*self.inside(), *command], stdout=log, stderr=log)
        until(lambda: run("docker", "-H", self.host, "info").returncode == 0, 60, "the second engine answers")

    def inside(self):
        return ["nsenter", f"--target={self.holder.pid}", "--net", "--mount"]

    def stop(self):
        self.process.terminate()
        self.process.wait(60)

    def give(self, image):
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saved:
            subprocess.run(["docker", "-H", self.host, "load"], stdin=saved.stdout, check=True, capture_output=True)
        assert saved.returncode == 0

    def end(self):
        self.stop()
        self.holder.kill()
        self.holder.wait()


def test_an_engine_that_is_restarted_in_the_middle_brings_the_committed_share_back_and_resume_ends_clean(
    own_engine, make_service
):
    for image in (TINY, *docker("images", "--format", "{{.Repository}}:{{.Tag}}", "mlops-router").split()[:1]):
        own_engine.give(image)
    service = make_service(environment={"DOCKER_HOST": own_engine.host})
    service.versions = service.build_all(1, 2)
    service.release(1)
    command = begin(service, lines=3, LOAD_SECONDS="15")
    own_engine.stop()
    _, story = command.communicate(timeout=90)
    assert command.returncode == 8, story
    own_engine.start()
    until(lambda: router_is_up(service), 60, "the router is there again")
    assert service.status()["router"]["committed"] == {"share_b": 0, "closed": False}
    service.expire_lease()  # the command could not let go of it while there was no engine
    assert service.json("resume")["result"] == "released"
    status = service.status()
    assert status["live"]["version"].endswith(service.versions[2])
    assert status["router"]["in_force"] == {"share_b": 10_000, "closed": False}
    service.run("down", "--volumes")
