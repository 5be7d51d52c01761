"""A release on a terminal: its steps, its slots, the share of each, and how long the running step may still take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from mlops_deploy.cli.console import TerminalStory, terminal_progress
from mlops_deploy.cli.course import Course, Row, RowState, SlotLine, elapsed, headline
from mlops_deploy.release.effects import Answer, Effect
from mlops_deploy.release.state import WHOLE

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.progress import Progress
    from rich.text import Text

_MARKS: Final[dict[RowState, tuple[str, str]]] = {
    "waiting": ("·", "dim"),
    "running": ("●", "cyan"),
    "done": ("✓", "green"),
    "failed": ("✗", "red"),
}
_BLOCKS: Final = 20


@contextmanager
def terminal_release() -> Iterator["TerminalRelease"]:
    """Progress of what is prepared first, then the tree of the release, which stays on the screen."""
    with terminal_progress() as progress:
        story = TerminalRelease(progress)
        try:
            yield story
        finally:
            story.end()


class TerminalRelease(TerminalStory):
    """Facts above a live tree, which begins with the release's first line."""

    def __init__(self, progress: "Progress") -> None:
        super().__init__(progress)
        self._course: Final = Course()
        self._live: Live | None = None

    def witness(self, effect: Effect, answer: Answer) -> None:
        """Follow the release; the tree is drawn anew four times a second, and at every entry of the journal."""
        if self._course.hear(effect, answer) is not None:
            self._shown().refresh()

    def end(self) -> None:
        """Leave the tree as it is."""
        if self._live is not None:
            self._live.stop()

    def _shown(self) -> "Live":
        if self._live is None:
            from rich.live import Live

            self._progress.stop()
            self._live = Live(console=self._progress.console, get_renderable=lambda: drawn(self._course, time.time()))
            self._live.start()
        return self._live


def drawn(course: Course, now: float) -> "RenderableType":
    """The tree at the moment `now`, in seconds since 1970."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    steps, slots = Table.grid(padding=(0, 2)), Table.grid(padding=(0, 2))
    for _ in range(3):
        steps.add_column(no_wrap=True)
    steps.add_column()  # evidence alone gives way on a narrow terminal
    for row in course.rows:
        steps.add_row(*_step(row, now))
    for line in course.slots():
        slots.add_row(*_slot(line, last=line.slot == "b"))
    parts: list[RenderableType] = [Text(headline(course).replace("->", "→"), style="bold"), steps, Text(), slots]
    if course.turned:
        parts.insert(2, Text(f"turned back: {course.turned}", style="yellow"))
    return Group(*parts)


def _step(row: Row, now: float) -> "tuple[Text, Text, Text, Text]":
    from rich.text import Text

    mark, style = _MARKS[row.state]
    took = elapsed(row, now) if row.state == "running" else f"{row.seconds:.1f} s"
    return (
        Text("↩" if row.back and row.state == "done" else mark, style=style),
        Text(row.text, style="dim" if row.state == "waiting" else ""),
        Text("" if row.state == "waiting" else took, justify="right"),
        Text(row.note, style="dim", overflow="ellipsis", no_wrap=True),
    )


def _slot(line: SlotLine, *, last: bool) -> "tuple[Text, Text, Text, Text, Text]":
    from rich.text import Text

    full = round(line.share * _BLOCKS / WHOLE)
    return (
        Text(f"{'└' if last else '├'} {line.slot}"),
        Text(line.role, style="green" if line.role == "live" else ""),
        Text(line.version),
        Text(line.state, style="dim"),
        Text("▮" * full + "▯" * (_BLOCKS - full) + f" {line.share / 100:g} %"),
    )
