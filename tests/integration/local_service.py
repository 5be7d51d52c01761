"""A service of a test's own as local processes behind a local HAProxy, changed through the command line alone."""

import json
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Lock
from unittest import mock

from mlops_deploy.api import status as api
from mlops_deploy.api.server_env import Packages, programs_of
from mlops_deploy.cli.place import Place
from mlops_deploy.cli.status_document import status_document
from mlops_deploy.resources import IMAGES
from tests.fakes.local_slots import processes_of
from tests.integration.releasing import ROOT, Json, Service, run

TINY_SERVER = ROOT / "tests" / "fakes" / "tiny_v2" / "server.py"
LEASE_SECONDS = 60
LOOKING = Lock()
"""The environment is one for all threads of the tests, and empty for a moment while it is put back."""


@dataclass
class LocalService(Service):
    """As `Service`, on target `process`: the tiny server stands where the environment of the real one would be."""

    target: str = "process"

    def __post_init__(self) -> None:
        super().__post_init__()
        # One for all services that run at a time: only then do no two of them choose the same ports.
        state = self.folder.parent / "s"
        self.environment |= {"XDG_CACHE_HOME": str(self.folder / "c"), "XDG_STATE_HOME": str(state)}
        self.configure(server=None)
        self._install_tiny_server()

    @property
    def home(self) -> Path:
        """The folder of everything that runs."""
        return Path(self.environment["XDG_STATE_HOME"]) / "mlops-deploy" / self.name

    @property
    def keeper(self) -> Path:
        """The keeper's state folder."""
        return self.home / "router"

    @property
    def sockets(self) -> Path:
        """The folder of the router's sockets: beside the state, unless that would be too long for a socket."""
        near = self.home / "run"
        far = Path("/tmp")  # noqa: S108 - where the router puts it
        return near if near.exists() else far / f"mlops-deploy-{sha256(os.fsencode(near)).hexdigest()[:16]}"

    @property
    def journal(self) -> Path:
        """The last journal."""
        return max((self.keeper / "journals").glob("[0-9]*.jsonl"))

    def expire_lease(self) -> None:
        """Let the lease be as old as if its holder had not been heard for longer than it lives."""
        path = self.keeper / "keys" / "lease.json"
        entry = json.loads(path.read_bytes())
        fresh = path.with_name(".lease.json.test")
        fresh.write_text(json.dumps(entry | {"since": entry["since"] - LEASE_SECONDS - 1}))
        fresh.replace(path)

    def entries(self) -> list[Json]:
        """What the last journal says in its whole lines: one may be written meanwhile."""
        *whole, _ = self.journal.read_text(encoding="utf-8").split("\n")
        return [json.loads(line.split(" ", 2)[2]) for line in whole]

    def environ(self, verb: str) -> dict[str, str]:
        """See `Service`."""
        with LOOKING:
            return super().environ(verb)

    def release_fresh(self, versions: dict[int, str]) -> list[str]:
        """The arguments that release a version which is in no slot."""
        held = {slot["version"] for slot in self.status()["slots"].values()}
        fresh = next(bias for bias, version in versions.items() if f"{self.name}@{version}" not in held)
        self.use(fresh)
        return ["release", "--model", f"{self.name}:{fresh}"]

    def status(self) -> Json:
        """What `status` says, without a process of its own: these tests look very often."""
        with LOOKING, mock.patch.dict(os.environ, self.environment):
            place = Place(file=self.folder / "mlops.yml", environment=None, target=None)
            service = place.service()
            return status_document(service, place, api.status(service))

    def end(self) -> None:
        """Remove everything of this service; whatever a failed test left is killed."""
        for process in (*(load.process for load in self.loads), *self.commands):
            process.kill()
            with process:
                pass  # closes its streams
        if self.home.exists():
            run(*self.command("down", "--volumes", "--force"), cwd=self.folder, env=self.environ("down"), timeout=120)
        for pid in processes_of(self.folder) | processes_of(self.home):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _built(self, bias: int) -> str:
        with LOOKING:
            return super()._built(bias)

    def _install_tiny_server(self) -> None:
        recipe = IMAGES / "server"
        packages = Packages(requirements=recipe / "requirements.txt", constraints=recipe / "constraints.txt")
        programs = programs_of(packages, Path(self.environment["XDG_CACHE_HOME"]) / "mlops-deploy" / "servers")
        programs.mkdir(parents=True)
        (programs / "python").write_text(f"#!/bin/sh\nexec '{sys.executable}' -S '{TINY_SERVER}'\n")
        (programs / "python").chmod(0o755)
        (programs.parent / "complete").touch()
