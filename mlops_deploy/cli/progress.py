"""How a command that changes a service tells its story on stderr: a live tree on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from mlops_deploy.cli.console import PlainStory, is_live
from mlops_deploy.cli.course import Course, elapsed, headline, legible
from mlops_deploy.ports import Story
from mlops_deploy.release.effects import Answer, Effect, Pause
from mlops_deploy.release.journal import Done, Entry, HeldBack, Interrupted, Opened, Taken, Turned


class ReleaseStory(Story, Protocol):
    """A story that also follows what the driver does."""

    def witness(self, effect: Effect, answer: Answer) -> None:
        """See one effect with its answer."""
        ...


@contextmanager
def release_story() -> Iterator[ReleaseStory]:
    """The story of one command."""
    if is_live():
        from mlops_deploy.cli.tree import terminal_release

        with terminal_release() as story:
            yield story
    else:
        yield PlainRelease()


class PlainRelease(PlainStory):
    """One line for each step that was taken, and one every ten seconds while one goes on."""

    def __init__(self) -> None:
        super().__init__()
        self._course: Final = Course()
        self._heard = time.monotonic()

    def witness(self, effect: Effect, answer: Answer) -> None:
        """Write a line when a step ends, turns back or waits."""
        entry = self._course.hear(effect, answer)
        if entry is not None:
            self._heard = time.monotonic()
            for line in told(self._course, entry):
                self.say(legible(line))
        elif isinstance(effect, Pause) and time.monotonic() - self._heard >= self.EVERY:
            self._heard = time.monotonic()
            if row := self._course.running:
                self.say(f"  {row.text}: {elapsed(row, time.time())}{_after(row.note)}")


def told(course: Course, entry: Entry) -> Iterator[str]:
    """What an entry of the journal says to a reader of plain lines."""
    match entry:
        case Opened():
            yield headline(course)
        case Taken():
            yield f"{headline(course)}: goes on"
        case Done(undo=undo, index=index, seconds=seconds, evidence=evidence):
            row = [row for row in course.rows if row.state == "done"][-1] if undo else course.rows[index]
            yield f"{'back' if undo else 'done'}: {row.text} ({seconds:.1f} s){_after(evidence)}"
        case Turned(index=index, reason=reason):
            where = f", at `{course.rows[index].text}`" if index < len(course.rows) else ""
            yield f"turning back{where}: {reason}"
        case HeldBack():
            yield "held: it waits for a decision"
        case Interrupted(reason=reason):
            yield reason
        case _:
            pass


def _after(note: str) -> str:
    return f": {note}" if note else ""
