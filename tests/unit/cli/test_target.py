"""Which target is meant when nobody says one: `docker` where an engine answers, and one that was named must."""

import gc
from types import SimpleNamespace

import pytest

from mlops_deploy.cli import wiring
from mlops_deploy.cli.target import choose_target
from mlops_deploy.errors import UnreachableError

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

SPEC = SimpleNamespace(target=None)


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No engine is named."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT"):
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
