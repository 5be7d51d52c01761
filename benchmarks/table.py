"""What every benchmark yields: a figure of ours beside a peer's or a bare limit, measured in the same run."""

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """`ratio` is ours to the limit; `goal` is `<= N` for the ratio, or `published`."""

    name: str
    ours: str
    limit: str
    ratio: float
    goal: str

    @property
    def met(self) -> str:
        """Whether the ratio is within the goal; nothing for a figure that is only published."""
        if not self.goal.startswith("<="):
            return ""
        return "yes" if self.ratio <= float(self.goal.removeprefix("<=")) else "no"


class NotMeasuredError(Exception):
    """What a benchmark needs is not here."""


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def compared(name: str, ours: Callable[[], float], limit: Callable[[], float], *, goal: str, times: int) -> Row:
    """Measure both in turn, so that both meet the same neighbours; the medians, and the median of the ratios."""
    pairs = [(ours(), limit()) for _ in range(times)]
    one, other = (statistics.median(column) for column in zip(*pairs, strict=True))
    return Row(name, f"{one:.2f} s", f"{other:.2f} s", statistics.median(a / b for a, b in pairs), goal)


def peak_memory(command: Sequence[str]) -> int:
    """The largest resident set, in bytes, of a command whose output goes nowhere."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_maxrss * 1024
