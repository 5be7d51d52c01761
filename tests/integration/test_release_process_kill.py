"""kill -9 at every change of a release, with real processes: traffic as committed, `resume` and `abort` end clean.

The killed commands die right after their k-th change, for every k: see tests/fakes/dying.py. No test waits for a lease
to expire, except the one that is about that.
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

pytestmark = pytest.mark.haproxy

KILLED = -9
RATE = 50
AT_ONCE = 3


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


def bluegreen(service, ending):
    """Every point of a blue/green release, under load."""
    course = Course(service, ending)
    load = service.load(RATE, RATE * 0.3)
    points = next(point for point in count() if not course.release(point, "bluegreen"))
    return course, points, load.end()


def recreate(service, ending):
    """Every point of a release with one server at a time, whose clients are refused meanwhile."""
    course = Course(service, ending)
    return course, next(point for point in count() if not course.release(point, "recreate")), None


def rollback(service, ending):
    """Every point of a way back to a parked slot, under load."""
    course = Course(service, ending)
    load = service.load(RATE, RATE * 0.3)
    points = next(point for point in count() if not course.kill(point, "rollback"))
    return course, points, load.end()


def turning_back(service, ending):
    """`abort` itself dies at each of its changes; the next one finishes what it began."""
    course = Course(service, ending)
    service.use(3)
    load = service.load(RATE, RATE * 0.3)
    for point in count(1):
        before = service.status()
        service.kill_at("CommitRoute", "release", "--model", f"{service.name}:3")
        service.expire_lease()
        killed = service.kill_at(point, "abort")
        if killed.returncode != KILLED:
            return course, point, load.end()
        course.traffic_is_as_committed(before)
        service.expire_lease()
        if service.status()["release"] is not None:
            assert service.json("abort")["result"] == "aborted"
            course.ended["abort"] += 1
        course.is_clean(before, released=False)
    raise AssertionError("endless")


def dead_holder(service, ending):
    """Nobody has ended anything: the lease is waited for. How old it was when it was taken, in seconds."""
    course = Course(service, ending)
    service.use(3)
    killed = service.kill_at(8, "release", "--model", f"{service.name}:3")
    assert killed.returncode == KILLED
    heard = json.loads((service.keeper / "keys" / "lease.json").read_bytes())["wall"]
    refused = service.run(ending, code=3)
    assert "is running (last heard" in refused.stderr
    while (again := service.start(ending)).wait(120) == 3:
        time.sleep(1)
    assert again.returncode == 0
    [taken] = [entry["at"] for entry in service.entries() if entry["kind"] == "taken"]
    return course, taken - heard, None


RUNS = [
    (run, ending)
    for run, endings in (
        (dead_holder, ("resume",)),
        (recreate, ("resume", "abort")),
        (bluegreen, ("resume", "abort")),
        (rollback, ("resume", "abort")),
        (turning_back, ("abort",)),
    )
    for ending in endings
]


@pytest.fixture(scope="module")
def futures(local_services):
    """All of them, a few at a time, beside the one that only waits."""
    with ThreadPoolExecutor(1) as waiting, ThreadPoolExecutor(AT_ONCE) as working:
        yield {
            (run, ending): (waiting if run is dead_holder else working).submit(run, local_services(), ending)
            for run, ending in RUNS
        }


@pytest.fixture
def ended(request, futures):
    """What came of the run that a test names: the course, a number, and the load."""
    course, number, load = futures[request.param].result()
    if load is not None:
        assert load["failed"] == 0, load
        assert load["rate"] > RATE * 0.5, "there was traffic all the time"
    return course, number


def runs(*kinds):
    """The runs of these kinds, as a test's parameters."""
    chosen = [one for one in RUNS if one[0] in kinds]
    return pytest.mark.parametrize("ended", chosen, indirect=True, ids=[f"{run.__name__}-{end}" for run, end in chosen])


@runs(bluegreen, recreate, rollback)
def test_whatever_point_it_is_killed_at_a_release_can_be_ended_both_ways(ended):
    course, points = ended
    assert points >= 12
    assert course.ended[course.ending] >= 6
    assert course.ended["nothing"] >= 3


@runs(turning_back)
def test_a_way_back_that_is_killed_is_finished_by_the_next(ended):
    course, points = ended
    assert points >= 8
    assert course.ended["abort"] >= 5


@runs(dead_holder)
def test_a_dead_holder_blocks_for_a_minute_and_not_longer(ended):
    course, seconds = ended
    assert 50 < seconds < 75
    assert course.service.serves() == course.versions[3]
