"""Workers that take jobs, numbers, from one queue, each on a thread of its own; the first failure ends all of them."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from threading import Condition, Thread
from time import monotonic
from typing import Final, Protocol

_PATIENCE: Final = 0.5
"""Seconds that all workers together get to come back from what was broken off; one that hangs is left behind."""


class Worker(Protocol):
    """Does one job after the other."""

    def work(self, job: int) -> None:
        """Do a job."""
        ...

    def close(self) -> None:
        """Complete what was begun, when there are no more jobs."""
        ...

    def break_off(self, failure: BaseException) -> None:
        """Make what goes on raise `failure`; called from another thread."""
        ...


class Pace:
    """How many work at the same time: half as many when `held_back` has grown meanwhile, one more when it has not."""

    def __init__(self, most: int, held_back: Callable[[], int] = lambda: 0) -> None:
        self._most = most
        self._held_back = held_back
        self._seen = held_back()
        self.allowed = most

    def look(self) -> None:
        """Take a look after each job."""
        seen = self._held_back()
        self.allowed = max(1, self.allowed // 2) if seen > self._seen else min(self._most, self.allowed + 1)
        self._seen = seen


class Crew:
    """One run of `jobs` by `workers`, as many of them at a time as `pace` allows."""

    def __init__(self, workers: Sequence[Worker], jobs: Iterable[int], pace: Pace) -> None:
        self._workers = workers
        self._jobs = deque(jobs)
        self._pace = pace
        self._changed = Condition()
        self._busy = 0
        self._left = len(workers)
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Do all jobs; raise what the first that failed has raised, or what interrupts the wait for them."""
        threads = [Thread(target=self._run, args=(worker,), daemon=True) for worker in self._workers]
        try:
            for thread in threads:
                thread.start()
            with self._changed:
                self._changed.wait_for(lambda: self._failure or not self._left)
        except BaseException as interrupt:
            self._fail(interrupt)
            raise
        finally:
            until = monotonic() + _PATIENCE
            for thread in threads:
                thread.join(max(0.0, until - monotonic()) if self._failure else None)
        if self._failure:
            raise self._failure

    def _run(self, worker: Worker) -> None:
        try:
            while (job := self._next()) is not None:
                worker.work(job)
                self._done()
            if self._failure is None:
                worker.close()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that runs the crew
            self._fail(error)
        with self._changed:
            self._left -= 1
            self._changed.notify_all()

    def _next(self) -> int | None:
        with self._changed:
            self._changed.wait_for(lambda: self._failure or not self._jobs or self._busy < self._pace.allowed)
            if self._failure or not self._jobs:
                return None
            self._busy += 1
            return self._jobs.popleft()

    def _done(self) -> None:
        with self._changed:
            self._busy -= 1
            self._pace.look()
            self._changed.notify_all()

    def _fail(self, failure: BaseException) -> None:
        with self._changed:
            self._failure = self._failure or failure
            self._changed.notify_all()
        for worker in self._workers:
            worker.break_off(self._failure)
