"""kill -9 at every change of a release, with real processes: traffic as committed, `resume` and `abort` end clean.

The killed commands die right after their k-th change, for every k: see tests/fakes/dying.py. No test waits for a lease
to expire, except the one that is about that.
"""

import json
import time
from itertools import count

import pytest

pytestmark = pytest.mark.haproxy

KILLED = -9
RATE = 100


class Course:
    """One service whose releases are killed at one point after the other, and then ended by `resume` or `abort`."""

    def __init__(self, service, ending):
        self.service, self.ending = service, ending
        self.versions = service.build_all(1, 2, 3)
        service.release(1)
        service.release(2)
        self.ended = {"resume": 0, "abort": 0, "nothing": 0}

    def kill(self, point, *arguments):
        """Kill a command at `point`, see that traffic is as committed, end its release; False when it was too quick."""
        before = self.service.status()
        killed = self.service.kill_at(point, *arguments)
        if killed.returncode != KILLED:
            assert killed.returncode == 0, killed.stderr
            return False
        self.traffic_is_as_committed(before)
        self.service.expire_lease()
        released = self.end(before)
        self.is_clean(before, released=released)
        return True

    def release(self, point, strategy):
        """Kill a release of a version that is in no slot."""
        return self.kill(point, *self.service.release_fresh(self.versions), "--strategy", strategy)

    def named(self, version):
        return f"{self.service.name}@{version}"

    def traffic_is_as_committed(self, before):
        """Clients get what the route on disk says, whoever is dead."""
        route = json.loads((self.service.keeper / "route.json").read_bytes())
        live = "b" if route["share_b"] else "a"
        now = self.service.status()
        if route["closed"]:
            assert self.service.serves() == 503
            return
        assert route["share_b"] in {0, 10_000}
        if live == before["live"]["slot"]:
            assert now["slots"][live]["version"] == before["live"]["version"]
        assert self.named(self.service.serves()) == now["slots"][live]["version"]

    def end(self, before):
        """End what was begun, from another process; whether it went forward."""
        status = self.service.status()
        if status["release"] is None:
            refused = self.service.run(self.ending, code=2)
            assert "no release is open" in refused.stderr
            self.ended["nothing"] += 1
            return status["live"]["version"] != before["live"]["version"]
        assert status["release"]["course"] == "orphaned"
        if self.ended[self.ending] == 3:  # once: each time would take too long
            refused = self.service.run("release", "--model", f"{self.service.name}:1", code=3)
            assert "has not ended, and nobody runs it" in refused.stderr
        if self.ending == "abort" and len(status["next"]) == 1:
            refused = self.service.run("abort", code=2)
            assert "it can only be finished" in refused.stderr
            self.service.run("resume")
            self.ended["resume"] += 1
            return True
        report = self.service.json(self.ending)
        assert report["result"] == {"resume": "released", "abort": "aborted"}[self.ending]
        self.ended[self.ending] += 1
        return self.ending == "resume"

    def is_clean(self, before, *, released):
        """Nothing is open or held; the one or the other version is live; what was turned back is not there any more."""
        after = self.service.status()
        assert (after["release"], after["freeze"]) == (None, None)
        assert after["lease"] is None or self.ended["nothing"]
        assert self.named(self.service.serves()) == after["live"]["version"]
        assert (after["live"]["version"] != before["live"]["version"]) == released
        if not released:
            assert after["live"]["slot"] == before["live"]["slot"]


@pytest.mark.parametrize("ending", ["resume", "abort"])
def test_a_bluegreen_release_under_load(make_local, ending):
    course = Course(make_local(), ending)
    load = course.service.load(RATE, RATE * 0.3)
    points = next(point for point in count() if not course.release(point, "bluegreen"))
    counted = load.end()
    assert counted["failed"] == 0, counted
    assert counted["rate"] > RATE * 0.9
    assert points > 20
    assert course.ended[ending] > 10


@pytest.mark.parametrize("ending", ["resume", "abort"])
def test_a_recreate_release(make_local, ending):
    course = Course(make_local(), ending)
    points = next(point for point in count() if not course.release(point, "recreate"))
    assert points > 25
    assert course.ended[ending] > 15


@pytest.mark.parametrize("ending", ["resume", "abort"])
def test_a_rollback_under_load(make_local, ending):
    course = Course(make_local(), ending)
    load = course.service.load(RATE, RATE * 0.3)
    points = next(point for point in count() if not course.kill(point, "rollback"))
    counted = load.end()
    assert counted["failed"] == 0, counted
    assert points > 8


def test_a_release_that_turns_back_is_killed_on_its_way(make_local):
    """`abort` itself dies at each of its changes; the next one finishes what it began."""
    course = Course(make_local(), "abort")
    service = course.service
    service.use(3)
    load = service.load(RATE, RATE * 0.3)
    for point in count(1):
        before = service.status()
        service.kill_at(15, "release", "--model", f"{service.name}:3")
        assert service.status()["release"]["course"] == "orphaned"
        service.expire_lease()
        killed = service.kill_at(point, "abort")
        if killed.returncode != KILLED:
            break
        course.traffic_is_as_committed(before)
        service.expire_lease()
        if service.status()["release"] is not None:
            assert service.json("abort")["result"] == "aborted"
        course.is_clean(before, released=False)
    counted = load.end()
    assert counted["failed"] == 0, counted
    assert point > 10


def test_a_dead_holder_blocks_for_a_minute_and_not_longer(make_local):
    course = Course(make_local(), "abort")
    service = course.service
    service.use(3)
    killed = service.kill_at(8, "release", "--model", f"{service.name}:3")
    assert killed.returncode == KILLED
    began = time.monotonic()
    refused = service.run("resume", code=3)
    assert "is running (last heard" in refused.stderr
    while (again := service.start("resume")).wait(60) == 3:
        time.sleep(1)
    assert again.returncode == 0
    assert 50 < time.monotonic() - began < 70
    assert service.serves() == course.versions[3]
