"""`make demo-nomad`: two versions change places on an agent of its own under load, and nothing is left of it."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration.test_demo import environment, first_prediction, released

DEMO = Path(__file__).parents[2] / "scripts" / "demo-nomad.sh"
FOLDER = re.compile(r"^\$ nomad agent -dev -config=(\S+)/agent\.hcl$", re.MULTILINE)


def left(output: str) -> list[str]:
    """What is still there of the agent that a demo started."""
    found = FOLDER.search(output)
    assert found, output
    folder = found[1]
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # one that has ended meanwhile
            commands.append(path.read_bytes())
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if folder in line]
    running = [command.decode() for command in commands if folder.encode() in command]
    listed = ["docker", "ps", "--all", "--quiet", "--no-trunc", "--filter", "label=com.hashicorp.nomad.alloc_id"]
    containers = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
    inspect = ["docker", "inspect", "--format", "{{.Name}} {{json .Mounts}}", *containers]
    named = (
        subprocess.run(inspect, capture_output=True, text=True, check=False).stdout.splitlines() if containers else []
    )
    files = [folder] if Path(folder).exists() else []
    return [*files, *mounts, *running, *(line for line in named if folder in line)]


@pytest.mark.docker
@pytest.mark.nomad
def test_no_request_fails_while_two_versions_change_places() -> None:
    elsewhere = {"NOMAD_ADDR": "http://127.0.0.1:9", "NOMAD_NAMESPACE": "nowhere", "NOMAD_TOKEN": "no-token"}
    done = subprocess.run(
        [DEMO], env=environment(**elsewhere), capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"digits@[0-9a-f]{12} answers: 3", done.stdout)
    assert first_prediction(done.stdout) > 0
    assert released(done.stdout) > 0
    assert left(done.stdout) == []


@pytest.mark.docker
@pytest.mark.nomad
@pytest.mark.parametrize("begun", ["$ mlops-deploy build-model", "$ mlops-deploy rollback"], ids=["early", "rollback"])
def test_an_interrupt_removes_what_was_started(begun: str) -> None:
    # Whoever runs the tests in the background may have had SIGINT ignored, which a shell script cannot undo by itself.
    with subprocess.Popen(
        ["env", "--default-signal=INT", str(DEMO)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as running:
        assert running.stdout is not None
        said = ""
        for line in running.stdout:
            said += line
            if line.startswith(begun):
                break
        time.sleep(0.5)
        os.killpg(running.pid, signal.SIGINT)
        rest = running.stdout.read()
    assert running.returncode == 130, rest
    assert "ending the agent" in rest
    assert left(said) == []


def test_without_the_program_it_says_so_and_starts_nothing(tmp_path: Path) -> None:
    for folder in os.environ["PATH"].split(os.pathsep):
        for program in Path(folder).glob("*"):
            if program.name != "nomad" and not (tmp_path / program.name).is_symlink():
                (tmp_path / program.name).symlink_to(program)
    path = f"{Path(sys.executable).parent}{os.pathsep}{tmp_path}"
    done = subprocess.run([DEMO], env=environment(PATH=path), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 8
    assert done.stdout == ""
    assert "there is no `nomad` on the PATH" in done.stderr
