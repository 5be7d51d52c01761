"""The commands of the READMEs, run as they stand there, with names and a port that are the tests' own."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.ports import free_port
from tests.integration.registry_server import registry_server

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[2]
TRAINING = ROOT / ".demo" / "venv"
"""Where scikit-learn is: the environment of the demo, so that it is made once."""

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PREFIX = "mlops-readme"
PROJECTS = ("digits-a", "digits-b", "digits-router")


class Example:
    """A copy of the examples in which one README's commands are run, block by block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blocks = BLOCK.findall((folder / "README.md").read_text(encoding="utf-8"))

    def run(self, commands: str, *, code: int = 0) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join((str(TRAINING / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]))
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=self.folder,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == code, f"{commands}\n{done.stdout}\n{done.stderr}"
        return done


def renamed(text: str, port: int) -> str:
    """The same text without names and the port that somebody who tries the example may be using."""
    text = re.sub(r"(localhost:|127\.0\.0\.1:|^port: )8080", rf"\g<1>{port}", text, flags=re.MULTILINE)
    text = re.sub(r"^(service|name): ", rf"\g<1>: {PREFIX}-", text, flags=re.MULTILINE)
    return text.replace("multi-model/", f"{PREFIX}/")


@pytest.fixture(scope="session")
def training() -> Path:
    """An environment to train in."""
    if not (TRAINING / "bin" / "pip").exists():
        subprocess.run([ROOT / "scripts" / "venv.sh", TRAINING], check=True)
    return TRAINING


@pytest.fixture
def examples(tmp_path: Path, training: Path, server_base: None) -> Iterator[Path]:
    shutil.copy(ROOT / "README.md", tmp_path)
    copy = tmp_path / "examples"
    made = shutil.ignore_patterns(".mlops", "mlops.lock", "model.joblib", "__pycache__")
    shutil.copytree(ROOT / "examples", copy, ignore=made)
    (copy / "digits" / "compose.yml").unlink(missing_ok=True)
    port = free_port()
    for path in [*tmp_path.glob("**/*.md"), *copy.glob("**/*.yml")]:
        path.write_text(renamed(path.read_text(encoding="utf-8"), port), encoding="utf-8")
    yield copy
    for project in (*PROJECTS, "multi-model"):
        command = ["docker", "compose", "-p", f"{PREFIX}-{project}", "down", "--volumes", "--timeout", "1"]
        subprocess.run(command, capture_output=True, check=False)


def answer(text: str) -> tuple[object, str]:
    """The first output and the model version of the last line that a block printed."""
    parsed = json.loads(text.strip().splitlines()[-1])
    return parsed["outputs"][0]["data"], parsed["model_version"]


def left(*projects: str) -> list[str]:
    """What the engine still has of these projects."""
    found = []
    for project in projects:
        label = f"label=com.docker.compose.project={PREFIX}-{project}"
        for kind in ("container", "volume", "network"):
            command = ["docker", kind, "ls", *(["--all"] if kind == "container" else []), "--quiet", "--filter", label]
            found += subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return found


def test_digits_from_training_to_a_rollback(examples: Path) -> None:
    example = Example(examples / "digits")
    train, build, release, predict, second, stop = example.blocks
    golden = (example.folder / "golden.jsonl").read_bytes()
    example.run(train)
    assert (example.folder / "golden.jsonl").read_bytes() == golden
    built = example.run(build)
    example.run(release)
    digits, version = answer(example.run(predict).stdout)
    assert digits == [3]
    assert f"content {version}" in built.stderr
    changed = example.run(second)
    names = re.findall(r"^digits@([0-9a-f]{12}) r-", changed.stdout, re.MULTILINE)
    assert len(names) == 2
    assert names[1] == version != names[0]
    assert re.search(rf"live 100 % +digits@{version}", changed.stdout)
    assert re.search(rf"parked hot +digits@{names[0]}", changed.stdout)
    assert answer(example.run(predict).stdout) == ([3], version)
    example.run(stop)
    assert left(*PROJECTS) == []


