"""A look at a server's labels: in its registry, over real sockets, else in an engine, and never for long."""

import time

import pytest

from mlops_deploy.api import glance as module
from mlops_deploy.api.glance import glance
from mlops_deploy.cli import wiring
from mlops_deploy.errors import UnreachableError
from tests.fakes.busybox_image import busybox_layer, plant_image, plant_index
from tests.fakes.carriers import elf
from tests.fakes.labels import LabelledEngine, provides
from tests.fakes.registry import FakeRegistry, Stalls, distribution

THERE = provides(numpy="2.4.6")
HERE = provides(numpy="1.26.4")
AWAY = LabelledEngine(away=True)


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    for name in ("XDG_CACHE_HOME", "HOME", "DOCKER_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setattr(module, "_REGISTRY", 20.0)
    monkeypatch.setattr(module, "_ENGINE", 20.0)


@pytest.fixture
def registry():
    with FakeRegistry(distribution()).running() as running:
        image = plant_image(running.content, "server", busybox_layer(elf()), labels=THERE)
        plant_index(running.content, "server", "1", image)
        yield running


def seen(text, engine=AWAY):
    found = glance(text, lambda: engine, wiring.registries)
    return found.labels if found else None


def test_a_registry_shows_it_where_no_engine_answers(registry):
    assert seen(f"{registry.host}/server:1") == THERE


def test_it_is_named_by_its_digest_where_a_registry_tells_it(registry):
    digest = registry.content.manifest("server", "1")[0]
    pinned = f"{registry.host}/server@{digest}"
    for text in (f"{registry.host}/server:1", pinned):
        assert glance(text, lambda: AWAY, wiring.registries).ref == pinned
    assert glance("server:1", lambda: LabelledEngine({"server:1": HERE}), wiring.registries).ref == "server:1"


def test_a_registry_knows_better_than_an_engine_what_its_tag_means(registry):
    name = f"{registry.host}/server:1"
    assert seen(name, LabelledEngine({name: HERE})) == THERE
    assert seen(f"{registry.host}/server:2", LabelledEngine({f"{registry.host}/server:2": HERE})) == HERE


def test_without_a_host_no_registry_is_asked():
    assert seen("server:1", LabelledEngine({"server:1": HERE})) == HERE
    assert seen("server:1") is None
    assert seen("localhost:1/server:1") is None


def test_an_engine_that_cannot_even_be_named_is_none():
    def engine():
        raise UnreachableError("ssh")

    assert glance("server:1", engine, wiring.registries) is None


def test_who_does_not_answer_soon_is_left_behind(registry, monkeypatch):
    monkeypatch.setattr(module, "_REGISTRY", 0.3)
    monkeypatch.setattr(module, "_ENGINE", 0.3)

    class Slow(LabelledEngine):
        def labels(self, ref):
            time.sleep(60)

    for step in ("manifest", "manifest-head"):
        registry.fault(step, Stalls(seconds=60), times=9)
    started = time.monotonic()
    assert seen(f"{registry.host}/server:1", Slow()) is None
    assert time.monotonic() - started < 30
