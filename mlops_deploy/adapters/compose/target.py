"""The target `docker`: each slot and the router a Compose project, their state told by the engine itself."""

import time
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Final, Literal

import docker

from mlops_deploy.adapters.compose.program import NOWHERE, Up, down_argv, up_argv
from mlops_deploy.adapters.compose.router import ComposeRouter
from mlops_deploy.adapters.compose.tasks import Container, Past, ending, judge
from mlops_deploy.adapters.compose.things import Things
from mlops_deploy.adapters.docker_engine import Endpoint
from mlops_deploy.adapters.faults import Fault
from mlops_deploy.adapters.keeper_exec import KeeperExec
from mlops_deploy.ports import Keeper, Launcher, Runner, Running, Task
from mlops_deploy.release.state import SLOTS, Artefact, Cause, End, Route, Slot, SlotState, SlotView
from mlops_deploy.render.slots import slot_text
from mlops_deploy.spec.owner import LABEL, Owner
from mlops_deploy.spec.rendered import JobImage

_PATIENCE: Final = 15
"""Seconds that the engine may take for one answer."""

_GRACE: Final = 3
"""Seconds to end for what has no traffic and makes room."""

_SHOWN: Final = 20


class ComposeTarget:
    """One service in the engine that `DOCKER_HOST`, `DOCKER_CONTEXT` or the current context names; see `ports.Target`.

    The router publishes `port` on the loopback address of the engine's machine and runs the image `router`.
    """

    def __init__(self, owner: Owner, port: int, router: JobImage, runner: Runner, launcher: Launcher) -> None:
        self._owner = owner
        self._port = port
        self._router_image = router
        self._runner = runner
        self._launcher = launcher
        self._ups: dict[Slot, Up] = {}
        self._downs: dict[Slot, Running] = {}

    @cached_property
    def _endpoint(self) -> Endpoint:
        return Endpoint.resolve()

    @cached_property
    def _client(self) -> docker.DockerClient:
        return self._endpoint.client(_PATIENCE)

    @cached_property
    def _things(self) -> Things:
        return Things(self._client, self._owner)

    @cached_property
    def _router(self) -> ComposeRouter:
        return ComposeRouter(self._owner, self._port, self._router_image, self._endpoint, self._things)

    def ensure(self, slot: Slot, artefact: Artefact) -> None:
        """See `ports.Target`. Compose goes on beside us; when it dies with us, this may be called again."""
        self._finish_down(slot)
        held = self._held(slot)
        labels = self._things.volume(self._volume(slot), slot)
        self._things.network(slot)  # refuses one that is not ours
        view = self.observe(slot)
        if view.key == artefact.key and (view.state == "running" or self._doing(slot) == "up"):
            return
        self._end_up(slot)
        if view.cause is not None or any(one.labels.get(f"{LABEL}key") != artefact.key for one in held):
            self._things.clear(self._project(slot), slot, _GRACE)
        if labels is not None and labels.get(f"{LABEL}content") != artefact.content_id.hex:
            self._things.clear(self._project(slot), slot, _GRACE)
            self._things.remove_volume(self._volume(slot), slot)
        text = slot_text(self._owner, slot, artefact.job, content=artefact.content_id.hex, key=artefact.key)
        self._ups[slot] = Up(artefact, self._start(up_argv(self._project(slot)), text))

    def observe(self, slot: Slot) -> SlotView:
        """See `ports.Target`."""
        bootstrap, server = self._task("bootstrap", slot), self._task("server", slot)
        past = self._past(server)
        said = self._judged(slot, bootstrap, server, past)
        key, content = (None, None) if said == "absent" else self._named(slot, server or bootstrap)
        return SlotView(
            slot=slot,
            state="failed" if isinstance(said, Fault) else said,
            key=key,
            content=content,
            revision=".".join(one.id[:12] for one in (bootstrap, server) if one is not None),
            restarts=server.restarts if server is not None else 0,
            cause=self._cause(slot, said) if isinstance(said, Fault) else None,
            ended=self._ended(slot, server, past) if said in {"running", "stopped"} else None,
        )

    def stop(self, slot: Slot, grace: float) -> None:
        """See `ports.Target`."""
        self._end_up(slot)
        if not self._things.containers(self._project(slot), slot) or self._doing(slot) == "down":
            return
        self._downs[slot] = self._start(down_argv(self._project(slot), grace), "")

    def logs(self, task: Task, slot: Slot | None, tail: int, *, follow: bool) -> Iterable[str]:
        """See `ports.Target`; nothing when there is no such task."""
        name = self._name(task, slot)
        return () if self._things.container(name, slot) is None else self._things.lines(name, tail, follow=follow)

    def make_router(self, config: str) -> None:
        """See `ports.Target`."""
        self._router.make(config, self._runner)

    def router_differs(self) -> str | None:
        """See `ports.Target`."""
        return self._router.differs()

    def replace_router(self, config: str) -> None:
        """See `ports.Target`."""
        self._router.replace(config, self._runner)

    def restore_state(self, config: str, *, blind: bool) -> Route | None:  # noqa: ARG002 - for whom it can be lost
        """See `ports.Target`; the state is the router's own, which lays it out when it starts."""
        return None

    def keeper(self) -> Keeper | None:
        """See `ports.Target`."""
        return KeeperExec(self._client.api, self._router.name) if self._router.up else None

    def remove(self, *, volumes: bool, before_router: Callable[[], None] = lambda: None) -> None:
        """See `ports.Target`."""
        for slot in SLOTS:
            self._end_up(slot)
            self._finish_down(slot)
            self._things.clear(self._project(slot), slot, _GRACE)
        before_router()
        self._router.remove(_GRACE)
        for slot in SLOTS:
            self._things.remove_network(slot)
        for owner in (*SLOTS, None) if volumes else ():
            self._things.remove_volume(self._volume(owner), owner)

    def _held(self, slot: Slot) -> tuple[Container, ...]:
        tasks = (self._task("bootstrap", slot), self._task("server", slot))
        return tuple(one for one in tasks if one is not None)

    def _task(self, task: Task, slot: Slot | None) -> Container | None:
        found = self._things.container(self._name(task, slot), slot)
        return None if found is None else Container.read(found)

    def _judged(
        self, slot: Slot, bootstrap: Container | None, server: Container | None, past: Past
    ) -> SlotState | Fault:
        said = judge(bootstrap, server, past=past, now=time.time(), doing=self._doing(slot))
        if isinstance(said, Fault) or said == "running" or slot not in self._ups or not self._ups[slot].failed:
            return said
        return self._ups[slot].fault() or said

    def _named(self, slot: Slot, task: Container | None) -> tuple[str | None, str | None]:
        """The key and the content of what is in the slot, or about to be."""
        if task is not None:
            return task.labels.get(f"{LABEL}key"), task.labels.get(f"{LABEL}content")
        up = self._ups.get(slot)
        return (None, None) if up is None else (up.artefact.key, up.artefact.content_id.hex)

    def _ended(self, slot: Slot, server: Container | None, past: Past) -> End | None:
        message = ending(server, past, time.time())
        if server is None or message is None or self._doing(slot) == "down":
            return None
        until = server.started if server.status == "running" else None  # the next run's words are no last ones
        return End(message=message, lines=self._things.last_lines(self._name("server", slot), _SHOWN, until))

    def _past(self, server: Container | None) -> Past:
        if server is None or not server.shaky(time.time()):
            return Past()
        ends = self._things.ends(server.id, server.created, server.started)
        return Past(code=ends[-1] if ends else None, starved=None in ends)

    def _cause(self, slot: Slot, fault: Fault) -> Cause:
        lines = fault.lines
        if fault.task is not None:
            lines = self._things.last_lines(self._name(fault.task, slot), _SHOWN)
        return Cause(kind=fault.kind, message=fault.message, lines=lines)

    def _doing(self, slot: Slot) -> Literal["up", "down"] | None:
        if slot in self._downs and self._downs[slot].wait(0) is None:
            return "down"
        return "up" if slot in self._ups and self._ups[slot].running else None

    def _end_up(self, slot: Slot) -> None:
        if (up := self._ups.pop(slot, None)) is not None:
            up.process.end(_GRACE)

    def _finish_down(self, slot: Slot) -> None:
        if (down := self._downs.pop(slot, None)) is not None and down.wait(_GRACE) is None:
            down.end(_GRACE)
            # The engine goes on stopping what it was asked to: nobody may take that for a server that runs.
            self._things.clear(self._project(slot), slot, _GRACE)

    def _start(self, argv: tuple[str, ...], text: str) -> Running:
        env = self._endpoint.variables()
        return self._launcher.start(argv, cwd=NOWHERE, env=env, on_line=_unheard, stdin=text.encode())

    def _project(self, slot: Slot | None) -> str:
        return f"{self._owner.project}-{slot or 'router'}"

    def _name(self, task: Task, slot: Slot | None) -> str:
        return f"{self._project(slot)}-{task}-1"

    def _volume(self, slot: Slot | None) -> str:
        return f"{self._project(slot)}-models" if slot else f"{self._owner.project}-state"


def _unheard(line: str) -> None:
    """What Compose says counts only when it fails: then its last lines are asked for."""
