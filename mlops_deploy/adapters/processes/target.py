"""The target without a container engine: two slots of local processes, and a local HAProxy in front of them.

Everything of a service is in one folder: `a/`, `b/`, `router/` (the state that the keeper writes), `service.json`.
No call waits for a slot's tasks: a supervisor of its own, which outlives us, makes a slot what its folder says.
"""

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, assert_never

from mlops_deploy.adapters.process import LocalRunner
from mlops_deploy.adapters.processes.identity import alive, of_this_boot, send
from mlops_deploy.adapters.processes.log import read_log
from mlops_deploy.adapters.processes.router import LocalRouter
from mlops_deploy.adapters.processes.service import LocalService
from mlops_deploy.adapters.processes.slot import Held, SlotFolder, Wanted
from mlops_deploy.errors import DeployError, UnreachableError
from mlops_deploy.ports import Keeper, Task
from mlops_deploy.release.codec import decode
from mlops_deploy.release.state import SLOTS, Artefact, Cause, Route, Slot, SlotState, SlotView
from mlops_deploy.spec.owner import Owner
from mlops_deploy.spec.process_job import ProcessJob

INHERITED: Final = ("HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "USER")
"""What a task sees of the environment of whoever started its slot; all else is in its job."""

GRACE: Final = 25.0
"""Seconds that a server has to finish when everything is removed."""

_BEGIN: Final = 10.0
_PAUSE: Final = 0.01


class ProcessTarget:
    """One service as local processes below `home`; see `ports.Target`."""

    def __init__(self, owner: Owner, port: int, *, home: Path, environ: Mapping[str, str]) -> None:
        self._service: Final = LocalService(owner=owner, path=home / owner.project)
        self._router: Final = LocalRouter(self._service, port, environ)
        self._env: Final = {name: environ[name] for name in INHERITED if name in environ}

    def address(self, slot: Slot) -> tuple[str, int]:
        """Where the server of `slot` listens: chosen once, free at that time, and kept."""
        return self._service.address(slot)

    def ensure(self, slot: Slot, artefact: Artefact) -> None:
        """See `ports.Target`. A slot that holds this artefact and has failed is tried again."""
        job = decode(ProcessJob, dict(artefact.job), "job")
        port = self._service.address(slot)[1]
        folder = self._folder(slot)
        with folder.taken(f"changing slot {slot}"):
            before = folder.require_ours(self._project, slot)
            wanted = Wanted(
                project=self._project,
                slot=slot,
                key=artefact.key,
                content=artefact.content_id.hex,
                port=port,
                job=job,
            )
            if before != wanted:
                folder.want(wanted)
            self._tell(folder, changed=before != wanted)

    def observe(self, slot: Slot) -> SlotView:
        """See `ports.Target`; reads files alone. `absent` after a stop, `stopped` when the machine was restarted."""
        self._service.require_ours()
        folder = self._folder(slot)
        wanted = folder.require_ours(self._project, slot)
        return SlotView(slot=slot, state="absent") if wanted is None else _view(wanted, folder)

    def stop(self, slot: Slot, grace: float) -> None:
        """See `ports.Target`."""
        self._service.require_ours()
        folder = self._folder(slot)
        if folder.require_ours(self._project, slot) is None:
            return
        with folder.taken(f"changing slot {slot}"):
            wanted = folder.require_ours(self._project, slot)
            if wanted is not None and wanted.grace != grace:
                folder.want(wanted.within(grace))
            held = folder.held()
            if held is not None and (_supervised(held) or alive(held.process)):
                self._tell(folder, changed=True)

    def logs(self, task: Task, slot: Slot | None, tail: int, *, follow: bool) -> Iterator[str]:
        """See `ports.Target`; of a slot's task its last run, at most the newest 1 MiB."""
        self._service.require_ours()
        match task:
            case "router":
                return read_log(self._router.log, tail, lambda: follow and self._router.runs())
            case "bootstrap" | "server":
                log = self._folder(slot or "a").log(task)
                return read_log(log, tail, lambda: follow and self._busy(slot or "a"))
            case _:
                assert_never(task)

    def make_router(self, config: str) -> None:
        """See `ports.Target`."""
        self._router.make(config)

    def router_differs(self) -> str | None:
        """See `ports.Target`. Nothing: the port, too, is in the configuration."""
        return None

    def replace_router(self, config: str) -> None:
        """See `ports.Target`."""
        self._router.end()
        self._router.make(config)

    def restore_state(self, config: str, *, blind: bool) -> Route | None:  # noqa: ARG002 - for whom it can be lost
        """See `ports.Target`; the state is the router's own, which lays it out when it starts."""
        return None

    def keeper(self) -> Keeper | None:
        """See `ports.Target`."""
        return self._router.keeper()

    def remove(self, *, volumes: bool, before_router: Callable[[], None] = lambda: None) -> None:
        """See `ports.Target`. Waits until nothing runs; with `volumes` no file of the service is left."""
        self._service.require_ours()
        for slot in SLOTS:
            self.stop(slot, GRACE)
        for slot in SLOTS:
            self._await_absent(slot)
        before_router()
        self._router.end()
        for slot in SLOTS:
            self._folder(slot).forget(volume=volumes)
        self._router.forget()
        if volumes:
            self._service.forget()

    @property
    def _project(self) -> str:
        return self._service.owner.project

    def _folder(self, slot: Slot) -> SlotFolder:
        return SlotFolder(self._service.path / slot)

    def _tell(self, folder: SlotFolder, *, changed: bool) -> None:
        """See to it that a supervisor knows what the folder says; the caller holds the slot."""
        held = folder.held()
        if held is not None and _supervised(held):
            if changed:
                send(held.supervisor, signal.SIGHUP)
            return
        before = held.supervisor if held else ""
        argv = (sys.executable, "-I", "-m", "mlops_deploy.adapters.processes.supervise", str(folder.path))
        note = folder.path / "supervisor.id"
        folder.supervisor_log.unlink(missing_ok=True)
        LocalRunner().detach(argv, env=self._env, output=folder.supervisor_log, note=note)
        identity = note.read_text(encoding="ascii")
        until = time.monotonic() + _BEGIN
        while (now := folder.held()) is None or now.supervisor == before:
            if not alive(identity) or time.monotonic() > until:
                raise DeployError(f"the supervisor of `{folder.path}` did not start", detail=folder.supervisor_said())
            time.sleep(_PAUSE)

    def _busy(self, slot: Slot) -> bool:
        return self.observe(slot).state in {"preparing", "running"}

    def _await_absent(self, slot: Slot) -> None:
        until = time.monotonic() + GRACE + _BEGIN
        while self.observe(slot).state not in {"absent", "stopped", "failed"}:
            if time.monotonic() > until:
                raise UnreachableError(f"slot {slot} does not end", hint="look at it with `ps`, then repeat")
            time.sleep(_PAUSE)


def state_home(environ: Mapping[str, str]) -> Path:
    """`$XDG_STATE_HOME/mlops-deploy`; a relative one does not count, says the base directory specification."""
    configured = Path(environ.get("XDG_STATE_HOME") or ".")
    return (configured if configured.is_absolute() else Path.home() / ".local" / "state") / "mlops-deploy"


def _supervised(held: Held) -> bool:
    return held.phase != "ended" and alive(held.supervisor)


def _view(wanted: Wanted, folder: SlotFolder) -> SlotView:
    held = folder.held()
    if held is None or (held.phase == "ended" and wanted.grace is not None):
        return SlotView(slot=wanted.slot, state="absent")
    if not _supervised(held):
        return _ended(wanted, held, folder)
    running = held.phase == "server" and held.key == wanted.key
    state: SlotState = "running" if running else "preparing"
    return _shown(wanted, held, state)


def _ended(wanted: Wanted, held: Held, folder: SlotFolder) -> SlotView:
    """A slot whose supervisor has ended, or was killed; what it held may be older than what is wanted."""
    if wanted.grace is not None:
        return _shown(wanted, held, "running") if alive(held.process) else SlotView(slot=wanted.slot, state="absent")
    if not of_this_boot(held.supervisor) or held.key != wanted.key:
        return _shown(wanted, held, "stopped")
    if held.failure is not None:
        cause = Cause(kind=held.failure.what, message=held.failure.message, lines=held.failure.lines)
        return _shown(wanted, held, "failed", cause)
    said = folder.supervisor_said()
    cause = Cause(kind="crash", message=f"the supervisor of the slot {'failed' if said else 'was killed'}", lines=said)
    return _shown(wanted, held, "failed", cause)


def _shown(wanted: Wanted, held: Held, state: SlotState, cause: Cause | None = None) -> SlotView:
    return SlotView(
        slot=wanted.slot,
        state=state,
        key=wanted.key,
        content=wanted.content,
        revision=held.supervisor if held.phase == "begun" else held.process,
        cause=cause,
    )
