"""One model on this machine, without a container engine: the same server, the same readiness, an end at Ctrl-C."""

import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Final

from mlops_deploy.errors import DeployError, NeverReadyError, UnreachableError, UnusableInputError
from mlops_deploy.ports import Launcher, LineSink, Runner, Running
from mlops_deploy.render.health import RETRIES, golden_list
from mlops_deploy.resources import IMAGES
from mlops_deploy.spec.deploy import GoldenRequest
from mlops_deploy.spec.preset import Preset
from mlops_deploy.spec.refs import ContentId

LOOPBACK: Final = "127.0.0.1"
GRACE: Final = 25.0
"""Seconds that the server has to answer what it has taken before it is killed; its own limit is a little less."""

LONGEST_VARIABLE: Final = 131_071
"""Bytes that Linux takes in one `NAME=value` of an environment."""

_CAUSE: Final = "error: "
_PAUSE: Final = 0.25
_FINAL: Final = ("not ready (identity)", "not ready (golden)")
_INHERITED: Final = ("HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "USER")


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One model and how it is to be served: `path` is the folder `…/v/<content id>`, `deadline` in seconds."""

    model: str
    content_id: ContentId
    path: Path
    port: int
    deadline: float
    hook: Path | None = None
    golden: tuple[GoldenRequest, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The model's address in the Open Inference Protocol; `/infer` is below it."""
        return f"http://{LOOPBACK}:{self.port}/v2/models/{self.model}"


def check_preset(preset: Preset) -> None:
    """Raise `UnusableInputError` for a preset that cannot run without a container engine."""
    if preset.build is None:
        raise UnusableInputError(
            f"preset `{preset.name}` is the image `{preset.image}`, which needs a container engine",
            hint="`mlops-deploy render` writes a Compose file for it",
        )
    if not preset.command or not preset.ready.command:
        raise UnusableInputError(
            f"preset `{preset.name}` does not say how its server is started and checked",
            hint="give the preset `command` and `ready.command`",
        )


def choose_port(asked: int) -> int:
    """`asked`, or a free one for 0; raise `UnusableInputError` when another program listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, asked))
            probe.listen()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UnusableInputError(
                f"cannot listen on port {asked}: {reason}", hint="`--port 0` takes a free one"
            ) from error
        return int(probe.getsockname()[1])


def environment(served: Served, preset: Preset, programs: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of the server: what its container would have, and the few things a process needs."""
    kept = {name: inherited[name] for name in _INHERITED if name in inherited}
    ours = {
        "MODEL_NAME": served.model,
        "MODEL_ID": served.content_id.hex,
        "MODEL_PATH": str(served.path),
        "PORT": str(served.port),
        "GRPC_PORT": "0",
        "PATH": f"{programs}:{inherited.get('PATH', '/usr/bin:/bin')}",
        "PYTHONPATH": str(IMAGES / (preset.build or "")),
        "PYTHONPYCACHEPREFIX": str(programs.parent / "pycache"),
        "PYTHONUNBUFFERED": "1",
    }
    if served.hook:
        ours["HOOK"] = str(served.hook.absolute())
    if served.golden:
        ours["GOLDEN"] = golden_list(served.golden)
    env = {**kept, "HOST": LOOPBACK, **preset.env, **served.env, **ours}
    for name, value in env.items():
        if len(f"{name}={value}".encode()) > LONGEST_VARIABLE:
            raise UnusableInputError(
                f"`{name}` is too long for an environment: {LONGEST_VARIABLE:,} bytes at most",
                hint="keep fewer or smaller golden requests" if name == "GOLDEN" else None,
            )
    return env


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A server that is about to start: its preset, its environment, and the ports to the world."""

    served: Served
    preset: Preset
    env: Mapping[str, str]
    launcher: Launcher
    runner: Runner

    def run(self, log: LineSink, on_ready: Callable[[Running, str], None]) -> None:
        """Serve until interrupted, which is the normal end; `on_ready` is told the check's verdict.

        `log` hears the server from then on, what it said before first; an error on the way there holds its last words.
        Raises `NeverReadyError`, or `DeployError` when the server fails afterwards; an interrupt before it is ready
        is raised on. Whatever happens, no server is left.
        """
        argv = (*self.preset.command, *self.preset.args)
        held = _Held(log)
        process = self.launcher.start(argv, cwd=Path("/"), env=self.env, on_line=held)
        try:
            verdict = self._await_ready(process)
            held.release()
            try:
                on_ready(process, verdict)
                self._watch(process)
            except KeyboardInterrupt:
                log("ending: requests that were taken are answered first; Ctrl-C again ends it at once")
        finally:
            process.end(GRACE)

    def _watch(self, process: Running) -> None:
        if code := process.wait(None):
            raise DeployError(
                f"the server ended by itself: {_how(code)}",
                hint="its last words say why; mend that, and serve the model again",
                detail=process.last_lines,
            )

    def _await_ready(self, process: Running) -> str:
        until = time.monotonic() + self.served.deadline
        verdict, times = "", 0
        while (left := until - time.monotonic()) > 0:
            if (code := process.wait(min(_PAUSE, left))) is not None:
                raise _ended_early(code, process.last_lines)
            if (checked := self._check(left)) is None:
                break  # cut off by the deadline: what the check before it said says more
            ready, said = checked
            if ready:
                return said
            times = times + 1 if said == verdict else 1
            verdict = said
            if times == RETRIES and said.startswith(_FINAL):
                break
        if verdict.startswith(_FINAL):
            raise NeverReadyError(f"the server answers, but not as it should: {verdict}", hint=_hint(verdict))
        message = f"the server was not ready within {self.served.deadline:g} s: {verdict or 'the check did not end'}"
        raise NeverReadyError(message, hint="`ready.deadline` gives it more time", detail=process.last_lines)

    def _check(self, left: float) -> tuple[bool, str] | None:
        try:
            done = self.runner.run(self.preset.ready.command, env=self.env, cwd=Path("/"), timeout=left)
        except UnreachableError:
            return None
        return done.code == 0, (done.out or done.err).strip()


class _Held:
    """Keeps the lines of a server until it is ready, so that a failure shows them once: in its error."""

    def __init__(self, log: LineSink) -> None:
        self._log: Final = log
        self._lines: list[str] | None = []
        self._turn: Final = Lock()

    def __call__(self, line: str, /) -> None:
        """Take one line, from whichever thread reads them."""
        with self._turn:
            if self._lines is None:
                self._log(line)
            else:
                self._lines.append(line)

    def release(self) -> None:
        """Pass on what was kept, and from now on every line as it comes."""
        with self._turn:
            kept, self._lines = self._lines or [], None
            for line in kept:
                self._log(line)


def _ended_early(code: int, lines: Sequence[str]) -> NeverReadyError:
    """What the server itself calls its error says more than its exit code; the rest of its last words follow."""
    causes = [line for line in lines if line.startswith(_CAUSE)]
    why = causes[-1].removeprefix(_CAUSE) if causes else _how(code)
    detail = [line for line in lines if line not in causes[-1:]]
    return NeverReadyError(
        f"the server ended before it was ready: {why}", hint="mend that, and serve the model again", detail=detail
    )


def _how(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


def _hint(verdict: str) -> str:
    if verdict.startswith("not ready (golden)"):
        return "correct the model, or the requests that `ready.golden` names"
    return "another server may answer on this port; `--port 0` takes a free one"
