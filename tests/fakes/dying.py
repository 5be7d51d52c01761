"""mlops-deploy in a process that is killed at one point of a release: `dying.py POINT ARGUMENTS…`.

Point 0 is before the release's first change of anything, point k right after its k-th: a line of the journal, a key, a
route, a slot. Between two of them it only looks, so that there are no other points. `CommitRoute` or another effect's
name is the point after the first change of that kind. Writes the change to stderr.
"""

import os
import signal
import sys
from typing import NoReturn

from mlops_deploy.__main__ import main
from mlops_deploy.api import drive
from mlops_deploy.release.effects import Answer, AppendLine, CommitRoute, Effect, EnsureSlot, PutKey, StopSlot

CHANGES = AppendLine | CommitRoute | EnsureSlot | PutKey | StopSlot
PERFORM = drive.perform


class Fate:
    """Counts changes, and ends the process after the last one."""

    def __init__(self, point: str) -> None:
        self.left = int(point) if point.isdigit() else -1
        self.kind = point

    def perform(self, effect: Effect, world: drive.World) -> Answer:
        """As the driver does, until the point is reached."""
        if not isinstance(effect, CHANGES):
            return PERFORM(effect, world)
        if self.left == 0:
            die("the first change")
        answer = PERFORM(effect, world)
        self.left -= 1
        if self.left == 0 or type(effect).__name__ == self.kind:
            die(type(effect).__name__)
        return answer


def die(what: str) -> NoReturn:
    """End as `kill -9` does, with nothing said to anybody."""
    os.write(2, f"killed at {what}\n".encode())
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


if __name__ == "__main__":
    fate, sys.argv = Fate(sys.argv[1]), ["mlops-deploy", *sys.argv[2:]]
    drive.perform = fate.perform
    main()
