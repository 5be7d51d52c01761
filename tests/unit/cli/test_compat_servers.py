"""`compat` with the server images of an engine: what is told of them, and how it ends."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlops_deploy.cli import wiring
from mlops_deploy.cli.compat import compat
from mlops_deploy.errors import UnusableInputError
from tests.fakes.busybox_image import busybox_layer, plant_image, plant_index
from tests.fakes.carriers import elf
from tests.fakes.command import run
from tests.fakes.labels import LabelledEngine, provides
from tests.fakes.registry import FakeRegistry, distribution

MODELS = Path(__file__).parents[2] / "fixtures" / "models"
OLD = provides(("joblib",), scikit_learn="1.5.2", numpy="1.26.4")
NEW = provides(("joblib",), scikit_learn="1.9.1", numpy="2.4.6")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    shutil.copy(MODELS / "sklearn-1.5.2.joblib", folder / "digits.joblib")
    (folder / "sh").write_bytes(elf())
    done = run("build-model", "digits.joblib", "--shell", "sh", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def ended(built, monkeypatch):
    """Runs the command where an engine has some images: how it ends."""
    monkeypatch.chdir(built)

    def ended(images, *arguments):
        monkeypatch.setattr(wiring, "engine", lambda: LabelledEngine(images))
        return CliRunner().invoke(compat, arguments, standalone_mode=False)

    return ended


def test_a_carrier_that_fits_no_server_is_a_refusal(ended):
    assert ended({"new:1": NEW}, "digits").return_value == 9
    assert ended({"new:1": NEW, "new:2": NEW}, "digits", "--output", "json").return_value == 9
    assert ended({"new:1": NEW}, "digits", "new:1").return_value == 9


def test_one_server_that_it_fits_will_do(ended):
    assert ended({"old:1": OLD, "new:1": NEW}, "digits").return_value == 0
    assert ended({}, "digits").return_value == 0


def test_a_table_of_all_is_no_refusal(ended):
    done = ended({"new:1": NEW})
    assert "fail" in done.stdout
    assert done.return_value == 0


def test_of_an_image_without_the_label_it_is_told_that_it_has_none(ended):
    done = ended({"plain:1": {"maintainer": "somebody"}}, "digits", "plain:1")
    assert done.return_value == 0
    assert "`plain:1` itself does not say what it provides: it has no label `io.mlops-deploy.provides`" in done.stderr
    assert "plain" not in ended({"new:1": NEW}, "digits", "new:1").stderr


def test_a_carrier_is_no_server(ended):
    labels = {"io.mlops-deploy.name": "other", "io.mlops-deploy.content": "sha256:" + "1" * 64}
    done = ended({"other:1": labels}, "digits", "other:1")
    assert isinstance(done.exception, UnusableInputError)
    assert done.exception.message == "`other:1` is a carrier of a model, and no server"


def test_a_job_names_the_server_by_the_digest_that_its_registry_tells(built, monkeypatch, tmp_path):
    for name in ("XDG_CACHE_HOME", "HOME", "DOCKER_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path))
    (built / "mlops.yml").write_text("service: s\nmodel: {path: digits.joblib, name: digits}\npreset: kserve-sklearn\n")
    with FakeRegistry(distribution()).running() as registry:
        for tag, labels in (("old", OLD), ("new", NEW)):
            image = plant_image(registry.content, "server", busybox_layer(elf()), labels=labels)
            plant_index(registry.content, "server", tag, image)
        done = run("render", "--server", f"{registry.host}/server:old", cwd=built)
        digest = registry.content.manifest("server", "old")[0]
        assert f"{registry.host}/server@{digest}" in done.stdout, done.stderr
        assert f"{registry.host}/server:old" not in done.stdout
        assert "tells no digest" not in done.stderr
        absent = run("render", "--server", f"{registry.host}/server:none", cwd=built)
        assert f"{registry.host}/server:none" in absent.stdout
        assert "its registry tells no digest" in absent.stderr
        refused = run("render", "--server", f"{registry.host}/server:new", cwd=built)
        assert (refused.returncode, refused.stdout) == (9, "")
