"""The target `nomad`: each slot and the router a job of its own, their state told by the cluster."""

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, Final
from uuid import uuid4

from mlops_deploy.adapters.faults import Fault
from mlops_deploy.adapters.keeper import KEEPER, Stream
from mlops_deploy.adapters.nomad.allocations import Allocation, ending, restarts, unready
from mlops_deploy.adapters.nomad.client import NomadClient
from mlops_deploy.adapters.nomad.errors import ForbiddenError
from mlops_deploy.adapters.nomad.execution import exec_stream
from mlops_deploy.adapters.nomad.forecasting import forecast
from mlops_deploy.adapters.nomad.keeper import NomadKeeper
from mlops_deploy.adapters.nomad.logs import follow as followed
from mlops_deploy.adapters.nomad.logs import last_lines, last_words
from mlops_deploy.adapters.nomad.router import NomadRouter
from mlops_deploy.adapters.nomad.slots import Look, Slots
from mlops_deploy.adapters.nomad.volumes import Volumes
from mlops_deploy.errors import UnreachableError
from mlops_deploy.ports import Keeper, Task
from mlops_deploy.release.forecast import Forecast
from mlops_deploy.release.state import SLOTS, Artefact, Cause, End, Route, Slot, SlotView
from mlops_deploy.render.nomad import slot_document, volume_of
from mlops_deploy.render.nomad_router import TASK, router_id
from mlops_deploy.render.nomad_tasks import MODELS
from mlops_deploy.spec.nomad import NomadSpec
from mlops_deploy.spec.owner import LABEL, Owner
from mlops_deploy.spec.rendered import JobImage

EDITED: Final = "somebody has changed its job by hand, so it is not what a release has put here"
_SHOWN: Final = 20
_FRESH: Final = 5.0
"""Seconds after its end in which a task's last words may not all have been written down; clocks differ a little."""

_ROOM: Final = 8.0
"""Seconds that what has no traffic gets to end, when it makes room."""


