"""The target `docker` on a real engine: slots come up, are replaced, say why they fail; what is not ours is refused."""

import dataclasses
import json
import os
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from mlops_deploy.adapters.compose import ComposeTarget
from mlops_deploy.adapters.docker_engine import DockerEngine
from mlops_deploy.adapters.process import LocalRunner
from mlops_deploy.api.prepare import DockerSupply
from mlops_deploy.config.load import load_with_files
from mlops_deploy.errors import UnusableInputError
from mlops_deploy.spec.owner import Owner
from mlops_deploy.spec.rendered import JobImage
from mlops_deploy.store.layout import LayoutStore
from tests.fakes.carriers import Silent

pytestmark = [pytest.mark.docker, pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")]

ROOT = Path(__file__).parents[2]
TINY = "mlops-tiny-v2:latest"
STAND_IN = "mlops-deploy-test-router:1"
STAND_IN_FILE = """
FROM mlops-base:bookworm
RUN mkdir /state && chown 65532:65532 /state
CMD ["python3", "-c", "import http.server as h; h.ThreadingHTTPServer(('', 8080), h.BaseHTTPRequestHandler).serve_forever()"]
"""
PORT = 18731


def run(*command, timeout=120, **more):
    return subprocess.run(
        [str(c) for c in command], capture_output=True, text=True, check=False, timeout=timeout, **more
    )


@pytest.fixture(scope="module")
def images():
    base = run(ROOT / "images" / "base" / "build.sh")
    if base.returncode and "docker" not in os.environ.get("MLOPS_DEPLOY_REQUIRE", ""):
        pytest.skip(f"no base image: {base.stderr}")
    built = run("docker", "build", "--tag", TINY, "--file", ROOT / "tests/fakes/tiny_v2/Dockerfile", ROOT)
    assert built.returncode == 0, built.stderr
    built = run("docker", "build", "--tag", STAND_IN, "-", input=STAND_IN_FILE)
    assert built.returncode == 0, built.stderr


@pytest.fixture
def place(images, tmp_path):
    """A service of its own name, gone afterwards with all that it made."""
    place = Place(tmp_path, f"dt{uuid.uuid4().hex[:8]}")
    yield place
    place.clean()


class Place:
    def __init__(self, folder, service):
        self.folder, self.service, self.made = folder, service, set()
        self.owner = Owner(service=service)
        self.store = LayoutStore(folder / ".mlops" / "store")
        self.engine = DockerEngine()
        self.targets = []
        self.target = self.another()

    def another(self):
        """The same target as another process sees it."""
        runner = LocalRunner()
        self.targets.append(ComposeTarget(self.owner, PORT, JobImage(ref=STAND_IN, local=True), runner, runner))
        return self.targets[-1]

    def network(self):
        labels = [f"--label={name}={value}" for name, value in self.owner.labels().items()]
        assert run("docker", "network", "create", *labels, self.service).returncode == 0

    def artefact(self, *, weights=(1.0, 2.0), env=None, loaded=True, **more):
        (self.folder / "model.json").write_text(json.dumps({"weights": list(weights), "bias": 0.5}))
        document = {
            "service": self.service,
            "model": {"path": "model.json", "name": self.service},
            "server": {"image": TINY},
            "port": PORT,
            "env": env or {},
            **more,
        }
        (self.folder / "mlops.json").write_text(json.dumps(document))
        built = run("mlops-deploy", "build-model", "-f", "mlops.json", "--store", self.store.path, cwd=self.folder)
        assert built.returncode == 0, built.stderr
        spec, _ = load_with_files(self.folder / "mlops.json", None)
        supply = DockerSupply(spec=spec, store=self.store, engine=self.engine)
        artefact = supply.artefact(self.store.newest(self.service), None)
        if loaded:
            supply.prepare(artefact, Silent())
            self.made.add(artefact.carrier)
        return artefact

    def wait(self, *states, slot="a", target=None, seconds=30.0):
        until, seen = time.monotonic() + seconds, []
        while time.monotonic() < until:
            view = (target or self.target).observe(slot)
            if not seen or seen[-1] != view.state:
                seen.append(view.state)
            if view.state in states:
                return view
            time.sleep(0.05)
        raise AssertionError((seen, view))

    def up(self, artefact, slot="a"):
        self.target.ensure(slot, artefact)
        return self.wait("running", slot=slot)

    def answer(self, path, slot="a", body=None):
        """What the server of a slot answers, asked from inside its container."""
        script = (
            "import json,sys,urllib.request as u;b=sys.argv[2].encode() or None;"
            "print(u.urlopen(u.Request('http://127.0.0.1:8080'+sys.argv[1],b),timeout=5).read().decode())"
        )
        for _ in range(100):
            argv = ("python3", "-c", script, path, json.dumps(body) if body else "")
            done = run("docker", "exec", f"{self.service}-{slot}-server-1", *argv)
            if done.returncode == 0:
                return json.loads(done.stdout)
            time.sleep(0.1)
        raise AssertionError(done.stderr)

    def left(self):
        kinds = (["ps", "--all", "--quiet"], ["volume", "ls", "--quiet"], ["network", "ls", "--quiet"])
        label = f"label=io.mlops-deploy.service={self.service}"
        return [line for kind in kinds for line in run("docker", *kind, "--filter", label).stdout.split()]

    def clean(self):
        for target in self.targets:
            for slot in "ab":
                target._end_up(slot)
                target._finish_down(slot)
        named = run("docker", "ps", "-aq", "--filter", f"name=^{self.service}").stdout.split()
        if named:
            run("docker", "rm", "--force", *named)
        run("docker", "network", "rm", self.service)
        run("docker", "volume", "rm", *(f"{self.service}-{part}" for part in ("a-models", "b-models", "state")))
        if self.made:
            run("docker", "image", "rm", *self.made)


def test_a_slot_comes_up_and_answers_as_this_model(place):
    place.network()
    artefact = place.artefact()
    assert place.target.observe("a").state == "absent"
    began = time.monotonic()
    place.target.ensure("a", artefact)
    assert time.monotonic() - began < 3
    assert place.target.observe("a").state == "preparing"
    assert place.target.observe("a").key == artefact.key
    view = place.wait("running")
    assert (view.key, view.content, view.cause) == (artefact.key, artefact.content_id.hex, None)
    assert place.answer(artefact.proof.endpoint)["ready"] is True
    assert place.answer(artefact.proof.identity)["model_version"] == artefact.proof.version
    assert place.target.observe("b").state == "absent"


def test_the_same_artefact_is_left_alone_by_anybody(place):
    place.network()
    artefact = place.artefact()
    first = place.up(artefact)
    for target in (place.target, place.another()):
        target.ensure("a", artefact)
        assert target.observe("a") == first
    time.sleep(1)
    assert place.target.observe("a") == first


def test_other_content_takes_the_place_with_its_volume(place):
    place.network()
    first = place.artefact()
    one = place.up(first)
    second = place.artefact(weights=(10.0, 0.0))
    two = place.up(second)
    assert two.key == second.key != one.key
    assert not set(one.revision.split(".")) & set(two.revision.split("."))
    listed = run("docker", "exec", f"{place.service}-a-server-1", "ls", "/model/v").stdout.split()
    assert listed == [second.content_id.hex]


def test_another_job_of_the_same_model_keeps_the_volume(place):
    place.network()
    place.up(place.artefact())
    again = place.artefact(env={"LOAD_SECONDS": "0.1"})
    assert place.up(again).key == again.key
    assert any("found" in line for line in place.target.logs("bootstrap", "a", 10, follow=False))


def test_a_stopped_one_is_started_again(place):
    place.network()
    artefact = place.artefact()
    first = place.up(artefact)
    run("docker", "stop", f"{place.service}-a-server-1")
    assert place.target.observe("a").state == "stopped"
    assert place.up(artefact).revision == first.revision


def test_stop_removes_the_tasks_and_keeps_the_volume(place):
    place.network()
    artefact = place.artefact()
    place.up(artefact)
    began = time.monotonic()
    place.target.stop("a", 5)
    assert time.monotonic() - began < 3
    place.wait("absent")
    assert run("docker", "volume", "inspect", f"{place.service}-a-models").returncode == 0
    assert run("docker", "network", "inspect", place.service).returncode == 0
    place.target.stop("a", 5)
    assert place.up(artefact).state == "running"


def test_observing_is_quick(place):
    place.network()
    place.up(place.artefact())
    times = []
    for _ in range(40):
        began = time.perf_counter()
        place.target.observe("a")
        times.append(time.perf_counter() - began)
    assert sorted(times)[len(times) // 2] < 0.03


def test_what_one_process_began_another_goes_on_with(place):
    """A compose command dies with who called it; the next who comes finishes what it began."""
    place.network()
    artefact = place.artefact()
    place.target.ensure("a", artefact)
    while place.target.observe("a").revision == "":
        time.sleep(0.01)
    place.target._ups.pop("a").process.end(0)
    other = place.another()
    assert other.observe("a").state in {"preparing", "stopped"}
    other.ensure("a", artefact)
    assert place.wait("running", target=other).key == artefact.key


class TestCauses:
    """Where waiting is of no use, it is said at once, why, and with the last words of what failed."""

    def test_the_wrong_carrier(self, place):
        place.network()
        artefact = place.artefact()
        wrong = json.loads(json.dumps(artefact.job).replace(artefact.content_id.hex, "0" * 64))
        place.target.ensure("a", dataclasses.replace(artefact, job=wrong))
        view = place.wait("failed")
        assert view.cause.kind == "bootstrap"
        assert view.cause.message.startswith("the bootstrap ended with 65: the carrier is damaged, or carries another")
        assert any("the job asks for" in line for line in view.cause.lines)
        assert place.another().observe("a").cause.message == view.cause.message

    def test_after_which_a_good_one_comes_up(self, place):
        place.network()
        artefact = place.artefact()
        wrong = json.loads(json.dumps(artefact.job).replace(artefact.content_id.hex, "0" * 64))
        place.target.ensure("a", dataclasses.replace(artefact, job=wrong))
        place.wait("failed")
        assert place.up(artefact).cause is None

    def test_an_image_that_is_gone(self, place):
        place.network()
        place.target.ensure("a", place.artefact(loaded=False))
        view = place.wait("failed")
        assert view.cause.kind == "image"
        assert view.cause.message == f"the image `{place.artefact(loaded=False).carrier}` is not in the engine"

    def test_too_little_memory(self, place):
        place.network()
        place.target.ensure("a", place.artefact(env={"EATS_MIB": "300"}, resources={"memory": "64Mi"}))
        view = place.wait("failed")
        assert (view.cause.kind, view.restarts < 3) == ("memory", True), "the first time is enough"
        assert "more than its 64 MiB of memory" in view.cause.message

    def test_a_server_that_crashes_again_and_again(self, place):
        place.network()
        place.target.ensure("a", place.artefact(env={"CRASH_AFTER": "0.2"}))
        view = place.wait("failed")
        assert (view.cause.kind, view.restarts) == ("crash", 3)
        assert view.cause.message == "the server crashes again and again: it ended with 70"
        assert "error: crashed, as asked" in view.cause.lines
        assert place.wait("failed", target=place.another()).cause.message == view.cause.message

    def test_a_command_that_is_not_there(self, place):
        place.network()
        artefact = place.artefact()
        job = dict(artefact.job)
        job["server"] = {**job["server"], "entrypoint": ["/nowhere"]}
        place.target.ensure("a", dataclasses.replace(artefact, job=job))
        view = place.wait("failed")
        assert view.cause.kind == "start"
        assert "/nowhere" in view.cause.message

    def test_compose_itself(self, place):
        place.target.ensure("a", place.artefact())  # there is no network
        view = place.wait("failed")
        assert view.cause.kind == "start"
        assert view.cause.message == f"compose does not start it: network {place.service} not found"

    def test_a_server_that_loads_for_long_is_no_failure(self, place):
        place.network()
        place.target.ensure("a", place.artefact(env={"LOAD_SECONDS": "3600"}, ready={"deadline": "1s"}))
        place.wait("running")
        time.sleep(6)  # the health check has failed by now
        assert place.target.observe("a").state == "running"
        health = run("docker", "inspect", "-f", "{{.State.Health.Status}}", f"{place.service}-a-server-1")
        assert health.stdout == "unhealthy\n"


class TestForeign:
    """What has our name and is not ours is refused, and stays as it is."""

    def test_a_container(self, place):
        place.network()
        artefact = place.artefact()
        name = f"{place.service}-a-server-1"
        run("docker", "create", "--name", name, TINY)
        before = run("docker", "inspect", name).stdout
        with pytest.raises(UnusableInputError, match=f"container `{name}`") as caught:
            place.target.ensure("a", artefact)
        assert caught.value.exit_code == 2
        with pytest.raises(UnusableInputError, match="its labels do not say"):
            place.target.stop("a", 1) or place.target.observe("a")
        assert run("docker", "inspect", name).stdout == before

    def test_a_slot_of_another_environment(self, place):
        place.network()
        place.up(place.artefact())
        other = ComposeTarget(
            Owner(service=place.service[:-1], environment=place.service[-1]), PORT, None, LocalRunner(), LocalRunner()
        )
        assert other.observe("a").state == "absent", "its project has another name"
        same = ComposeTarget(Owner(service="other"), PORT, None, LocalRunner(), LocalRunner())
        same._owner = dataclasses.replace(same._owner, service=place.service, environment=None)
        assert same.observe("a").state == "running"

    def test_a_volume(self, place):
        place.network()
        artefact = place.artefact()
        run("docker", "volume", "create", "--label", "a=b", f"{place.service}-a-models")
        with pytest.raises(UnusableInputError, match=f"volume `{place.service}-a-models`"):
            place.target.ensure("a", artefact)
        place.target.remove(volumes=False)
        assert run("docker", "volume", "inspect", f"{place.service}-a-models").returncode == 0

    def test_a_network(self, place):
        run("docker", "network", "create", place.service)
        with pytest.raises(UnusableInputError, match=f"network `{place.service}`"):
            place.target.ensure("a", place.artefact())
        with pytest.raises(UnusableInputError, match=f"network `{place.service}`"):
            place.target.make_router("")
        assert place.left() == []


class TestRouter:
    def test_it_is_made_once_and_started_again_and_never_replaced(self, place):
        assert place.target.keeper() is None
        place.target.make_router("first")
        name = f"{place.service}-router-router-1"
        first = json.loads(run("docker", "inspect", name).stdout)[0]
        assert first["State"]["Running"]
        assert "ROUTER_CONFIG=first" in first["Config"]["Env"]
        place.another().make_router("second")
        run("docker", "stop", "--time", "0", name)
        place.another().make_router("second")
        again = json.loads(run("docker", "inspect", name).stdout)[0]
        assert (again["Id"], again["State"]["Running"]) == (first["Id"], True)

    def test_a_slot_joins_its_network_under_its_name(self, place):
        place.target.make_router("")
        place.up(place.artefact())
        found = json.loads(run("docker", "inspect", f"{place.service}-a-server-1").stdout)[0]
        joined = found["NetworkSettings"]["Networks"]
        assert list(joined) == [place.service]
        assert f"{place.service}-a" in joined[place.service]["Aliases"]
        assert not found["NetworkSettings"]["Ports"].get("8080/tcp"), "nothing of a slot is published"

    def test_a_port_that_is_taken_is_named_and_nothing_is_left(self, place):
        taken = run("docker", "run", "-d", "--rm", "-p", f"127.0.0.1:{PORT}:8080", STAND_IN).stdout.strip()
        try:
            with pytest.raises(UnusableInputError, match=f"port {PORT} is taken"):
                place.target.make_router("")
        finally:
            run("docker", "rm", "--force", taken)
        assert place.left() == []
        place.target.make_router("")

    def test_all_of_it_goes_and_the_volumes_when_asked(self, place):
        place.target.make_router("")
        place.up(place.artefact())
        place.target.remove(volumes=False)
        assert sorted(place.left()) == [f"{place.service}-a-models", f"{place.service}-state"]
        place.target.remove(volumes=True)
        assert place.left() == []
