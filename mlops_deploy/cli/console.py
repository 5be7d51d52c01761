"""How a command tells its story on stderr: progress bars on a terminal, plain lines elsewhere."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from mlops_deploy.oci.names import printable
from mlops_deploy.ports import Story

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


def harmless(text: str) -> str:
    """Text, also of others, in which a terminal finds nothing to obey; line ends and tabs stay."""
    return "".join(char if char in "\n\t" else printable(char) for char in text)


@contextmanager
def story() -> Iterator[Story]:
    """A story for one command: live with rate and ETA on a terminal, lines otherwise."""
    if is_live():
        with terminal_progress() as progress:
            yield TerminalStory(progress)
    else:
        yield PlainStory()


def is_live() -> bool:
    """Whether stderr is a terminal on which what was written can be changed."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


class PlainStory:
    """Facts as lines; progress as a line every ten seconds, so that a CI log shows that work goes on."""

    EVERY = 10.0

    def __init__(self) -> None:
        self._started = self._told = time.monotonic()

    def say(self, text: str) -> None:
        """Write one line."""
        click.echo(harmless(text), err=True)

    def warn(self, text: str) -> None:
        """Write one line that says it is a warning."""
        click.echo(harmless(f"warning: {text}"), err=True)

    def progress(self, label: str, done: int, total: int) -> None:
        """Write a line when ten seconds have passed since the last."""
        now = time.monotonic()
        if now - self._told >= self.EVERY:
            self._told = now
            rate = done / (now - self._started) / 1e6
            self.say(f"{label}: {done / 1e6:,.0f} of {total / 1e6:,.0f} MB, {rate:,.0f} MB/s")


class TerminalStory:
    """Facts above a live bar with rate and time left."""

    def __init__(self, progress: "Progress") -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def say(self, text: str) -> None:
        """Print above the bar."""
        self._progress.console.print(harmless(text), markup=False, highlight=False)

    def warn(self, text: str) -> None:
        """Print above the bar, marked."""
        self._progress.console.print(harmless(f"warning: {text}"), markup=False, highlight=False, style="yellow")

    def progress(self, label: str, done: int, total: int) -> None:
        """Move the bar named `label`."""
        if label not in self._tasks:
            self._tasks[label] = self._progress.add_task(label, total=total)
        self._progress.update(self._tasks[label], completed=done, total=total)


def terminal_progress() -> "Progress":
    """Bars with rate and time left, which vanish when they are done."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)
