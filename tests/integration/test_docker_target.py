"""The target `docker` on a real engine: slots come up, are replaced, say why they fail; what is not ours is refused."""

import dataclasses
import gc
import json
import os
import re
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path

import pytest

from mlops_deploy.adapters.compose.target import ComposeTarget
from mlops_deploy.adapters.docker_engine import DockerEngine
from mlops_deploy.adapters.process import LocalRunner
from mlops_deploy.api.docker_supply import DockerSupply
from mlops_deploy.config.load import load_with_files
from mlops_deploy.errors import ContentMismatchError, UnreachableError, UnusableInputError
from mlops_deploy.release.codec import encode
from mlops_deploy.spec.owner import Owner
from mlops_deploy.spec.rendered import JobImage
from mlops_deploy.store.layout import LayoutStore
from tests.fakes.carriers import Silent
from tests.fakes.routers import until
from tests.integration.releasing import build_here

pytestmark = [pytest.mark.docker, pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")]

ROOT = Path(__file__).parents[2]
TINY = "mlops-tiny-v2:latest"
STAND_IN = "mlops-deploy-test-router:1"
STAND_IN_FILE = """
FROM mlops-base:bookworm
RUN mkdir /state && chown 65532:65532 /state
STOPSIGNAL SIGINT
CMD ["python3", "-m", "http.server", "8080"]
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
    tiny = run("docker", "build", "--tag", TINY, "--file", ROOT / "tests/fakes/tiny_v2/Dockerfile", ROOT)
    assert tiny.returncode == 0, tiny.stderr
    stand_in = run("docker", "build", "--tag", STAND_IN, "-", input=STAND_IN_FILE)
    assert stand_in.returncode == 0, stand_in.stderr


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

    def another(self, port=PORT):
        """The same target as another process sees it."""
        runner = LocalRunner()
        self.targets.append(ComposeTarget(self.owner, port, JobImage(ref=STAND_IN, local=True), runner, runner))
        return self.targets[-1]

    def network(self):
        for slot in "ab":
            labels = [f"--label={name}={value}" for name, value in self.owner.labels(slot).items()]
            assert run("docker", "network", "create", *labels, f"{self.service}-{slot}").returncode == 0

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
        build_here(self.folder / "mlops.json", self.store.path)
        artefact = self.supply().artefact(self.store.newest(self.service), None)
        if loaded:
            self.supply().prepare(artefact, Silent())
            self.made.add(artefact.carrier)
        return artefact

    def supply(self):
        spec, _ = load_with_files(self.folder / "mlops.json", None)
        return DockerSupply(spec=spec, store=self.store, engine=self.engine, builder=None)

    def wait(self, *states, slot="a", target=None, seconds=60.0):
        end, seen = time.monotonic() + seconds, []
        while time.monotonic() < end:
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
        for holder in (self.engine, *self.targets):
            if (client := vars(holder).get("_client")) is not None:
                client.close()
        gc.collect()  # the SDK leaves some sockets to it
        named = run("docker", "ps", "-aq", "--filter", f"name=^{self.service}").stdout.split()
        if named:
            run("docker", "rm", "--force", *named)
        run("docker", "network", "rm", f"{self.service}-a", f"{self.service}-b")
        run("docker", "volume", "rm", *(f"{self.service}-{part}" for part in ("a-models", "b-models", "state")))
        if self.made:
            run("docker", "image", "rm", *self.made)


def test_a_slot_comes_up_and_answers_as_this_model(place):
    place.network()
    artefact = slowed(place, place.artefact(), 6)
    assert place.target.observe("a").state == "absent"
    began = time.monotonic()
    place.target.ensure("a", artefact)
    assert time.monotonic() - began < 6, "it does not wait for the bootstrap"
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
    place.answer(artefact.proof.endpoint)  # a server that is only starting does not hear that it should stop
    run("docker", "stop", f"{place.service}-a-server-1")
    view = place.target.observe("a")
    assert (view.state, view.cause) == ("stopped", None), "it can be started again"
    assert view.ended.message == "the server was stopped from outside, and ended with 0"
    assert place.up(artefact).revision == first.revision


def test_stop_removes_the_tasks_and_keeps_the_volume(place):
    place.network()
    artefact = place.artefact()
    place.up(artefact)
    place.answer(artefact.proof.endpoint)  # a server that is only starting does not hear that it should stop
    began = time.monotonic()
    place.target.stop("a", 30)
    assert time.monotonic() - began < 15
    place.wait("absent")
    assert run("docker", "volume", "inspect", f"{place.service}-a-models").returncode == 0
    assert run("docker", "network", "inspect", f"{place.service}-a").returncode == 0
    place.target.stop("a", 5)
    assert place.up(artefact).state == "running"


def test_a_slot_that_is_asked_for_while_it_stops_runs_again(place):
    place.network()
    artefact = place.artefact()
    first = place.up(artefact)
    place.target.stop("a", 5)
    again = place.up(artefact)
    assert not set(again.revision.split(".")) & set(first.revision.split(".")), "what was to be stopped is gone"
    time.sleep(2)
    assert place.target.observe("a") == again


def test_a_server_that_takes_long_to_stop_is_not_taken_for_one_that_runs(place):
    place.network()
    artefact = place.artefact()
    job = {**artefact.job, "server": {**artefact.job["server"], "entrypoint": ["sleep", "600"]}}  # hears no signal
    artefact = dataclasses.replace(artefact, job=job)
    first = place.up(artefact)
    place.target.stop("a", 60)
    again = place.up(artefact)
    assert not set(again.revision.split(".")) & set(first.revision.split("."))


def test_observing_is_quick(place):
    place.network()
    place.up(place.artefact())
    times = []
    for _ in range(40):
        began = time.perf_counter()
        place.target.observe("a")
        times.append(time.perf_counter() - began)
    assert min(times) < 0.03, "less than one program of the engine takes to begin"


def slowed(place, artefact, seconds):
    """The same with a carrier that takes its time."""
    command = json.dumps(["/bin/sh", "-c", f"/bin/busybox sleep {seconds}; . /deploy.sh"])
    image = f"{artefact.carrier}-slow{seconds}"
    image_made = run("docker", "build", "--tag", image, "-", input=f"FROM {artefact.carrier}\nCMD {command}\n")
    assert image_made.returncode == 0, image_made.stderr
    place.made.add(image)
    job = {**artefact.job, "bootstrap": {**artefact.job["bootstrap"], "image": image}}
    return dataclasses.replace(artefact, job=job)


KILLED = """
import json, sys, time
from pathlib import Path
from mlops_deploy.release.codec import decode
from mlops_deploy.release.state import Artefact
from tests.integration.test_docker_target import Place
place = Place(Path(sys.argv[1]), sys.argv[2])
place.target.ensure("a", decode(Artefact, json.load(sys.stdin)))
print("begun", flush=True)
time.sleep(60)
"""


def composing(place):
    return run("pgrep", "-f", f"compose .*{place.service}-a").stdout


def test_what_a_killed_process_began_another_goes_on_with(place):
    """The compose command ends with the process that called it; the next who comes finishes what it began."""
    place.network()
    artefact = slowed(place, place.artefact(), 10)
    argv = [sys.executable, "-c", KILLED, str(place.folder), place.service]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        child.stdin.write(json.dumps(encode(artefact)))
        child.stdin.close()
        assert child.stdout.readline() == "begun\n"
        place.wait("preparing")
        assert composing(place)
        child.kill()
    until(lambda: not composing(place))  # no compose command outlives its caller
    assert place.target.observe("a").state == "preparing", "the bootstrap runs in the engine"
    view = place.wait("stopped")
    assert view.key == artefact.key, "copied, and nobody there to start the server"
    place.target.ensure("a", artefact)
    assert place.wait("running").revision == view.revision


def test_stopping_what_is_only_being_prepared(place):
    place.network()
    place.target.ensure("a", slowed(place, place.artefact(), 60))
    until(lambda: "." in place.target.observe("a").revision, 60)  # both tasks are made, the first begins
    began = time.monotonic()
    place.target.stop("a", 1)
    assert time.monotonic() - began < 30
    place.wait("absent")
    time.sleep(1)
    assert place.target.observe("a").state == "absent"


def test_another_artefact_takes_the_place_of_one_that_is_being_prepared(place):
    place.network()
    place.target.ensure("a", slowed(place, place.artefact(), 30))
    second = place.artefact(weights=(10.0, 0.0))
    assert place.up(second).key == second.key


def test_a_log_is_followed_until_the_task_ends(place):
    place.network()
    place.target.ensure("a", place.artefact(env={"CRASH_AFTER": "3"}))
    place.wait("running")
    lines = list(place.target.logs("server", "a", 10, follow=True))
    assert lines == ["error: crashed, as asked"]
    assert list(place.target.logs("server", "b", 10, follow=True)) == []


class TestEngine:
    """The SDK and the compose command talk to the same engine, however it is named."""

    @pytest.fixture
    def relay(self, tmp_path):
        with Relay(tmp_path / "relay.sock") as relay:
            yield relay

    def test_by_a_host(self, place, relay, monkeypatch):
        monkeypatch.setenv("DOCKER_HOST", f"unix://{relay.path}")
        self.use(place, relay)

    def test_by_a_context(self, place, relay, monkeypatch, tmp_path):
        monkeypatch.delenv("DOCKER_HOST", raising=False)
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "config"))
        made = run("docker", "context", "create", "other", "--docker", f"host=unix://{relay.path}")
        assert made.returncode == 0, made.stderr
        assert run("docker", "context", "use", "other").returncode == 0
        self.use(place, relay)

    def use(self, place, relay):
        place.network()
        artefact, target = place.artefact(), place.another()
        target.observe("a")
        assert relay.agents == {"docker-sdk-python"}
        target.ensure("a", artefact)
        place.wait("running", target=target)
        assert relay.agents == {"docker-sdk-python", "compose"}

    def test_one_that_is_not_there(self, place, monkeypatch):
        monkeypatch.setenv("DOCKER_HOST", "unix:///run/nobody.sock")
        for call in (lambda t: t.observe("a"), lambda t: t.keeper(), lambda t: t.make_router("")):
            with pytest.raises(UnreachableError, match=r"unix:///run/nobody\.sock"):
                call(place.another())


class Relay:
    """A socket in front of the engine's that notes who asks, by the `User-Agent` of requests."""

    def __init__(self, path):
        self.path, self.agents = path, set()
        relay = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                with socket.socket(socket.AF_UNIX) as engine:
                    engine.connect("/var/run/docker.sock")
                    back = threading.Thread(target=pump, args=(engine, self.request), daemon=True)
                    back.start()
                    pump(self.request, engine, relay.note)
                    back.join()

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads, block_on_close = True, False
            request_queue_size = 128  # who finds the queue of a socket like this full is refused at once

        self.server = Server(str(path), Handler)

    def note(self, data):
        self.agents.update(
            found.decode() for found in re.findall(rb"(?i)user-agent: (docker-sdk-python|compose)", data)
        )

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def pump(source, sink, note=lambda _: None):
    with suppress(OSError):
        while data := source.recv(65536):
            note(data)
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


class TestSupply:
    """What a release brings into the engine, and what it refuses to begin with."""

    def test_a_carrier_of_the_store_is_loaded_once(self, place):
        artefact = place.artefact(loaded=False)
        assert place.engine.image_id(artefact.carrier) is None
        first, second = Silent(), Silent()
        supply = place.supply()
        supply.prepare(artefact, first)
        place.made.add(artefact.carrier)
        supply.prepare(artefact, second)
        assert first.told[-1][1] == first.told[-1][2] > 0
        assert second.told == [], "nothing is sent twice"
        assert place.engine.image_id(artefact.carrier) is not None

    def test_another_image_under_its_name_is_not_taken_for_it(self, place):
        artefact = place.artefact(loaded=False)
        run("docker", "tag", STAND_IN, artefact.carrier)
        place.made.add(artefact.carrier)
        told = Silent()
        place.supply().prepare(artefact, told)
        assert told.told
        assert place.engine.image_id(artefact.carrier) != place.engine.image_id(STAND_IN)

    def test_a_damaged_store_is_told_and_nothing_is_loaded(self, place):
        artefact = place.artefact(loaded=False)
        for blob in (place.store.path / "blobs" / "sha256").iterdir():
            data = blob.read_bytes()
            if b"weights" in data:
                blob.chmod(0o644)
                blob.write_bytes(data.replace(b"weights", b"weighty"))
        with pytest.raises(ContentMismatchError, match="is damaged"):
            place.supply().prepare(artefact, Silent())
        assert place.engine.image_id(artefact.carrier) is None

    def test_a_carrier_that_is_in_the_engine_alone_will_do(self, place):
        artefact = place.artefact()
        shutil.rmtree(place.store.path)
        place.supply().prepare(artefact, Silent())
        run("docker", "image", "rm", artefact.carrier)
        with pytest.raises(UnusableInputError, match="is neither in the store"):
            place.supply().prepare(artefact, Silent())

    def test_a_server_that_is_not_there(self, place):
        place.artefact()
        carrier = place.store.newest(place.service)
        with pytest.raises(UnusableInputError, match="`nothing:1` is not in the engine") as caught:
            place.supply().artefact(carrier, "nothing:1")
        assert caught.value.hint == "`docker pull nothing:1` gets it"
        gone = dataclasses.replace(place.supply().artefact(carrier, None), server_id=f"sha256:{'0' * 64}")
        with pytest.raises(UnusableInputError, match="is not in the engine any more"):
            place.supply().prepare(gone, Silent())

    def test_the_server_is_meant_by_its_id(self, place):
        artefact = place.artefact()
        assert artefact.server == TINY
        assert artefact.job["server"]["image"] == artefact.server_id == str(place.engine.image_id(TINY))
        assert artefact.proof.identity == f"/v2/models/{place.service}/versions/{artefact.proof.version}/ready"
        assert artefact.proof.endpoint == f"/v2/models/{place.service}/ready"


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
        place.target.stop("a", 1)
        assert place.target.observe("a").state == "absent", "the failure was of what is not wanted any more"

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
        assert view.cause.kind == "crash"
        assert 3 <= view.restarts < 6, "not before the third, and soon after it"
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
        assert view.cause.message == f"compose does not start it: network {place.service}-a not found"

    def test_a_server_that_loads_for_long_is_no_failure(self, place):
        place.network()
        place.target.ensure("a", place.artefact(env={"LOAD_SECONDS": "3600"}, ready={"deadline": "1s"}))
        place.wait("running")
        health = ("docker", "inspect", "-f", "{{.State.Health.Status}}", f"{place.service}-a-server-1")
        until(lambda: run(*health).stdout == "unhealthy\n", 60)
        assert place.target.observe("a").state == "running"

    def test_a_server_that_crashed_once_says_its_last_words(self, place):
        place.network()
        place.target.ensure("a", place.artefact(env={"CRASH_AFTER": "2", "SAYS": "it begins\n"}))
        view = until(lambda: (seen := place.target.observe("a")).ended and seen, 60)
        assert (view.state, view.cause) == ("running", None)
        assert view.ended.message == "the server ended with 70, and was started again"
        log = ("docker", "logs", f"{place.service}-a-server-1")
        until(lambda: run(*log).stderr.count("it begins") == 2, 60)
        assert place.target.observe("a").ended.lines[-1] == "error: crashed, as asked"


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
        assert f"`docker rm --force {name}` removes it" in caught.value.hint
        with pytest.raises(UnusableInputError, match="its labels do not say"):
            place.target.observe("a")
        assert run("docker", "inspect", name).stdout == before

    def test_what_a_stand_alone_file_of_an_environment_called_a_made(self, place):
        place.network()
        labels = Owner(service=place.service, environment="a").labels().items()
        name = f"{place.service}-a-server-1"
        run("docker", "create", *(f"--label={key}={value}" for key, value in labels), "--name", name, TINY)
        for call in (lambda: place.target.ensure("a", place.artefact()), lambda: place.target.observe("a")):
            with pytest.raises(UnusableInputError, match=f"container `{name}`"):
                call()
        with pytest.raises(UnusableInputError, match=f"container `{name}`"):
            list(place.target.logs("server", "a", 1, follow=False))

    def test_a_volume(self, place):
        place.network()
        artefact = place.artefact()
        run("docker", "volume", "create", "--label", "a=b", f"{place.service}-a-models")
        with pytest.raises(UnusableInputError, match=f"volume `{place.service}-a-models`"):
            place.target.ensure("a", artefact)
        place.target.remove(volumes=False)
        assert run("docker", "volume", "inspect", f"{place.service}-a-models").returncode == 0

    @pytest.mark.parametrize("slot", ["a", "b"])
    def test_a_network(self, place, slot):
        name = f"{place.service}-{slot}"
        labels = place.owner.labels("b" if slot == "a" else "a").items()
        made = run("docker", "network", "create", *(f"--label={key}={value}" for key, value in labels), name).stdout
        with pytest.raises(UnusableInputError, match=f"network `{name}`"):
            place.target.ensure(slot, place.artefact())
        with pytest.raises(UnusableInputError, match=f"network `{name}`"):
            place.target.make_router("")
        assert place.left() == [made[:12]]


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

    def test_two_who_make_it_at_once_meet_at_one(self, place):
        for _ in range(3):
            failures = []
            makers = [threading.Thread(target=self.make, args=(place.another(), failures)) for _ in range(2)]
            for maker in makers:
                maker.start()
            for maker in makers:
                maker.join()
            assert failures == []
            names = run("docker", "ps", "--format", "{{.Names}}", "--filter", f"name={place.service}").stdout
            assert names == f"{place.service}-router-router-1\n"
            place.target.remove(volumes=True)
            assert place.left() == []

    def make(self, target, failures):
        try:
            target.make_router("")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is one too many
            failures.append(error)

    def test_one_that_differs_is_made_anew_only_when_asked(self, place):
        place.target.make_router("")
        assert place.target.router_differs() is None
        moved = place.another(PORT + 1)
        moved.make_router("")
        assert moved.router_differs() == f"it listens on port {PORT}, not {PORT + 1}"
        moved.replace_router("")
        assert moved.router_differs() is None

    @pytest.mark.parametrize("slot", ["a", "b"])
    def test_a_slot_joins_its_network_under_its_name(self, place, slot):
        place.target.make_router("")
        place.up(place.artefact(), slot)
        name = f"{place.service}-{slot}"
        found = json.loads(run("docker", "inspect", f"{name}-server-1").stdout)[0]
        joined = found["NetworkSettings"]["Networks"]
        assert list(joined) == [name]
        assert name in joined[name]["Aliases"]
        assert not found["NetworkSettings"]["Ports"].get("8080/tcp"), "nothing of a slot is published"
        router = json.loads(run("docker", "inspect", f"{place.service}-router-router-1").stdout)[0]
        assert sorted(router["NetworkSettings"]["Networks"]) == [f"{place.service}-a", f"{place.service}-b"]

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