class NomadTarget:
    """One service in one namespace of a cluster; see `ports.Target`.

    The router is given `port` on its node and runs the image `router`.
    """

    def __init__(self, owner: Owner, port: int, router: JobImage, nomad: NomadSpec, client: NomadClient) -> None:
        self._owner = owner
        self._port = port
        self._router_image = router
        self._nomad = nomad
        self._client = client

    @cached_property
    def _slots(self) -> Slots:
        return Slots(self._owner, self._client)

    @cached_property
    def _volumes(self) -> Volumes:
        return Volumes(self._owner, self._client)

    @cached_property
    def _router(self) -> NomadRouter:
        return NomadRouter(self._owner, self._port, self._router_image, self._nomad, self._client)

    def ensure(self, slot: Slot, artefact: Artefact) -> None:
        """See `ports.Target`. The cluster goes on by itself, whatever becomes of us."""
        look = self._slots.look(slot)
        if look.runs(artefact.key):
            return
        document = self._document(slot, artefact)
        if look.job is not None and look.job.labelled == artefact.key:
            # The very job that is there already would start nothing.
            document["Meta"] = document["Meta"] | {f"{LABEL}start": uuid4().hex}
        cleared = self._make_volume(slot, artefact.content_id.hex, document)
        self._slots.register(document, self._slots.stopped_job(slot) if cleared else look.job)

    def observe(self, slot: Slot) -> SlotView:
        """See `ports.Target`."""
        look = self._slots.look(slot)
        said, held = look.judged, look.held
        there = look.job is not None and said != "absent"
        return SlotView(
            slot=slot,
            state="failed" if isinstance(said, Fault) else said,
            key=look.job.key if look.job and there else None,
            content=look.job.content if look.job and there else None,
            revision=held.id[:12] if held and there else "",
            restarts=restarts(look.job, look.allocations),
            cause=self._cause(look, said) if isinstance(said, Fault) else None,
            ended=self._ended(look) if said in {"running", "stopped"} else None,
            remark=_remark(look),
        )

    def stop(self, slot: Slot, grace: float) -> None:  # noqa: ARG002 - the job itself says how long its server gets
        """See `ports.Target`; the seconds are those of `release.drain`, which the job has from its artefact."""
        self._slots.stop(slot)

    def logs(self, task: Task, slot: Slot | None, tail: int, *, follow: bool) -> Iterable[str]:
        """See `ports.Target`; nothing when there is no such task."""
        found = self._router.allocation() if slot is None else self._held(slot)
        if found is None:
            return ()
        return followed(self._client, found, task, tail) if follow else last_lines(self._client, found, task, tail)

    def forecast(self, slot: Slot, live: Slot | None, artefact: Artefact) -> Forecast:
        """What the cluster says of `artefact` in `slot`, and how its job differs from that of the slot that is live."""
        there = live is not None and self._slots.job(live) is not None
        against = self._document(live, artefact) if live and there else None
        return forecast(self._client, self._document(slot, artefact), instead_of=against)

    def make_router(self, config: str) -> None:
        """See `ports.Target`."""
        self._router.make(config)

    def router_differs(self) -> str | None:
        """See `ports.Target`."""
        return self._router.differs()

    def replace_router(self, config: str) -> None:
        """See `ports.Target`."""
        self._router.replace(config)

    def restore_state(self, config: str, *, blind: bool) -> Route | None:
        """See `ports.Target`."""
        return self._router.restore(config, blind=blind)

    def keeper(self) -> Keeper | None:
        """See `ports.Target`."""
        if self._router.allocation() is None:
            return None
        return NomadKeeper(self._client, router_id(self._owner), self._connected)

    def remove(self, *, volumes: bool, before_router: Callable[[], None] = lambda: None) -> None:
        """See `ports.Target`; with `volumes` also the Variables that hold the service's state."""
        for slot in SLOTS:
            self._slots.clear(slot, _ROOM, purge=True)
        before_router()
        self._router.remove()
        if not volumes:
            return
        self._remove_volumes()
        self._router.remove_state()

    def _remove_volumes(self) -> None:
        """Remove the slots' own volumes, also those that an earlier configuration has made."""
        try:
            for slot in SLOTS:
                self._volumes.remove(f"{self._slots.name(slot)}-{MODELS}", slot)
        except ForbiddenError:
            if self._nomad.volume.kind == "dynamic":
                raise  # else a token need not have a right that the service does not use

    def _document(self, slot: Slot, artefact: Artefact) -> dict[str, Any]:
        return slot_document(self._owner, slot, artefact.job, content=artefact.content_id.hex, key=artefact.key)

    def _connected(self) -> Stream:
        """The keeper in the router's task, wherever that is by now."""
        found = self._router.allocation()
        if found is None:
            raise UnreachableError("the router does not run now", hint="`mlops-deploy status` tells when it does")
        return exec_stream(self._client, found, TASK, KEEPER)

    def _make_volume(self, slot: Slot, content: str, document: dict[str, Any]) -> bool:
        """Make the slot's own volume, when the job wants one, and anew when it holds another model.

        Whether the slot had to be cleared for that, which changes the index of its job.
        """
        wanted = volume_of(document)
        if wanted is None or not wanted[1]:
            return False
        name, _ = wanted
        there = self._volumes.content(name, slot)
        if there == content:
            return False
        if there is not None:
            self._slots.clear(slot, _ROOM, purge=False)
            self._volumes.remove(name, slot)
        self._volumes.create(name, slot, content, document, self._nomad.volume.size or 0)
        return there is not None

    def _held(self, slot: Slot) -> str | None:
        held = self._slots.look(slot).held
        return held.id if held else None

    def _cause(self, look: Look, fault: Fault) -> Cause:
        lines = fault.lines
        if fault.task is not None and look.held is not None:
            lines = self._last_words(look, look.held, fault.task)
        return Cause(kind=fault.kind, message=fault.message, lines=lines)

    def _ended(self, look: Look) -> End | None:
        message = ending(look.held, look.now)
        if message is None or look.held is None:
            return None
        return End(message=message, lines=self._last_words(look, look.held, "server"))

    def _last_words(self, look: Look, held: Allocation, task: Task) -> tuple[str, ...]:
        run = held.run(task)
        fresh = run is not None and look.now - run.ended < _FRESH
        return last_words(self._client, held.id, task, _SHOWN, fresh=fresh)


def _remark(look: Look) -> str:
    if look.job is None or look.judged == "absent":
        return ""
    if look.job.edited:
        return EDITED
    return unready(look.job, look.held, look.blocked) if look.judged == "preparing" else ""
