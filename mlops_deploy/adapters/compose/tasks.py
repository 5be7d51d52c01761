"""From what an engine says of a slot's two containers to how the slot is: decided here, without asking anybody."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, Self

from mlops_deploy.adapters.faults import CRASHES, SETTLED, Fault, bootstrap_ended, crashing, starved
from mlops_deploy.ports import Task
from mlops_deploy.release.state import SlotState

_UP: Final = frozenset({"running", "restarting", "paused"})
_OVER: Final = frozenset({"exited", "dead"})
_FOR_GOOD: Final = frozenset({"", "no", "on-failure"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container as the engine describes it; times in seconds since 1970, `memory` in bytes, 0 without a limit."""

    id: str
    status: str
    code: int
    starved: bool
    error: str
    restarts: int
    policy: str
    created: float
    started: float
    memory: int
    labels: Mapping[str, str]

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> Self:
        """From the engine's answer to an inspection."""
        state, host = found["State"], found["HostConfig"]
        return cls(
            id=found["Id"],
            status=state["Status"],
            code=state["ExitCode"],
            starved=state["OOMKilled"],
            error=state["Error"],
            restarts=found["RestartCount"],
            policy=host["RestartPolicy"]["Name"],
            created=_seconds(found["Created"]),
            started=_seconds(state["StartedAt"]),
            memory=host["Memory"],
            labels=found["Config"]["Labels"] or {},
        )

    @property
    def up(self) -> bool:
        """Whether it runs, or is just being restarted."""
        return self.status in _UP

    def shaky(self, now: float) -> bool:
        """Whether it was restarted and has not run for long since."""
        return self.up and self.restarts > 0 and (self.status == "restarting" or now - self.started < SETTLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What earlier runs of a container ended with: the last exit code, and whether one wanted too much memory."""

    code: int | None = None
    starved: bool = False


def judge(
    bootstrap: Container | None,
    server: Container | None,
    *,
    past: Past,
    now: float,
    doing: Literal["up", "down"] | None,
) -> SlotState | Fault:
    """How a slot is; `doing` says that it is being started or stopped right now, by this process.

    What is being stopped counts as running until nothing of it is left.
    """
    if doing == "down":
        return "absent" if bootstrap is None and server is None else "running"
    if fault := _bootstrap_fault(bootstrap) or _server_fault(server, past, now):
        return fault
    if server is not None and server.up:
        return "running"
    if doing == "up" or (bootstrap is not None and bootstrap.up):
        return "preparing"
    return "absent" if bootstrap is None and server is None else "stopped"


def ending(server: Container | None, past: Past, now: float) -> str | None:
    """How a server ended that waits to be started again, or was a moment ago; None for any other."""
    if server is None:
        return None
    if server.status in _OVER:
        # One that the engine would restart, and does not, was stopped by somebody.
        how = "ended" if server.policy in _FOR_GOOD else "was stopped from outside, and ended"
        return f"the server {how} with {server.code}"
    if not server.shaky(now):
        return None
    code = _last_code(server, past)
    return f"the server ended{'' if code is None else f' with {code}'}, and was started again"


def _last_code(it: Container, past: Past) -> int | None:
    return it.code if it.status == "restarting" else past.code


def _bootstrap_fault(it: Container | None) -> Fault | None:
    if it is None or it.code == 0 or it.up:
        return None
    if it.status not in _OVER:
        return _unstartable("bootstrap", it)
    if it.starved:
        return starved("bootstrap", _mib(it))
    return bootstrap_ended(it.code)


def _server_fault(it: Container | None, past: Past, now: float) -> Fault | None:
    if it is None:
        return None
    if it.starved or (past.starved and it.shaky(now)):
        return starved("server", _mib(it))
    if not it.up:
        return _ended(it)
    if it.restarts < CRASHES or not it.shaky(now) or (it.started - it.created) / it.restarts > SETTLED:
        return None
    return crashing(_last_code(it, past))


def _ended(it: Container) -> Fault | None:
    if it.code == 0:
        return None
    if it.error or it.status not in _OVER:
        return _unstartable("server", it)
    # One that would be restarted and is not was stopped by somebody, whatever it ended with.
    if it.policy not in _FOR_GOOD:
        return None
    return Fault(kind="crash", message=f"the server ended with {it.code}", task="server")


def _unstartable(task: Task, it: Container) -> Fault:
    return Fault(kind="start", message=f"the {task} cannot be started: {it.error or f'code {it.code}'}", task=task)


def _mib(it: Container) -> str:
    return f"its {it.memory / 2**20:,.0f} MiB of memory" if it.memory else "the machine's memory"


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
