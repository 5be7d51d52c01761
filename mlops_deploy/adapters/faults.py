"""Why waiting for a slot is of no use, and what its bootstrap's exit codes mean: the same on every target."""

from dataclasses import dataclass
from typing import Final

from mlops_deploy.ports import Task
from mlops_deploy.release.state import CauseKind

SETTLED: Final = 60.0
"""Seconds after which a server that was restarted counts as one that runs."""

CRASHES: Final = 3
"""Restarts in quick succession after which waiting is of no use."""

_BOOTSTRAP_CODES: Final = {
    65: "the carrier is damaged, or carries another model than the job asks for",
    73: "the slot's volume cannot be written to",
    74: "the slot's volume has no room, or fails",
    75: "the registry of the carrier does not answer",
    77: "something else stands in the model's place on the slot's volume",
    78: "its settings are wrong",
    137: "it was killed",
    143: "it was ended from outside",
}
_OTHER_CODE: Final = "the carrier's script did not come to its end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why waiting is of no use; the words of `task` explain it, or `lines` where no task came to speak."""

    kind: CauseKind
    message: str
    task: Task | None = None
    lines: tuple[str, ...] = ()


def bootstrap_ended(code: int) -> Fault:
    """What it means that the bootstrap ended with `code`, which is not 0."""
    meaning = _BOOTSTRAP_CODES.get(code, _OTHER_CODE)
    return Fault(kind="bootstrap", message=f"the bootstrap ended with {code}: {meaning}", task="bootstrap")


def starved(task: Task, limit: str) -> Fault:
    """What it means that a task was killed because it wanted more memory than `limit`."""
    where = ", see `resources.memory`" if task == "server" else ""
    return Fault(kind="memory", message=f"the {task} was killed: it wants more than {limit}{where}", task=task)


def crashing(code: int | None) -> Fault:
    """What it means that a server was started again and again, and ended with `code` each time."""
    ended = "it ended" if code is None else f"it ended with {code}"
    return Fault(kind="crash", message=f"the server crashes again and again: {ended}", task="server")
