"""The router's project: made once, started again, made anew only when that is asked for."""

import time
from typing import Final

from mlops_deploy.adapters.compose.program import NOWHERE, lost_the_race, router_error, up_argv
from mlops_deploy.adapters.compose.tasks import Container
from mlops_deploy.adapters.compose.things import Things
from mlops_deploy.adapters.docker_engine import Endpoint
from mlops_deploy.errors import DeployError
from mlops_deploy.ports import Runner
from mlops_deploy.release.state import SLOTS
from mlops_deploy.render.slots import ROUTER_PORT, router_text
from mlops_deploy.spec.owner import Owner
from mlops_deploy.spec.rendered import JobImage

_DEADLINE: Final = 60.0
_RACE: Final = 10.0
_PAUSE: Final = 0.1

_GRACE: Final = 35
"""Seconds to end for a router: more than the 30 that requests in flight get."""


class ComposeRouter:
    """The router of one service; see `ports.Target` for what its methods promise."""

    def __init__(self, owner: Owner, port: int, image: JobImage, endpoint: Endpoint, things: Things) -> None:
        self._owner = owner
        self._port = port
        self._image = image
        self._endpoint = endpoint
        self._things = things
        self._project = f"{owner.project}-router"
        self._volume = f"{owner.project}-state"
        self.name = f"{self._project}-router-1"

    @property
    def found(self) -> Container | None:
        """Its container, None when there is none."""
        inspected = self._things.container(self.name, None)
        return None if inspected is None else Container.read(inspected)

    @property
    def up(self) -> bool:
        """Whether it runs."""
        found = self.found
        return found is not None and found.up

    def make(self, config: str, runner: Runner) -> None:
        """See `ports.Target.make_router`."""
        found = self.found
        if found is None:
            self._create(config, self._image, self._port, runner)
        elif not found.up:
            self._start(found)

    def differs(self) -> str | None:
        """See `ports.Target.router_differs`."""
        setup = self._setup()
        if setup is None:
            return None
        image, port = setup
        said = [f"it runs the image `{image.ref}`, not `{self._image.ref}`"] if image != self._image else []
        said += [f"it listens on port {port}, not {self._port}"] if port != self._port else []
        return " and ".join(said) or None

    def replace(self, config: str, runner: Runner) -> None:
        """See `ports.Target.replace_router`."""
        before = self._setup()
        self._things.clear(self._project, None, _GRACE)
        try:
            self._create(config, self._image, self._port, runner)
        except DeployError:
            if before is not None:
                self._create(config, *before, runner)
            raise

    def remove(self, grace: int) -> None:
        """Remove its container."""
        self._things.clear(self._project, None, grace)

    def _setup(self) -> tuple[JobImage, int] | None:
        found = self._things.container(self.name, None)
        if found is None:
            return None
        (binding,) = found["HostConfig"]["PortBindings"][f"{ROUTER_PORT}/tcp"]
        return JobImage(ref=found["Config"]["Image"], local=True), int(binding["HostPort"])

    def _start(self, found: Container) -> None:
        try:
            self._things.start(found.id)
        except DeployError as refused:
            raise router_error([refused.message], self._port) from refused

    def _create(self, config: str, image: JobImage, port: int, runner: Runner) -> None:
        new_volume = self._things.volume(self._volume, None) is None
        new_networks = [slot for slot in SLOTS if not self._things.network(slot)]
        text = router_text(self._owner, port, image, config)
        argv, env = up_argv(self._project), self._endpoint.variables()
        done = runner.run(argv, cwd=NOWHERE, env=env, stdin=[text.encode()], timeout=_DEADLINE)
        if done.code == 0 or (lost_the_race(done.err) and self._comes_up()):
            return
        self._things.clear(self._project, None, 0)
        for slot in new_networks:
            self._things.remove_network(slot)
        if new_volume:
            self._things.remove_volume(self._volume, None)
        raise router_error(done.err.splitlines(), port)

    def _comes_up(self) -> bool:
        """Whether somebody else, who was quicker, has it running soon."""
        until = time.monotonic() + _RACE
        while not self.up and time.monotonic() < until:
            time.sleep(_PAUSE)
        return self.up
