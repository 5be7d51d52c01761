"""`python -m tests.simulation --runs 100000 --seed 0`: the long run, on all cores, with the seed that repeats it."""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

from tests.simulation import chance, enumeration
from tests.simulation.sim import told
from tests.simulation.story import Story
from tests.simulation.world import ViolationError

CHUNK = 250
KEPT = 60


@dataclass(frozen=True, slots=True)
class Result:
    """What a share of the work came to: how many runs and events, and the first failure."""

    runs: int
    events: int
    failure: str | None = None


def seeds(first: int, count: int) -> Result:
    """The runs of `count` seeds."""
    events = 0
    for number in range(first, first + count):
        story = chance.prepared(number)
        try:
            chance.played(story)
        except Exception as error:  # noqa: BLE001 - any error is a find
            return Result(number - first + 1, events, _failure(f"seed {number}", error, story))
        events += len(story.sim.trace)
    return Result(count, events)


def boundaries(name: str) -> Result:
    """Every crash point of a start state."""
    runs = events = 0
    for point in enumeration.points(name):
        for verb in enumeration.AFTERWARDS:
            runs += 1
            try:
                story = enumeration.tell(point, verb)
            except Exception as error:  # noqa: BLE001 - any error is a find
                return Result(runs, events, _failure(f"{point} {verb}", error, None))
            events += len(story.sim.trace)
    return Result(runs, events)


def pairs(name: str) -> Result:
    """Every crash at a write, and after it every crash at a write of whoever comes next."""
    runs = events = 0
    for run in enumeration.pairs(name):
        runs += 1
        try:
            story = run()
        except Exception as error:  # noqa: BLE001 - any error is a find
            return Result(runs, events, _failure(f"pair {run}", error, None))
        events += len(story.sim.trace)
    return Result(runs, events)


def _failure(what: str, error: Exception, story: Story | None) -> str:
    trace = "" if story is None else told(story.sim.trace[-KEPT:])
    kind = "" if isinstance(error, ViolationError) else f"{type(error).__name__}: "
    return f"{trace}{what}: {kind}{error}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0, help="the first seed; run N has the seed SEED + N")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    began = time.perf_counter()
    with ProcessPoolExecutor(asked.jobs) as pool:
        points = _summed("crash points", pool.map(boundaries, enumeration.SCENARIOS))
        twice = _summed("pairs of crashes", pool.map(pairs, enumeration.SHORT))
        starts = range(asked.seed, asked.seed + asked.runs, CHUNK)
        counts = [min(CHUNK, asked.seed + asked.runs - start) for start in starts]
        drawn = _summed("random runs", pool.map(partial(seeds), starts, counts))
    took = time.perf_counter() - began
    runs, events = points.runs + twice.runs + drawn.runs, points.events + twice.events + drawn.events
    print(
        f"{runs} runs, {events} events, {took:.0f} s, {runs / took:.0f} runs/s, no promise broken (seed {asked.seed})"
    )
    return 0


def _summed(what: str, results: Iterator[Result]) -> Result:
    runs = events = 0
    for result in results:
        runs, events = runs + result.runs, events + result.events
        if result.failure is not None:
            print(result.failure)
            sys.exit(1)
    print(f"{what}: {runs} runs, {events} events", flush=True)
    return Result(runs, events)


if __name__ == "__main__":
    sys.exit(main())
