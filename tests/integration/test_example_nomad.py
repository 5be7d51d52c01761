"""A Nomad job written by hand: its fault is seen, and one block mends it, with our carrier on a host volume."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.ports import free_port
from tests.integration.nomad_agent import Agent, agent
from tests.integration.releasing import docker, until
from tests.integration.test_examples import Example, answer, examples, training

__all__ = ["examples", "training"]  # fixtures

pytestmark = [pytest.mark.docker, pytest.mark.nomad]

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "nomad-by-hand"
IMAGES = "mlops-readme-by-hand"


@pytest.fixture(scope="module")
def own_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """An agent whose volume is a folder of root's."""
    with agent(tmp_path_factory.mktemp("agent")) as one:
        one.volume.chmod(0o755)
        yield one


@pytest.fixture
def example(examples: Path, own_agent: Agent, monkeypatch: pytest.MonkeyPatch) -> Iterator[Example]:
    """The example with a port and images of the tests' own."""
    folder, port = examples / "nomad-by-hand", free_port()
    for path in [*folder.glob("*.hcl"), folder / "README.md"]:
        text = path.read_text(encoding="utf-8").replace("nomad-by-hand/", f"{IMAGES}/")
        text = re.sub(r"localhost:\d+", f"localhost:{port}", text)
        path.write_text(text.replace("static = 8080", f"static = {port}"), encoding="utf-8")
    text = (examples / "digits" / "mlops.yml").read_text(encoding="utf-8")
    (examples / "digits" / "mlops.yml").write_text(text.replace("mlops-readme-", ""), encoding="utf-8")
    for name, value in own_agent.variables.items():
        monkeypatch.setenv(name, value)
    yield Example(folder)
    for image in docker("images", "--format", "{{.Repository}}:{{.Tag}}", f"{IMAGES}/*").split():
        docker("rmi", image)


def allocations(one: Agent) -> list[dict[str, Any]]:
    """What became of the job so far."""
    found: list[dict[str, Any]] = one.ask("GET", "/v1/job/digits/allocations")
    return found


def unhealthy(allocation: dict[str, Any]) -> bool:
    """Whether it has failed, and its deployment knows: the two may come one after the other."""
    said = allocation["DeploymentStatus"] or {}
    return allocation["ClientStatus"] == "failed" and said.get("Healthy") is False


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.hcl")), ids=lambda path: path.name)
def test_every_file_is_laid_out_as_nomad_does(path: Path) -> None:
    assert subprocess.run(["nomad", "fmt", "-check", path], check=False).returncode == 0


def test_the_agent_of_the_readme_can_be_configured_so(own_agent: Agent, tmp_path: Path) -> None:
    mode = tmp_path / "mode.hcl"
    mode.write_text('data_dir = "/tmp/none"\nclient {\n  enabled = true\n}\n')
    command = ["nomad", "config", "validate", str(FOLDER / "agent.hcl"), str(mode)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_fault_is_seen_and_mended(example: Example, own_agent: Agent) -> None:
    _, build, faulty, mended, rendered = example.blocks
    example.run(build)
    run, _, rest = faulty.partition("sleep 45\n")
    example.run(run)
    until(lambda: any(map(unhealthy, allocations(own_agent))), 90, "the job has failed")
    [failed] = filter(unhealthy, allocations(own_agent))
    bootstrap = failed["TaskStates"]["ml-bootstrap"]
    ends = [event["ExitCode"] for event in bootstrap["Events"] if event["Type"] == "Terminated"]
    assert (bootstrap["Restarts"], bootstrap["Failed"], ends) == (2, True, [0, 0, 0])
    deployment = own_agent.ask("GET", "/v1/job/digits/deployment")
    assert deployment["Status"] != "successful"
    assert deployment["TaskGroups"]["digits"]["HealthyAllocs"] == 0
    assert re.search(r"^digits +1 +1 +0 +1 ", example.run(rest).stdout, re.MULTILINE), "status shows the unhealthy one"
    ran = example.run(mended)
    assert "Deployment completed successfully" in ran.stdout
    digits, version = answer(next(line for line in ran.stdout.splitlines() if line.startswith('{"model_name"')))
    assert digits == [3]
    assert (own_agent.volume / "digits").readlink().name.startswith(version)
    ran = example.run(rendered)
    assert "Deployment completed successfully" in ran.stdout
    assert re.search(r"^digits +127\.0\.0\.1:\d+ ", ran.stdout, re.MULTILINE), "the service has an address"
