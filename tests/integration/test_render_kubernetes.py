"""What is rendered for Kubernetes, its containers run on Docker in a kubelet's order."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from mlops_deploy.render.layout import read_objects
from tests.fakes.kubelet import InitFailedError, Pod
from tests.integration.releasing import TINY, docker, until
from tests.integration.test_render_compose import NASTY, REQUEST

pytestmark = pytest.mark.docker

Json = dict[str, Any]
VARIABLES = NASTY | {"REFERENCES": "$(MODEL_ID) $$(PORT) $(NASTY $) $é"}
PRINT = ["python", "-c", "import json, os; print(json.dumps(dict(os.environ)))"]


class Project:
    """A folder with a model and its configuration; pods of its rendered file."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.stack, self.carrier, self.content = folder, stack, "", ""

    def render(self, *, expect: tuple[float, ...] = (5.5, 11.5), out: str = "job.yml", **more: Any) -> list[Json]:
        (self.folder / "model.json").write_text(json.dumps({"weights": [1.0, 2.0], "bias": 0.5}))
        golden = {"request": REQUEST, "expect": [{"name": "predict", "data": list(expect)}], "tolerance": 1e-9}
        (self.folder / "golden.jsonl").write_text(json.dumps(golden))
        configuration = {
            "service": "kubetest",
            "model": {"path": "model.json", "name": "plane"},
            "server": {"image": f"{TINY}:latest"},
            "resources": {"cpu": 0.5, "memory": "256Mi"},
            "env": VARIABLES,
            "ready": {"golden": "golden.jsonl", "deadline": "15s"},
            **more,
        }
        (self.folder / "mlops.json").write_text(json.dumps(configuration))
        built = json.loads(self.mlops_deploy("build-model", "--output", "json"))
        [self.carrier, *_], self.content = built["tags"], built["content_id"]
        self.mlops_deploy("render", "--target", "kubernetes", "-o", out)
        files = sorted((self.folder / out).iterdir()) if out.endswith("/") else [self.folder / out]
        return [one for file in files for one in read_objects(file.read_text())]  # type: ignore[union-attr,misc]

    def mlops_deploy(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "mlops_deploy", *arguments, "-f", "mlops.json"]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def pod(self, deployment: Json) -> Pod:
        name = f"kubetest-{uuid4().hex[:6]}"
        place = self.folder / name
        place.mkdir()
        return self.stack.enter_context(Pod(name, deployment["spec"]["template"]["spec"], place))


@pytest.fixture(scope="module")
def project(tiny_image: None, busybox: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    one = Project(tmp_path_factory.mktemp("project"), ExitStack())
    yield one
    docker("image", "rm", one.carrier, check=False)


@pytest.fixture
def render(project: Project) -> Iterator[Callable[..., list[Json]]]:
    with project.stack:
        yield project.render


def predicted(pod: Pod) -> tuple[list[float], str]:
    """What a client gets, through the port that the Service leads to."""
    url = f"http://{pod.address('server')}:8080/v2/models/plane/infer"
    with urllib.request.urlopen(url, json.dumps(REQUEST).encode(), timeout=10) as reply:
        answer = json.load(reply)
    return answer["outputs"][0]["data"], answer["model_version"]


def check_serving(project: Project, pod: Pod) -> None:
    """The server proves itself, predicts, and has got every variable as it was meant."""
    assert pod.started("server"), pod.logs("server")
    assert pod.ready()
    assert pod.passes("server", "livenessProbe")
    assert predicted(pod) == ([5.5, 11.5], project.content[:12])
    found = json.loads(pod.exec("server", PRINT).stdout)
    assert {name: found[name] for name in VARIABLES} == VARIABLES


@pytest.mark.parametrize("user", [None, "1000:1000"])
def test_the_carrier_copies_then_the_server_proves_itself_and_predicts(project, render, user):
    deployment, service = render(**({"user": user} if user else {}))
    pod = project.pod(deployment)
    [said] = pod.initialise()
    assert said.startswith("copied plane ")
    pod.begin("server")
    check_serving(project, pod)
    [port] = service["spec"]["ports"]
    assert (port["targetPort"], pod.containers[0]["ports"]) == ("http", [{"name": "http", "containerPort": 8080}])
    assert pod.exec("server", ["id", "-u"]).stdout.strip() == (user or "65532").partition(":")[0]


def test_when_the_pod_is_made_anew_on_its_node_the_model_is_found(project, render):
    deployment, _ = render()
    pod = project.pod(deployment)
    assert pod.initialise()[0].startswith("copied plane ")
    assert pod.initialise()[0].startswith("found plane "), "init containers run again when their sandbox has gone"


def test_both_containers_are_locked_down(project, render):
    deployment, _ = render()
    pod = project.pod(deployment)
    pod.start()
    refused = {"/model/x": "Read-only", "/x": "Read-only", "/app/x": "Read-only"}
    for path, why in refused.items():
        assert why in pod.exec("server", ["touch", path]).stderr
    assert pod.exec("server", ["mktemp"]).returncode == 0
    for name in ("bootstrap", "server"):
        [found] = json.loads(docker("inspect", f"{pod.name}-{name}"))
        assert found["Config"]["User"] == "65532:65532"
        assert (found["HostConfig"]["ReadonlyRootfs"], found["HostConfig"]["CapDrop"]) == (True, ["ALL"])


def test_a_mounted_carrier_is_read_without_a_copy(project, render):
    deployment, _ = render(kubernetes={"volume": {"kind": "image"}})
    pod = project.pod(deployment)
    assert pod.initialise() == []
    pod.begin("server")
    check_serving(project, pod)
    assert pod.exec("server", ["ls", f"/model/v/{project.content}"]).stdout == "model.json\n"
    assert "Read-only" in pod.exec("server", ["touch", f"/model/v/{project.content}/x"]).stderr


@pytest.mark.parametrize("slot", [0, 1])
def test_either_slot_runs(project, render, slot):
    pod = project.pod(render(out="files/")[slot])
    pod.start()
    check_serving(project, pod)


def test_with_another_carrier_the_server_never_starts(project, render):
    deployment, _ = render()
    text = json.dumps(deployment).replace(project.content, "0" * 64)
    pod = project.pod(json.loads(text))
    with pytest.raises(InitFailedError, match=r"bootstrap exit 65: .*the job asks for 0000"):
        pod.start()


def test_a_wrong_prediction_is_not_ready(project, render):
    deployment, _ = render(expect=(5.5, 11.6), ready={"golden": "golden.jsonl", "deadline": "3s"})
    pod = project.pod(deployment)
    pod.start()
    assert not pod.started("server")
    assert pod.running("server")
    command = pod.containers[0]["readinessProbe"]["exec"]["command"]
    wrong = "not ready (golden): request 1"
    until(lambda: pod.exec("server", command).stdout.startswith(wrong), 60, "the check says why")
