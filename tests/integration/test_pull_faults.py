"""`pull` from registries that break, stall and lie: a clear end in bounded time, and never a half model."""

import pytest

from tests.fakes.pullable import Pullable, pullable
from tests.fakes.registry import (
    Answers,
    Bomb,
    Corrupts,
    CutsAnswer,
    Drips,
    Endless,
    FakeRegistry,
    WrongSize,
    cloud,
    distribution,
)
from tests.integration.test_pull import FILES, MIB, claims, plant, pull

TOTAL = sum(map(len, FILES.values()))
BEFORE = 2
"""Blobs that are read before the layers of the model: the config, and the layer that says what the model is."""


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Pullable:
    return pullable(tmp_path_factory.mktemp("large"), FILES)


@pytest.fixture
def volume(large, tmp_path) -> Pullable:
    return Pullable(path=tmp_path / "volume", carrier=large.carrier, store=large.store)


@pytest.fixture(params=["distribution", "cloud"])
def registry(request, large):
    personality = distribution() if request.param == "distribution" else cloud(anonymous_pull=True)
    with FakeRegistry(personality).running() as running:
        plant(running, large)
        yield running


def trouble(registry, fault, times=1):
    registry.fault("cdn" if registry.personality.cdn else "blob", fault, times=times, skip=BEFORE)


@pytest.mark.parametrize(
    "fault",
    [
        CutsAnswer(after=5 * MIB),
        CutsAnswer(after=5 * MIB + 7, reset=True),
        CutsAnswer(after=0, reset=True),
        Answers(status=500),
        Answers(status=503, headers={"Retry-After": "0"}),
        Drips(size=4 * MIB, seconds=0.01),
    ],
    ids=lambda fault: f"{type(fault).__name__}-{getattr(fault, 'after', getattr(fault, 'status', ''))}",
)
def test_what_breaks_now_and_then_is_taken_up_where_it_broke(volume, registry, fault):
    trouble(registry, fault, times=3)
    done = pull(volume, "--output", "json", ref=f"{registry.host}/models/digits:1")
    assert done["bytes_pulled"] == TOTAL
    assert registry.downloaded() < TOTAL + 16 * MIB
    assert volume.is_whole()
    assert volume.is_clean()


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Corrupts(at=5 * MIB), 12),
        (WrongSize(more=1), 12),
        (WrongSize(more=100 * MIB), 12),
        (Endless(promised=None), 12),
        (Endless(promised=2**50), 12),
        (Bomb(size=64 * MIB), 12),
        (Answers(status=404), 12),
        (Answers(status=403), 2),
    ],
    ids=lambda value: type(value).__name__ + str(getattr(value, "status", "")),
)
def test_who_lies_is_refused_and_leaves_nothing_to_see(volume, registry, fault, code):
    trouble(registry, fault, times=100)
    said = pull(volume, ref=f"{registry.host}/models/digits:1", code=code)
    assert "error: " in said
    assert volume.is_never_half()
    assert not volume.home.exists()
    if code == 12:
        assert not claims(volume)
    registry.heal()
    assert pull(volume, ref=f"{registry.host}/models/digits:1").startswith("copied ")
    assert volume.is_whole()
    assert volume.is_clean()
