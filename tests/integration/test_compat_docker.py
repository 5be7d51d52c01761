"""Which models fit which servers, with images in a real engine; only their labels count."""

import io
import json
import os
import subprocess
import sys
import tarfile
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

pytestmark = pytest.mark.docker

MODELS = Path(__file__).parents[1] / "fixtures" / "models"
SERVICE = f"compat{uuid4().hex[:8]}"
PROVIDES = {
    "python": "3.11.2",
    "formats": ["joblib", "pickle", "skops"],
    "packages": {"scikit-learn": "1.9.1", "numpy": "2.4.6"},
}


@contextmanager
def made(provides):
    """An image without content that says what it provides."""
    name = f"mlops-test-compat-{uuid4().hex[:8]}:1"
    empty = io.BytesIO()
    tarfile.open(fileobj=empty, mode="w").close()
    label = f"LABEL io.mlops-deploy.provides={json.dumps(json.dumps(provides))}"
    subprocess.run(
        ["docker", "import", "--change", label, "-", name], input=empty.getvalue(), check=True, capture_output=True
    )
    try:
        yield name
    finally:
        subprocess.run(["docker", "image", "rm", name], check=False, capture_output=True)


@pytest.fixture
def server():
    with made(PROVIDES) as name:
        yield name


@pytest.fixture
def project(tmp_path, busybox, server):
    for model in ("sklearn-1.5.2", "sklearn-1.9.1"):
        config = f"service: {SERVICE}\nmodel: {{path: {MODELS / model}.joblib, name: digits}}\npreset: kserve-sklearn\n"
        (tmp_path / f"{model}.yml").write_text(f"{config}server: {{image: {server}}}\n")
        done = run(tmp_path, "build-model", "-f", f"{model}.yml", "-t", f"digits:{model}")
        assert done.returncode == 0, done.stderr
    return tmp_path


def run(folder, *arguments):
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "-m", "mlops_deploy", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, timeout=120, check=False, capture_output=True, text=True
    )


def test_a_pair_that_does_not_fit(project, server):
    done = run(project, "compat", "digits:sklearn-1.5.2", server)
    assert done.returncode == 9, done.stderr
    assert "scikit-learn~=1.5.2  fail  the server has scikit-learn 1.9.1" in done.stdout
    assert "fix: use a server with scikit-learn~=1.5.2" in done.stdout


def test_a_pair_that_fits(project, server):
    done = run(project, "compat", "digits:sklearn-1.9.1", server, "--output", "json")
    assert done.returncode == 0, done.stderr
    (fit,) = json.loads(done.stdout)
    assert (fit["server"], fit["level"]) == (server, "ok")


def test_all_that_are_at_hand(project, server):
    done = run(project, "compat", "--output", "markdown")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "| model | server | fits | why |"
    assert any(f"| {server} | ok |" in line for line in lines)


def test_a_plan_and_a_release_are_refused_before_anything_starts(project):
    for command in (("plan",), ("release",)):
        done = run(
            project, *command, "-f", "sklearn-1.5.2.yml", "--model", "digits:sklearn-1.5.2", "--target", "docker"
        )
        assert done.returncode == 9, done.stderr
        assert "it needs `scikit-learn~=1.5.2`, the server has scikit-learn 1.9.1" in done.stderr
    running = ["docker", "ps", "-aq", "--filter", f"name={SERVICE}"]
    assert subprocess.run(running, check=True, capture_output=True, text=True).stdout == ""


def test_what_a_label_says_cannot_write_to_the_terminal(project):
    with made({"packages": {"scikit-learn": "1.9.1\x1b[2J\u202e", "numpy": "2"}}) as evil:
        for arguments in (("compat", "digits", evil), ("plan", "-f", "sklearn-1.5.2.yml", "--server", evil)):
            done = run(project, *arguments)
            assert "1.9.1" in done.stdout + done.stderr
            assert all(line.isprintable() for line in (done.stdout + done.stderr).split("\n"))


def test_a_job_is_rendered_for_what_the_engine_shows(project):
    done = run(project, "render", "-f", "sklearn-1.5.2.yml", "--model", "digits:sklearn-1.5.2", "-o", "out.yml")
    assert done.returncode == 9, done.stderr
    assert "it needs `scikit-learn~=1.5.2`, the server has scikit-learn 1.9.1" in done.stderr
    absent = ("--server", "mlops-nobody-has-this:1")
    done = run(
        project, "render", "-f", "sklearn-1.5.2.yml", "--model", "digits:sklearn-1.5.2", *absent, "-o", "out.yml"
    )
    assert done.returncode == 0, done.stderr
    assert "not checked: whether the server `mlops-nobody-has-this:1`, which nobody shows, has" in done.stderr
