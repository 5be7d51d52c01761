"""The rendered file, read and run by the real Docker Compose."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from mlops_deploy.render.compose import render_compose
from mlops_deploy.render.slots import router_text, slot_job, slot_text
from mlops_deploy.spec.deploy import DeploySpec, ModelSpec, Ready, ReleaseSpec, Resources, ServerSpec
from mlops_deploy.spec.owner import Owner
from mlops_deploy.spec.preset import Ports, Preset, Readiness
from mlops_deploy.spec.refs import ContentId, Digest
from mlops_deploy.spec.rendered import CarrierRef, JobImage
from tests.integration.releasing import until

pytestmark = pytest.mark.docker

NASTY = {
    "SHELL": "${x} ${x:-y} $x $$ $$$ $",
    "HCL": '%{ if true } ${var.a} "; }',
    "JINJA": "{{ env }} {% raw %} {# no #}",
    "BACKQUOTES": "`id` 'a' \"b\" \\ \\n",
    "LINES": "one\ntwo\r\nthree\ttabbed\n\n",
    "COMMENT": "a # b",
    "MAP": "a: b",
    "ANCHORS": "&a *a !!python/object:os.system <<: *b",
    "TAG": "!!binary aGk=",
    "FLOW": "[1, {2: 3}], ",
    "DOCUMENT": "---\n...\n%YAML 1.1",
    "BLANKS": "  leading and trailing  ",
    "EMPTY": "",
    "WORDS": "no",
    "NUMBER": "0o17",
    "DATE": "2001-01-01",
    "SIXTY": "12:30:45",
    "LONG": "x$" * 32_768,
    "EMOJI": "\U0001f600 \u00e4\u6f22",
    "SEPARATORS": "a\u2028b\u2029c\u0085d\ufeffe\u00a0f",
    "CONTROL": "\x01\x07\x1b[31m\x7f",
    "NONCHARACTERS": "\ufffe\uffff\U0001fffe",
}

ROOT = Path(__file__).parents[2]
TINY = JobImage(ref="mlops-tiny-v2:latest", local=True)
PRESET = Preset(
    name="kserve-sklearn",
    doc="",
    command=("python", "-m", "mlops_server"),
    ports=Ports(http=8080),
    ready=Readiness(path="/v2/models/{name}/ready", command=("python", "-m", "mlops_server.ready")),
)
REQUEST = {"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP64", "data": [1.0, 2.0, 3.0, 4.0]}]}
GOLDEN = {"request": REQUEST, "expect": [{"name": "predict", "data": [5.5, 11.5]}], "tolerance": 1e-9}
PORT = 18123


def test_compose_reads_the_very_values(tmp_path):
    found = understood(service(NASTY), tmp_path)["services"]["server"]["environment"]
    # What `config` prints is a Compose file again, so its dollars are doubled as ours are.
    assert {name: found[name].replace("$$", "$") for name in NASTY} == NASTY


def test_compose_reads_limits_and_times_as_meant(tmp_path):
    server = understood(service(), tmp_path)["services"]["server"]
    assert server["deploy"]["resources"]["limits"] == {"cpus": 0.5, "memory": "100000001", "pids": 4096}
    assert server["stop_grace_period"] == "2.5s"
    assert server["healthcheck"]["start_period"] == "15s"
    assert server["ports"] == [
        {"mode": "ingress", "host_ip": "127.0.0.1", "target": 8080, "published": "18123", "protocol": "tcp"}
    ]


def test_compose_reads_the_very_values_of_a_slot_and_of_the_router(tmp_path):
    owner, carrier = Owner(service="rendertest", environment="it"), a_carrier()
    job = slot_job(service(NASTY), carrier, TINY, PRESET)
    slot = read_by_compose(slot_text(owner, "b", job, content="1" * 64, key="2" * 64), tmp_path)
    found = slot["services"]["server"]["environment"]
    assert {name: found[name].replace("$$", "$") for name in NASTY} == NASTY
    assert (slot["name"], slot["volumes"]["models"]["name"]) == ("rendertest-it-b", "rendertest-it-b-models")
    assert slot["networks"] == {"default": {"name": "rendertest-it-b", "ipam": {}, "external": True}}
    assert slot["services"]["server"]["networks"] == {"default": {"aliases": ["rendertest-it-b"]}}
    nasty = "\n".join(NASTY.values())
    project = read_by_compose(router_text(owner, PORT, TINY, nasty), tmp_path)
    router = project["services"]["router"]
    assert router["networks"] == {"a": None, "b": None}
    assert [project["networks"][slot]["name"] for slot in "ab"] == ["rendertest-it-a", "rendertest-it-b"]
    assert router["environment"]["ROUTER_CONFIG"].replace("$$", "$") == nasty
    assert router["ports"][0]["published"] == str(PORT)


class TestRunning:
    """A tiny server of the real one's shape, with the real carrier, readiness check and command line."""

    def test_a_prediction_comes_back_and_everything_goes_with_down(self, project):
        project.deploy(weights=[1.0, 2.0])
        assert project.predicted() == [5.5, 11.5]
        assert project.environment().items() >= NASTY.items()
        assert project.up().returncode == 0, "a second start finds the model and leaves the server alone"
        assert project.logs("bootstrap").count("copied") == 1
        assert "found" in project.logs("bootstrap")
        project.down()
        assert project.left() == []

    def test_both_containers_are_locked_down(self, project):
        project.deploy(weights=[1.0, 2.0])
        for name in ("bootstrap", "server"):
            found = project.inspect(name)
            host = found["HostConfig"]
            assert found["Config"]["User"] == "65532:65532"
            assert (host["ReadonlyRootfs"], host["CapDrop"], host["Privileged"]) == (True, ["ALL"], False)
            assert host["SecurityOpt"] == ["no-new-privileges:true"]
            assert host["PidsLimit"] > 0
            assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}
        assert project.inspect("bootstrap")["HostConfig"]["NetworkMode"] == "none"
        assert project.inspect("server")["NetworkSettings"]["Ports"]["8080/tcp"] == [
            {"HostIp": "127.0.0.1", "HostPort": str(PORT)}
        ]
        written = project.compose("exec", "server", "touch", "/model/x")
        assert "Read-only file system" in written.stderr

    def test_another_model_takes_the_place_of_the_first(self, project):
        first = project.deploy(weights=[1.0, 2.0])
        second = project.deploy(weights=[10.0, 0.0], golden=[10.5, 30.5])
        assert first != second
        assert project.predicted() == [10.5, 30.5]
        assert project.answer()["model_version"] == second[:12]

    def test_the_wait_ends_when_a_slow_model_answers_also_for_another_user(self, project):
        project.more = {"user": "1000:1000", "env": {"LOAD_SECONDS": "3"}}
        project.deploy(weights=[1.0, 2.0])
        assert project.predicted() == [5.5, 11.5]
        assert project.compose("exec", "server", "id", "-u").stdout == "1000\n"

    def test_with_the_wrong_model_the_server_never_starts(self, project):
        content = project.render(weights=[1.0, 2.0])
        project.file.write_text(project.file.read_text().replace(content, "0" * 64))
        assert project.up().returncode != 0
        assert project.inspect("bootstrap")["State"]["ExitCode"] == 65
        assert project.inspect("server")["State"]["Status"] == "created"

    def test_a_wrong_prediction_is_not_ready(self, project):
        project.render(weights=[1.0, 2.0], golden=[5.5, 11.6], deadline="4s")
        assert "is unhealthy" in project.up().stderr
        until(lambda: "not ready (golden): request 1" in project.last_check(), 60, "the check says why")

    def test_a_model_that_cannot_be_loaded_ends_the_wait(self, project):
        project.render(weights="broken")
        assert project.up(timeout=60).returncode != 0
        assert "the model cannot be loaded" in project.logs("server")


