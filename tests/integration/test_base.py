"""The base image that `images/base/build.sh` makes where no registry can be reached."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "images" / "base" / "build.sh"
ENGINE = ROOT / "scripts" / "engine.sh"
TAG = "mlops-base:bookworm"

CHECK = """
import ctypes, lzma, sqlite3, ssl, sys, venv, ensurepip
assert sys.version_info[:2] == (3, 11), sys.version
assert ssl.create_default_context().get_ca_certs(), "no certificate authorities"
print("python works")
"""


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, env=env)


def in_base(*command: str) -> subprocess.CompletedProcess[str]:
    return run("docker", "run", "--rm", "--network=none", "--read-only", "--user=65532:65532", TAG, *command)


@pytest.fixture(scope="module")
def base() -> str:
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        pytest.skip("making the base image needs root and debootstrap")
    built = run(BUILD)
    assert built.returncode == 0, built.stderr
    return built.stdout.strip()


@pytest.mark.docker
def test_prints_the_tag_of_an_image_that_is_there(base: str) -> None:
    assert base == TAG
    assert run("docker", "image", "inspect", base).returncode == 0


@pytest.mark.docker
def test_a_second_run_makes_nothing(base: str) -> None:
    before = run("docker", "image", "inspect", "--format", "{{.Id}}", base).stdout
    start = time.monotonic()
    again = run(BUILD)
    assert time.monotonic() - start < 10
    assert (again.returncode, again.stdout, again.stderr) == (0, f"{TAG}\n", "")
    assert run("docker", "image", "inspect", "--format", "{{.Id}}", base).stdout == before


@pytest.mark.docker
@pytest.mark.usefixtures("base")
def test_python_and_its_libraries_work_for_an_unprivileged_user() -> None:
    checked = in_base("python3", "-c", CHECK)
    assert (checked.returncode, checked.stdout) == (0, "python works\n"), checked.stderr


@pytest.mark.docker
@pytest.mark.usefixtures("base")
def test_python_starts_from_compiled_files_that_match_their_sources() -> None:
    checked = in_base("python3", "-v", "-c", "import json, asyncio")
    assert "matches /usr/lib/python3.11/json/__init__.py" in checked.stderr
    assert "is stale" not in checked.stderr


@pytest.mark.docker
@pytest.mark.usefixtures("base")
def test_no_trace_of_the_building_machine_is_left() -> None:
    listed = in_base("sh", "-c", "cat /etc/apt/sources.list; ls /etc/apt/apt.conf.d /run /var/lib/apt/lists /var/log")
    uris = {line.split()[1] for line in listed.stdout.splitlines() if line.startswith("deb ")}
    public = re.search(r'^DEF_MIRROR="(.*)"$', Path(shutil.which("debootstrap")).read_text(), re.MULTILINE)[1]
    assert uris == {public, f"{public}-security"}
    assert "machine" not in listed.stdout
    assert "Packages" not in listed.stdout


@pytest.mark.parametrize("script", [BUILD, ENGINE], ids=["base", "engine"])
def test_an_unknown_option_is_wrong_usage(script: Path) -> None:
    refused = run(script, "--nonsense")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "usage:" in refused.stderr


@pytest.mark.parametrize("script", [BUILD, ENGINE], ids=["base", "engine"])
def test_an_engine_that_does_not_answer_is_named_and_nothing_is_changed(script: Path) -> None:
    refused = run(script, DOCKER_HOST="tcp://127.0.0.1:9")
    assert (refused.returncode, refused.stdout) == (8, "")
    assert "no engine answers" in refused.stderr


@pytest.mark.docker
def test_an_engine_that_answers_is_left_alone() -> None:
    answered = run(ENGINE)
    assert answered.returncode == 0, answered.stderr
    assert answered.stdout.startswith("Docker Engine ")
    assert answered.stderr == ""
