"""Ctrl-C once and twice, SIGTERM and SIGKILL in the phases of a release: recorded, the lease free, traffic stays."""

import signal
import time

import pytest

from tests.integration.releasing import until

pytestmark = pytest.mark.haproxy

PROMPT = 2.0
BUSY = 3.0
"""What other work on the machine may add to that; a test that measures two seconds exactly measures the machine."""

BAKE = 10


@pytest.fixture(scope="module")
def slow(local_services):
    """A service whose candidate is watched, and version 2 built."""
    service = local_services()
    service.build_all(1, 2)
    service.release(1)
    service.use(2)
    service.configure(release={"bake": f"{BAKE}s", "drain": "2s"})
    return service


def begun(service, kind):
    """Whether the last journal's last word is that a step of this kind was begun."""
    written = service.entries()
    if not written:  # the file is made before its first line
        return False
    steps = written[0]["plan"]["steps"]
    last = written[-1]
    return last["kind"] == "began" and not last["undo"] and steps[last["index"]]["step"]["kind"] == kind


def start(service, phase):
    """A release that is in `phase` now, and what is live; what it awaits is never ready."""
    never = {"LOADS_UNTIL": str(service.folder / "never")}
    service.configure(env=never if phase == "awaitready" else None)
    live = service.status()["live"]["version"]
    release = service.start("release", "--model", f"{service.name}:2")
    journals = len(list((service.keeper / "journals").glob("[0-9]*")))
    until(lambda: len(list((service.keeper / "journals").glob("[0-9]*"))) > journals, 60, "a journal")
    until(lambda: begun(service, phase), 60, phase)
    return release, live


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("phase", ["awaitready", "bake"])
def test_one_signal_is_recorded_and_names_both_next_commands(slow, phase, number):
    release, live = start(slow, phase)
    load = slow.load(50, 15)
    serves = slow.serves()
    sent = time.monotonic()
    release.send_signal(number)
    _, said = release.communicate(timeout=60)
    took = time.monotonic() - sent
    assert release.returncode == 130
    assert took < PROMPT + BUSY
    assert f"interrupted by {number.name}" in said
    assert "`mlops-deploy resume` goes on, `mlops-deploy abort` turns back" in said
    assert slow.entries()[-1]["kind"] == "interrupted"
    status = slow.status()
    assert status["lease"] is None
    assert status["release"]["course"] == "orphaned"
    assert slow.serves() == serves
    assert slow.json("abort")["result"] == "aborted"
    assert slow.status()["live"]["version"] == live
    assert load.end()["failed"] == 0


def test_a_second_signal_ends_the_command_at_once(slow):
    release, live = start(slow, "awaitready")
    release.send_signal(signal.SIGSTOP)  # so that both are there before it has dealt with the first
    release.send_signal(signal.SIGINT)
    release.send_signal(signal.SIGTERM)
    sent = time.monotonic()
    release.send_signal(signal.SIGCONT)
    _, said = release.communicate(timeout=60)
    assert time.monotonic() - sent < PROMPT + BUSY
    assert release.returncode == 130
    assert "ended at once" in said
    assert "`mlops-deploy resume`" in said
    assert slow.entries()[-1]["kind"] == "began"
    assert slow.status()["lease"] is not None
    slow.expire_lease()
    assert slow.json("abort")["result"] == "aborted"
    assert slow.status()["live"]["version"] == live


@pytest.mark.parametrize("phase", ["awaitready", "bake"])
def test_sigkill_leaves_traffic_and_the_lease_until_it_expires(slow, phase):
    release, live = start(slow, phase)
    load = slow.load(50, 15)
    serves = slow.serves()
    release.kill()
    release.communicate(timeout=60)
    assert slow.serves() == serves
    assert slow.status()["release"]["course"] == "running"
    slow.expire_lease()
    assert slow.status()["release"]["course"] == "orphaned"
    assert slow.json("abort")["result"] == "aborted"
    assert slow.status()["live"]["version"] == live
    assert load.end()["failed"] == 0


def test_an_interrupted_bake_is_resumed_where_it_was_and_promotes(slow):
    release, live = start(slow, "bake")
    release.send_signal(signal.SIGINT)
    release.communicate(timeout=60)
    over = slow.entries()[-2]["at"] + BAKE
    resumed = slow.json("resume")
    assert resumed["result"] == "released"
    assert resumed["live"] != live
    assert over <= time.time() < over + BAKE
    assert [entry["kind"] for entry in slow.entries()].count("taken") == 1
