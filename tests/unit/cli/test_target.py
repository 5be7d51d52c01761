"""Which target is meant when nobody says one: what a variable names, and an engine that it names must answer."""

import gc
from types import SimpleNamespace

import pytest

from mlops_deploy.cli import wiring
from mlops_deploy.cli.target import choose_target
from mlops_deploy.errors import UnreachableError, UnusableInputError

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

SPEC = SimpleNamespace(target=None)


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No engine is named."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "NOMAD_ADDR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    yield monkeypatch
    gc.collect()  # the SDK leaves some sockets to it


@pytest.mark.parametrize(
    ("name", "value"),
    [("DOCKER_HOST", "unix:///run/nobody.sock"), ("DOCKER_CONTEXT", "nope"), ("DOCKER_HOST", "ssh://x")],
)
def test_an_engine_that_was_named_must_answer(nowhere, name, value):
    nowhere.setenv(name, value)
    with pytest.raises(UnreachableError, match=value) as caught:
        choose_target(SPEC, None)
    assert caught.value.exit_code == 8
    assert "`--target process`" in caught.value.hint
    assert choose_target(SPEC, "process") == "process"


def test_without_one_a_service_runs_as_processes(nowhere):
    nowhere.setattr(wiring, "engine", lambda: SimpleNamespace(trouble=lambda: "no Docker Engine answers"))
    assert choose_target(SPEC, None) == "process"


def test_a_cluster_that_was_named_goes_before_an_engine_and_after_the_configuration(nowhere):
    nowhere.setenv("NOMAD_ADDR", "http://127.0.0.1:4646")
    nowhere.setenv("DOCKER_HOST", "unix:///run/nobody.sock")
    assert choose_target(SPEC, None) == "nomad"
    assert choose_target(SimpleNamespace(target="docker"), None) == "docker"
    assert choose_target(SimpleNamespace(target="docker"), "nomad") == "nomad"
    nowhere.setenv("NOMAD_ADDR", "")
    nowhere.delenv("DOCKER_HOST")
    nowhere.setattr(wiring, "engine", lambda: SimpleNamespace(trouble=lambda: None))
    assert choose_target(SPEC, None) == "docker"


def test_a_target_that_cannot_be_released_to_is_refused_with_those_that_can(nowhere):
    with pytest.raises(UnusableInputError, match="`kubernetes` cannot be released to yet") as caught:
        choose_target(SPEC, "kubernetes")
    assert caught.value.hint == "known: `--target docker`, `--target nomad`, `--target process`; `render` writes files"