@pytest.fixture(scope="module", name="tiny")
def build_tiny() -> str:
    base = run(ROOT / "images" / "base" / "build.sh")
    if base.returncode and "docker" not in os.environ.get("MLOPS_DEPLOY_REQUIRE", ""):
        pytest.skip(f"no base image: {base.stderr}")
    built = run("docker", "build", "--tag", TINY.ref, "--file", ROOT / "tests/fakes/tiny_v2/Dockerfile", ROOT)
    assert built.returncode == 0, built.stderr
    return TINY.ref


@pytest.fixture
def project(tiny, tmp_path):
    project = Project(tmp_path, tiny)
    yield project
    project.down()
    project.remove_carriers()


class Project:
    """A folder with a model and its configuration, and what Compose makes of its rendered file."""

    def __init__(self, folder, server):
        self.folder, self.server, self.file = folder, server, folder / "compose.yml"
        self.carriers = set()
        self.more = {}

    def deploy(self, **model):
        content = self.render(**model)
        started = self.up()
        assert started.returncode == 0, started.stderr + self.logs("bootstrap") + self.logs("server")
        return content

    def render(self, weights, golden=(5.5, 11.5), deadline="15s"):
        model = {"weights": weights, "bias": 0.5}
        (self.folder / "model.json").write_text("{" if weights == "broken" else json.dumps(model))
        expect = [{"name": "predict", "data": list(golden)}]
        (self.folder / "golden.jsonl").write_text(json.dumps({**GOLDEN, "expect": expect}))
        (self.folder / "mlops.json").write_text(json.dumps(self.configuration(deadline)))
        built = json.loads(self.mlops_deploy("build-model", "--output", "json").stdout)
        self.carriers.update(built["tags"])
        self.mlops_deploy("render", "-o", self.file)
        return built["content_id"]

    def configuration(self, deadline):
        return {
            "service": "rendertest",
            "model": {"path": "model.json", "name": "plane"},
            "server": {"image": self.server},
            "port": PORT,
            "env": NASTY,
            "ready": {"golden": "golden.jsonl", "deadline": deadline},
            **self.more,
        }

    def mlops_deploy(self, *arguments):
        done = run(sys.executable, "-m", "mlops_deploy", *arguments, "-f", "mlops.json", cwd=self.folder)
        assert done.returncode == 0, done.stderr
        return done

    def compose(self, *arguments, **more):
        return run("docker", "compose", "--file", self.file, *arguments, **more)

    def up(self, **more):
        return self.compose("up", "--wait", **more)

    def down(self):
        if self.file.exists():
            self.compose("down", "--volumes", "--timeout", "5")

    def remove_carriers(self):
        run("docker", "image", "rm", *self.carriers)

    def logs(self, service):
        return self.compose("logs", "--no-log-prefix", service).stdout

    def inspect(self, service):
        return json.loads(run("docker", "inspect", f"rendertest-{service}-1").stdout)[0]

    def last_check(self):
        return self.inspect("server")["State"]["Health"]["Log"][-1]["Output"]

    def environment(self):
        return dict(entry.split("=", 1) for entry in self.inspect("server")["Config"]["Env"])

    def left(self):
        label = "label=com.docker.compose.project=rendertest"
        kinds = (["ps", "--all", "--quiet"], ["volume", "ls", "--quiet"], ["network", "ls", "--quiet"])
        return [line for kind in kinds for line in run("docker", *kind, "--filter", label).stdout.split()]

    def answer(self):
        url = f"http://127.0.0.1:{PORT}/v2/models/plane/infer"
        request = urllib.request.Request(url, json.dumps(REQUEST).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return json.load(answer)

    def predicted(self):
        return self.answer()["outputs"][0]["data"]


def run(*command, timeout=120, **more):
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout, **more)


def service(env=None) -> DeploySpec:
    return DeploySpec(
        root=Path("/nowhere"),
        service="rendertest",
        environment="it",
        model=ModelSpec(path=Path("/nowhere/model"), name="plane"),
        preset="kserve-sklearn",
        server=ServerSpec(),
        target=None,
        port=PORT,
        env=env or {},
        resources=Resources(cpu=0.5, memory=100_000_001),
        user=None,
        ready=Ready(deadline=20.0),
        release=ReleaseSpec(drain=2.5),
    )


def understood(spec, folder):
    return read_by_compose(render_compose(spec, a_carrier(), TINY, PRESET).text, folder)


def a_carrier() -> CarrierRef:
    return CarrierRef(name="plane", digest=Digest("2" * 64), content_id=ContentId("1" * 64))


def read_by_compose(text, folder):
    file = folder / "compose.yml"
    file.write_text(text)
    read = run("docker", "compose", "--file", file, "config", "--format", "json")
    assert read.returncode == 0, read.stderr
    return json.loads(read.stdout)
