"""The router of one service without a container engine: HAProxy and the keeper as processes of this machine."""

import os
import shutil
import signal
import stat
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final, NoReturn

from mlops_deploy.adapters.keeper import KeeperStream
from mlops_deploy.adapters.process import LocalRunner
from mlops_deploy.adapters.processes.identity import alive, send
from mlops_deploy.adapters.processes.service import LocalService, is_free
from mlops_deploy.errors import DeployError, UnusableInputError
from mlops_deploy.oci.partial import reporting
from mlops_deploy.resources import IMAGES
from mlops_deploy.store.files import locked, unheard

KEEPER: Final = IMAGES / "router" / "keeper"

_LOCK: Final = "router.lock"
_PATIENCE: Final = 20.0
_START: Final = 10.0
_END: Final = 40.0
_PAUSE: Final = 0.02
_LONGEST_RUN: Final = 80
"""Bytes of the folder of sockets: with a name below it a socket's path has to fit into 107."""

_LOG_BOUND: Final = 8 * 2**20


class LocalRouter:
    """HAProxy with its keeper; clients reach it on `port` of this machine."""

    def __init__(self, service: LocalService, port: int, environ: Mapping[str, str]) -> None:
        self._service: Final = service
        self._port: Final = port
        self._path: Final = environ.get("PATH", os.defpath)
        self._state: Final = service.path / "router"
        self._note: Final = service.path / "router.id"
        self.log: Final = service.path / "router.log"

    def make(self, config: str) -> None:
        """See `ports.Target.make_router`; returns when HAProxy answers."""
        self._service.address("a")  # makes the folder, or refuses another one's
        with (
            reporting(f"`{self._service.path}`"),
            locked(self._service.path / _LOCK, "starting the router", deadline=_PATIENCE, tell=unheard),
        ):
            if not self.runs():
                self._require_haproxy()
                self._require_port()
                self._start(config)

    def runs(self) -> bool:
        """Whether the router runs."""
        try:
            return alive(self._note.read_text(encoding="ascii"))
        except FileNotFoundError:
            return False

    def keeper(self) -> KeeperStream | None:
        """A stream to the keeper, which answers also when HAProxy dies meanwhile; None when the router does not run."""
        self._service.require_ours()
        return KeeperStream(self._argv("serve"), self._env()) if self.runs() else None

    def forget(self) -> None:
        """Remove what is outside of the service's folder."""
        shutil.rmtree(self._run(), ignore_errors=True)

    def end(self) -> None:
        """End HAProxy when it has answered what it has taken."""
        self._trim()
        if not self._note.exists():
            return
        identity = self._note.read_text(encoding="ascii")
        until = time.monotonic() + _END
        send(identity, signal.SIGTERM)
        while alive(identity):
            if time.monotonic() > until:
                send(identity, signal.SIGKILL)
            time.sleep(_PAUSE)
        self._note.unlink()

    def _start(self, config: str) -> None:
        first = not self._state.exists()
        for folder in (self._state, self._run()):
            folder.mkdir(mode=0o700, exist_ok=True)
        self._trim()
        begun = self.log.stat().st_size if self.log.exists() else 0
        env = {**self._env(), "ROUTER_CONFIG": config}
        LocalRunner().detach(self._argv("init"), env=env, output=self.log, note=self._note)
        until = time.monotonic() + _START
        while not self._answers():
            if not self.runs() or time.monotonic() > until:
                self._fail(begun, first=first)
            time.sleep(_PAUSE)

    def _fail(self, begun: int, *, first: bool) -> NoReturn:
        self.end()
        if first:  # it holds a closed route alone, and a configuration that may be the reason
            shutil.rmtree(self._state)
        said = self.log.read_bytes()[begun:].decode(errors="replace").splitlines()
        raise DeployError("the router did not start", detail=said[-20:], hint=f"`{self.log}` holds all that it said")

    def _answers(self) -> bool:
        stream = KeeperStream(self._argv("serve"), self._env())
        try:
            return stream.observed().applied is not None
        except DeployError:
            return False
        finally:
            stream.close()

    def _argv(self, command: str) -> tuple[str, ...]:
        return (sys.executable, "-I", "-S", str(KEEPER), command)

    def _env(self) -> dict[str, str]:
        return {"STATE": str(self._state), "RUN": str(self._run()), "PATH": self._path}

    def _run(self) -> Path:
        """The folder of sockets: beside the state, elsewhere when that would be too long for a socket's path."""
        near = self._service.path / "run"
        if len(os.fsencode(near)) <= _LONGEST_RUN:
            return near
        far = Path("/tmp") / f"mlops-deploy-{sha256(os.fsencode(near)).hexdigest()[:16]}"  # noqa: S108 - checked below
        with suppress(FileNotFoundError):
            found = far.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
                hint = "remove it, or name a shorter folder with `XDG_STATE_HOME`"
                raise UnusableInputError(f"`{far}` is in the way of the router's sockets", hint=hint)
        return far

    def _require_haproxy(self) -> None:
        if shutil.which("haproxy", path=self._path) is None:
            raise UnusableInputError(
                "no `haproxy` on this machine, and target `process` routes by it",
                hint="install it (`apt install haproxy`), or use target `docker`",
            )

    def _require_port(self) -> None:
        if not is_free(self._port):
            raise UnusableInputError(
                f"port {self._port} is taken by another program", hint="end that, or set another `port` in `mlops.yml`"
            )

    def _trim(self) -> None:
        """Begin the log anew once it is long; HAProxy appends, so that it may go on meanwhile."""
        if self.log.exists() and self.log.stat().st_size > _LOG_BOUND:
            os.truncate(self.log, 0)
