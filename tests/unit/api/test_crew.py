import threading
import time

import pytest

from mlops_deploy.api import crew as crew_module
from mlops_deploy.api.crew import Crew, Pace


class Worker:
    """Does what it is told, and takes down what happens to it."""

    def __init__(self, work=lambda job: None):
        self.work, self.jobs, self.closed, self.broken = self._taken(work), [], 0, []

    def _taken(self, work):
        def take(job):
            self.jobs.append(job)
            work(job)

        return take

    def close(self):
        self.closed += 1

    def break_off(self, failure):
        self.broken.append(failure)


def test_every_job_is_done_once_and_all_workers_are_closed():
    workers = [Worker(lambda job: time.sleep(0.001)) for _ in range(4)]
    Crew(workers, range(40), Pace(4)).run()
    assert sorted(job for worker in workers for job in worker.jobs) == list(range(40))
    assert [worker.closed for worker in workers] == [1] * 4
    assert not any(worker.broken for worker in workers)


def test_they_work_side_by_side():
    together = threading.Barrier(4, timeout=60)
    Crew([Worker(lambda job: together.wait()) for _ in range(4)], range(8), Pace(4)).run()


def test_no_more_of_them_work_than_the_pace_allows():
    busy, most, lock = 0, 0, threading.Lock()

    def work(job):
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        time.sleep(0.002)
        with lock:
            busy -= 1

    pace = Pace(4)
    pace.allowed = 1
    pace.look = lambda: None
    Crew([Worker(work) for _ in range(4)], range(20), pace).run()
    assert most == 1


def test_the_first_failure_is_raised_and_ends_all_others():
    released = threading.Event()

    class Waiting(Worker):
        def break_off(self, failure):
            super().break_off(failure)
            released.set()

    def wait(job):
        if job == 3:
            raise ValueError("of job 3")
        assert released.wait(60)

    workers = [Waiting(wait) for _ in range(4)]
    with pytest.raises(ValueError, match="of job 3"):
        Crew(workers, range(100), Pace(4)).run()
    assert all(len(worker.jobs) == 1 and not worker.closed for worker in workers)


def test_one_that_hangs_is_left_behind(monkeypatch):
    monkeypatch.setattr(crew_module, "_PATIENCE", 0.05)
    released = threading.Event()

    def work(job):
        if job:
            raise KeyboardInterrupt
        released.wait(60)

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        Crew([Worker(work), Worker(work)], range(2), Pace(2)).run()
    assert time.monotonic() - started < 20
    released.set()


class TestPace:
    def test_it_halves_when_patience_is_asked_for_and_grows_by_one_when_it_is_not(self):
        asked = iter([0, 1, 1, 1, 3, 4, 4])
        pace, seen = Pace(4, lambda: next(asked)), []
        for _ in range(6):
            pace.look()
            seen.append(pace.allowed)
        assert seen == [2, 3, 4, 2, 1, 2]

    def test_it_is_never_nobody_and_never_more_than_at_first(self):
        asked = iter(range(100))
        pace = Pace(3, lambda: next(asked))
        for _ in range(5):
            pace.look()
        assert pace.allowed == 1
        calm = Pace(3)
        calm.look()
        assert calm.allowed == 3
