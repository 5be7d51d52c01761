"""A Kubernetes job written by hand: its fault is seen, and two lines mend it, with our carrier on an emptyDir."""

import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mlops_deploy.render.layout import read_objects
from tests.fakes.kubelet import InitFailedError, Pod, RefusedError
from tests.integration.releasing import docker, until
from tests.integration.test_examples import Example, examples, training

__all__ = ["examples", "training"]  # fixtures

pytestmark = pytest.mark.docker

FOLDER = Path(__file__).parents[2] / "examples" / "kubernetes-by-hand"
IMAGES = "mlops-readme-kubernetes"
UNREADY = re.compile(r"`MODEL` names `digits`, which is not there")


@pytest.fixture
def example(examples: Path) -> Iterator[Example]:
    """The example, its images under names of the tests' own."""
    folder = examples / "kubernetes-by-hand"
    for path in folder.iterdir():
        path.write_text(path.read_text(encoding="utf-8").replace("kubernetes-by-hand/", f"{IMAGES}/"), encoding="utf-8")
    config = examples / "digits" / "mlops.yml"
    config.write_text(config.read_text(encoding="utf-8").replace("mlops-readme-", ""), encoding="utf-8")
    yield Example(folder)
    for image in docker("images", "--format", "{{.Repository}}:{{.Tag}}", f"{IMAGES}/*").split():
        docker("rmi", image)


@pytest.fixture
def pod(example: Example, tmp_path: Path) -> Iterator[Callable[..., Pod]]:
    """Pods of the example's files, with a text replaced."""
    with ExitStack() as stack:

        def make(name: str, old: str = "", new: str = "") -> Pod:
            text = (example.folder / name).read_text(encoding="utf-8")
            assert old in text
            job: Any = read_objects(text.replace(old, new))
            place = tmp_path / f"pod-{len(list(tmp_path.glob('pod-*')))}"
            place.mkdir()
            pod = Pod(f"{IMAGES}-{place.name}", job[0]["spec"]["template"]["spec"], place)
            return stack.enter_context(pod)

        yield make


def predicted(pod: Pod, folder: Path) -> tuple[object, str]:
    request = (folder.parent / "digits" / "request.json").read_bytes()
    url = f"http://{pod.address('ml-service')}:8080/v2/models/digits/infer"
    with urllib.request.urlopen(url, request, timeout=10) as reply:
        answer = json.load(reply)
    return answer["outputs"][0]["data"], answer["model_version"]


def test_the_fault_is_seen_and_mended(example: Example, pod: Callable[..., Pod]) -> None:
    build, render = example.blocks
    content = re.findall(r"content ([0-9a-f]{12})", example.run(build).stderr)[-1]
    assert f"io.mlops-deploy.content: {content}" in example.run(render).stdout
    see_the_fault(pod("faulty.yml"))
    for old, new in (("", ""), *VARIATIONS):
        mended = pod("mended.yml", old, new)
        [said] = mended.initialise()
        assert said.startswith(f"copied digits {content}")
        mended.begin("ml-service")
        assert not mended.ready(), "it takes a second to load"
        until(mended.ready, 60, "the pod is ready")
        assert predicted(mended, example.folder) == ([3], content)
    see_the_other_mistakes(pod)


COMMAND = "          command: [sh, -c, /deploy.sh]\n"
LOCKED = "          securityContext: {runAsUser: 65532, runAsNonRoot: true, readOnlyRootFilesystem: true}\n"
VARIATIONS = ((COMMAND, COMMAND + LOCKED),)
"""What people change in such a job, and may."""

MOUNT = "mountPath: /model\n      containers"
PROBE = """          readinessProbe:
            httpGet:
              path: /v2/models/digits/ready
              port: 8080
"""


def see_the_fault(pod: Pod) -> None:
    """Without a model the server ends; with one the pod is not ready, for the bootstrap has ended."""
    pod.begin("ml-service")
    assert pod.ended("ml-service") == 78
    assert UNREADY.search(pod.logs("ml-service"))
    for said in ("copied", "found", "found"):
        pod.begin("ml-bootstrap")
        assert pod.ended("ml-bootstrap") == 0
        assert pod.logs("ml-bootstrap").startswith(f"{said} digits ")
        if said == "copied":
            pod.begin("ml-service")
            until(lambda: pod.passes("ml-service", "readinessProbe"), 60, "the server has loaded its model")
        assert not pod.ready()


def see_the_other_mistakes(pod: Callable[..., Pod]) -> None:
    """A volume over the carrier's own folder; nobody who asks the server; a user that nobody names."""
    hidden = pod("mended.yml", MOUNT, MOUNT.replace("/model", "/models"))
    with pytest.raises(InitFailedError, match=r"exit 65: .*`/models` does not hold the files .*mount nothing"):
        hidden.start()
    unasked = pod("mended.yml", PROBE)
    unasked.start()
    assert unasked.ready(), "requests are sent to it"
    with pytest.raises(OSError, match=r"refused|reset"):
        predicted(unasked, FOLDER)
    with pytest.raises(RefusedError, match="`root`"):
        pod("mended.yml", COMMAND, COMMAND + LOCKED.replace("runAsUser: 65532, ", "")).start()