def test_the_tour_of_the_readme(examples: Path) -> None:
    [tour] = [block for block in Example(examples.parent).blocks if "mlops-deploy rollback" in block]
    done = Example(examples.parent).run(tour)
    [prediction] = [line for line in done.stdout.splitlines() if line.startswith('{"model_name"')]
    digits, version = answer(prediction)
    assert digits == [3]
    first, second, again = re.findall(r"^digits@([0-9a-f]{12}) r-", done.stdout, re.MULTILINE)
    assert first == again == version != second
    assert re.search(rf"verifies: 1 file, content {second}", done.stdout)
    assert left(*PROJECTS) == []


@pytest.mark.registry
def test_what_the_readme_does_with_a_registry(examples: Path, tmp_path: Path) -> None:
    [told] = [block for block in Example(examples.parent).blocks if "registry.example.com" in block]
    training = Example(examples / "digits").blocks[0]
    with registry_server(tmp_path / "registry") as registry:
        commands = told.replace("registry.example.com", registry.host)
        done = Example(examples.parent).run(f"(cd examples/digits\n{training})\n{commands}")
        assert registry.tags("live/digits") == {"1.2.0"}
    pushed, copied = re.findall(r"@(sha256:[0-9a-f]{64})$", done.stdout, re.MULTILINE)
    assert pushed == copied
    assert re.search(r"^copied \S+ [0-9a-f]{12}: ", done.stdout, re.MULTILINE)
    assert list((examples / "digits" / "models" / "v").glob("*/model.joblib"))


def test_training_again_gives_the_same_carrier(examples: Path) -> None:
    example = Example(examples / "digits")
    commands = f"{example.blocks[0]}\nmlops-deploy build-model --store store"
    assert example.run(commands).stdout.splitlines()[-1] == example.run(commands).stdout.splitlines()[-1]


def test_a_model_that_is_not_the_golden_one_never_becomes_ready(examples: Path) -> None:
    example = Example(examples / "digits")
    train, build, release, _, _, stop = example.blocks
    example.run(train)
    lines = json.loads((example.folder / "golden.jsonl").read_text(encoding="utf-8"))
    lines["expect"][0]["data"].reverse()
    (example.folder / "golden.jsonl").write_text(json.dumps(lines) + "\n", encoding="utf-8")
    with (example.folder / "mlops.yml").open("a", encoding="utf-8") as config:
        config.write("  deadline: 90s\n")  # far more than what a wrong answer takes to be told
    example.run(build)
    failed = example.run(release, code=4)
    assert "not ready (golden): golden request 1: `outputs[0].data[0]` is 0, expected 9" in failed.stderr
    example.run(stop)


def test_one_server_image_serves_either_of_two_models(examples: Path) -> None:
    example = Example(examples / "multi-model")
    build, first, second, stop = example.blocks
    example.run(build)
    digits, of_digits = answer(example.run(first).stdout)
    switched = example.run(second)
    wine, of_wine = answer(switched.stdout)
    assert (digits, wine) == ([3], [2])
    assert of_digits != of_wine
    assert "found" in switched.stdout
    example.run("MODEL=cheese docker compose up --wait", code=1)
    said = example.run("docker compose logs server").stdout
    assert "`MODEL` names `cheese`, which is not there" in said
    assert f"digits@{of_digits}" in said
    assert f"wine@{of_wine}" in said
    example.run(stop)
    assert left("multi-model") == []


@pytest.mark.parametrize("folder", ["digits", "multi-model/digits", "multi-model/wine"])
def test_every_command_works_without_an_argument(examples: Path, folder: str) -> None:
    readme = Example(examples / folder.partition("/")[0])
    readme.run(readme.blocks[0].partition("(cd")[0])
    for command in ("check", "build-model", "build-server", "render"):
        done = readme.run(f"cd {examples / folder}; mlops-deploy {command}")
    assert f"name: {PREFIX}-" in done.stdout
