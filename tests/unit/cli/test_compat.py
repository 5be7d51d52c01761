"""`compat`, and what `render` refuses, as a user runs them where no engine answers."""

import shutil
from pathlib import Path

import pytest

from tests.fakes.carriers import elf
from tests.fakes.command import run

MODELS = Path(__file__).parents[2] / "fixtures" / "models"


@pytest.fixture
def project(tmp_path):
    shutil.copy(MODELS / "ir10-opset21.onnx", tmp_path / "model.onnx")
    (tmp_path / "sh").write_bytes(elf())
    (tmp_path / "mlops.yml").write_text("service: digits\nmodel: {path: model.onnx}\npreset: kserve-sklearn\n")
    done = run("build-model", "--shell", "sh", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path


def test_inspect_shows_what_the_files_say(project):
    shown = run("inspect", "digits", cwd=project).stdout
    assert "formats:\n  onnx\nrequires:\n  onnx-ir>=10\n  onnx-opset>=21\n" in shown


def test_a_job_is_not_rendered_for_a_server_that_cannot_read_the_model(project):
    done = run("render", "-o", "out.yml", cwd=project)
    assert done.returncode == 9
    assert "it needs `format onnx`, the server reads joblib, pickle, skops" in done.stderr
    assert "use a server that reads onnx; `compat: warn` in mlops.yml lets it through" in done.stderr
    assert not (project / "out.yml").exists()


def test_unless_that_is_wanted(project):
    with (project / "mlops.yml").open("a") as file:
        file.write("compat: warn\n")
    done = run("render", "-o", "out.yml", cwd=project)
    assert done.returncode == 0, done.stderr
    assert "does not fit" in done.stderr
    assert (project / "out.yml").exists()


def test_a_release_is_refused_on_processes_too(project):
    done = run("plan", "--target", "process", cwd=project)
    assert done.returncode == 9, done.stderr
    assert "the server reads joblib, pickle, skops" in done.stderr


def test_without_an_engine_there_is_nothing_to_compare_with(project):
    done = run("compat", cwd=project)
    assert done.returncode == 0
    assert "there is no server image" in done.stderr
    assert run("compat", "--output", "json", cwd=project).stdout == "[]\n"
    named = run("compat", "digits", "server:1", cwd=project)
    assert named.returncode == 8
    assert "Traceback" not in named.stderr


def test_an_unknown_carrier_is_a_mistake(project):
    done = run("compat", "nothing", "server:1", cwd=project)
    assert done.returncode == 2
    assert "no carrier `nothing`" in done.stderr
