"""The compose command: how it is called, and what its failures mean."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlops_deploy.adapters.faults import Fault
from mlops_deploy.errors import DeployError, UnreachableError, UnusableInputError
from mlops_deploy.ports import Running
from mlops_deploy.release.state import Artefact

NOWHERE: Final = Path("/")
"""Where a program runs that reads no file."""

_NO_IMAGE: Final = re.compile(r"[Nn]o such image: (\S+)")
_PORT_TAKEN: Final = ("port is already allocated", "address already in use")
_NO_ENGINE: Final = ("Cannot connect to the Docker daemon", "error during connect", "EOF", "context canceled")
_NAME_TAKEN: Final = ("is already in use by container", "already exists")
_NO_COMPOSE: Final = ("is not a docker command", "unknown flag", "unknown shorthand flag")


@dataclass(frozen=True, slots=True)
class Up:
    """A compose command that starts an artefact, beside us."""

    artefact: Artefact
    process: Running

    @property
    def running(self) -> bool:
        """Whether it still works on it."""
        return self.process.wait(0) is None

    @property
    def failed(self) -> bool:
        """Whether it ended without having started everything."""
        return self.process.wait(0) not in {None, 0}

    def fault(self) -> Fault | None:
        """What it failed for; None when the engine went away, which mends itself."""
        lines = tuple(line for line in self.process.last_lines if line.strip())
        text = "\n".join(lines)
        if any(sign in text for sign in _NO_ENGINE):
            return None
        if absent := _NO_IMAGE.search(text):
            return Fault(kind="image", message=f"the image `{absent[1]}` is not in the engine", lines=lines)
        return Fault(kind="start", message=f"compose does not start it: {_said(lines)}", lines=lines)


def up_argv(project: str) -> tuple[str, ...]:
    """Start what the file on standard input says, and end when its last task has been started."""
    return (*_compose(project), "--file", "-", "up", "--detach")


def down_argv(project: str, grace: float) -> tuple[str, ...]:
    """Stop a project, known by its labels alone, with `grace` seconds to finish, and remove its containers."""
    return (*_compose(project), "down", "--timeout", str(math.ceil(grace)))


def lost_the_race(said: str) -> bool:
    """Whether Compose failed because somebody else made the same thing at the same time."""
    return any(sign in said for sign in _NAME_TAKEN)


def router_error(lines: Sequence[str], port: int) -> DeployError:
    """Why the router does not start."""
    text = "\n".join(lines)
    if any(sign in text for sign in _PORT_TAKEN):
        return UnusableInputError(
            f"port {port} is taken on the machine of the engine", hint="stop what listens there, or set another `port`"
        )
    if absent := _NO_IMAGE.search(text):
        return UnusableInputError(
            f"the router's image `{absent[1]}` is not in the engine", hint="`mlops-deploy router apply` builds it"
        )
    if any(sign in text for sign in _NO_ENGINE):
        return UnreachableError("the engine went away while the router was started", detail=lines)
    if any(sign in text for sign in _NO_COMPOSE):
        return UnreachableError(
            "this docker program has no Compose 2.20 or newer", hint="install Docker's compose plugin"
        )
    return DeployError(f"the router cannot be started: {_said(lines)}", detail=lines)


def _compose(project: str) -> tuple[str, ...]:
    # Nothing but the file counts: no `.env`, no progress to look at.
    return ("docker", "compose", "--progress", "quiet", "--env-file", "/dev/null", "--project-name", project)


def _said(lines: Sequence[str]) -> str:
    """The last line that says something."""
    said = next((line.strip() for line in reversed(lines) if line.strip()), "it says nothing")
    return said.removeprefix("Error response from daemon: ")
