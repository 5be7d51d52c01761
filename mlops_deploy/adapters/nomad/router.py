"""The router's job: registered once, registered again when it was stopped, another one only when that is asked for."""

import time
from collections.abc import Callable
from typing import Any, Final
from uuid import uuid4

from mlops_deploy.adapters.keeper import KEEPER, KeeperClient
from mlops_deploy.adapters.nomad.allocations import ACTIVE
from mlops_deploy.adapters.nomad.client import NomadClient
from mlops_deploy.adapters.nomad.evaluations import blocked
from mlops_deploy.adapters.nomad.execution import exec_stream
from mlops_deploy.adapters.nomad.ledger import Ledger
from mlops_deploy.adapters.nomad.router_start import Held, failure, is_over, unplaced
from mlops_deploy.adapters.nomad.slot_job import SlotJob
from mlops_deploy.adapters.nomad.slots import not_ours
from mlops_deploy.adapters.nomad.writing import checked_config
from mlops_deploy.errors import ConflictError, DeployError, NeedsHumanError, UnreachableError
from mlops_deploy.release.state import CLOSED, Route
from mlops_deploy.render.nomad_router import KEY, TASK, router_document, router_id, router_variable
from mlops_deploy.spec.nomad import NomadSpec
from mlops_deploy.spec.owner import LABEL, Owner
from mlops_deploy.spec.rendered import JobImage

DEADLINE: Final = 60.0
"""Seconds for a router to answer, beside those for pulling an image that a node does not have."""

_SINCE: Final = "1.5"
"""The first Nomad whose tasks can ask its API by themselves, which is how a router reads its route."""

_PAUSE: Final = 0.2
_ANSWER: Final = 5.0
_ENDING: Final = 10.0
_LAST_WORDS: Final = 4000

Document = dict[str, Any]


class NomadRouter:
    """The router of one service in the namespace of `client`; see `ports.Target` for what its methods promise."""

    def __init__(self, owner: Owner, port: int, image: JobImage, nomad: NomadSpec, client: NomadClient) -> None:
        self._owner = owner
        self._port = port
        self._image = image
        self._nomad = nomad
        self._client = client
        self._id = router_id(owner)
        self._path = router_variable(owner)
        self._ledger = Ledger(client, self._id)

    def make(self, config: str) -> None:
        """See `ports.Target.make_router`. Of several who do it at once one registers the job; all wait for it."""
        before = self._job()
        if before is None or before["Stop"]:
            self._start(before, config)
        elif self.allocation() is None:
            self._wait(new=False)

    def differs(self) -> str | None:
        """See `ports.Target.router_differs`."""
        found, wanted = self._job(), self._document()
        if found is None or found["Meta"].get(KEY) == wanted["Meta"][KEY]:
            return None
        image, port = _setup(found)
        said = [f"it runs the image `{image}`, not `{self._image.ref}`"] if image != self._image.ref else []
        said += [f"it listens on port {port}, not {self._port}"] if port != self._port else []
        return " and ".join(said) or "its job is not as it would be registered now"

    def replace(self, config: str) -> None:
        """See `ports.Target.replace_router`."""
        before = self._job()
        if before is None or before["Stop"]:
            return self._start(before, config)
        earlier = self._write_config(checked_config(config))
        fresh = self._document()
        if before["Meta"].get(KEY) == fresh["Meta"][KEY]:
            # The very job that is there already would start nothing.
            fresh["Meta"] = fresh["Meta"] | {f"{LABEL}start": uuid4().hex}
        self._client.register(fresh, before["JobModifyIndex"])
        try:
            self._wait(new=True)
        except DeployError as failed:
            self._write_config(earlier)
            self._client.register(before, None)
            self._wait_again(failed)
            raise

    def _wait_again(self, failed: DeployError) -> None:
        """Wait for the router that was there before the one that `failed`."""
        try:
            self._wait(new=True)
        except DeployError as also:
            what = f"{failed.message}; and the router before it does not come up again: {also.message}"
            raise NeedsHumanError(what, hint=f"see `nomad job status {self._id}`", detail=failed.detail) from also

    def remove(self) -> None:
        """Remove its job, and wait some seconds until it has ended; what it follows stays."""
        if self._job() is None:
            return
        active = [one["ID"] for one in self._client.allocations(self._id) if one["ClientStatus"] in ACTIVE]
        self._client.deregister(self._id, purge=True)
        until = time.monotonic() + _ENDING
        while active and time.monotonic() < until:
            time.sleep(_PAUSE)
            active = [one for one in active if self._runs(one)]

    def allocation(self) -> str | None:
        """The allocation that runs it, None when none does."""
        job = self._job()
        if job is None or job["Stop"]:
            return None
        held = Held.newest(job, self._client.allocations(self._id))
        return held.id if held is not None and held.running else None

    def _runs(self, allocation: str) -> bool:
        """Whether anything of it may still run; one that the cluster has forgotten has ended."""
        found = self._client.raw("GET", f"allocation/{allocation}").body
        return isinstance(found, dict) and found["ClientStatus"] in ACTIVE

    def _start(self, before: Document | None, config: str) -> None:
        """Register the job where none runs; one that does not come up is taken back, if it is ours."""
        self._client.require("a service on Nomad", _SINCE)
        self._client.plan(self._document())  # who may not register it is told so before anything is written
        self._ledger.index()  # nor who may not read what the router follows
        made = self._open(checked_config(config), change=before is None)
        opened = made or self._ledger.index()
        try:
            self._client.register(self._document(), before["JobModifyIndex"] if before else 0)
        except ConflictError:
            return self._wait(new=False)
        try:
            self._wait(new=True)
        except DeployError as failed:
            self._take_back(failed, made=made, opened=opened, purge=before is None)
            raise

    def _take_back(self, failed: DeployError, *, made: int | None, opened: int, purge: bool) -> None:
        """Remove what was begun for nothing; a ledger that was written since is in use, and its router with it."""
        try:
            if self._ledger.index() not in {0, opened}:
                return
            self._client.deregister(self._id, purge=purge)
            if made is not None:
                self._client.delete_variable(self._path, made)
        except DeployError as also:
            failed.detail += (f"what was begun could not be taken back: {also.message}",)

    def restore(self, config: str, *, blind: bool) -> Route | None:
        """See `ports.Target.restore_state`."""
        if self._ledger.index():
            return None
        self._job()
        route = self._applied(blind=blind)
        return route if self._ledger.lay_out(config, route) else None

    def _applied(self, *, blind: bool) -> Route:
        """The route in force, closed where no router runs; who goes on `blind` takes a silent one for closed too."""
        found = self.allocation()
        if found is None:
            return CLOSED
        keeper = KeeperClient(lambda: exec_stream(self._client, found, TASK, KEEPER), _ANSWER)
        try:
            return keeper.observed().applied or CLOSED
        except UnreachableError as silent:
            if blind:
                return CLOSED
            raise NeedsHumanError(
                f"the state of the service is gone, and its router does not say where requests go: {silent.message}",
                hint="`mlops-deploy router apply --replace` lays the state out anew with the route closed, so that "
                "nobody gets an answer until the next release; `mlops-deploy down --volumes` ends the service",
            ) from silent
        finally:
            keeper.close()

    def remove_state(self) -> None:
        """Remove the variable that the router follows, the last of all, and what belongs to it.

        Raises `UnusableInputError` for a token that may not: what it may not read is left out of a list without a word.
        """
        listed = self._client.variables(self._path)
        if self._path not in listed:
            self._ledger.index()
        for path in listed:
            if path.startswith(f"{self._path}/"):
                self._client.delete_variable(path)
        self._client.delete_variable(self._path)

    def _open(self, config: str, *, change: bool) -> int | None:
        """Make the variable that the router follows, closed, where there is none; its index when this did it."""
        made = self._ledger.lay_out(config)
        if made is None and change:
            self._ledger.configure(config)
        return made

    def _write_config(self, config: str) -> str:
        """Change the configuration in the variable and nothing else of it; the one before."""
        self._ledger.lay_out(config)
        earlier = self._ledger.book().config
        self._ledger.configure(config)
        return earlier

    def _wait(self, *, new: bool) -> None:
        """Until the router answers; raise what keeps it from that."""
        since = time.monotonic()
        late = since + DEADLINE + (0.0 if self._image.local else self._nomad.pull_timeout)
        while True:
            held = self._borne(lambda: self._looked(time.monotonic() - since), late)
            if held is not None and held.running and self._answers(held):
                return
            if held is not None and is_over(held, new=new):
                raise failure(held, self._image.ref, self._last_words(held))
            if time.monotonic() > late:
                raise self._overdue(held)
            time.sleep(_PAUSE)

    @staticmethod
    def _borne(look: Callable[[], Held | None], late: float) -> Held | None:
        """What `look` sees; nothing, until it is `late`, while the cluster elects a leader, say."""
        try:
            return look()
        except UnreachableError:
            if time.monotonic() > late:
                raise
            return None

    def _looked(self, waited: float) -> Held | None:
        job = self._job()
        if job is None or job["Stop"]:
            raise ConflictError("the router was stopped meanwhile", hint="run this again")
        held = Held.newest(job, self._client.allocations(self._id))
        if held is None:
            self._refuse_nowhere(SlotJob.read(job), waited)
        return held

    def _refuse_nowhere(self, job: SlotJob, waited: float) -> None:
        stuck = blocked(job, self._client.raw("GET", f"job/{self._id}/evaluations").body)
        wrong = None if stuck is None else unplaced(job, stuck.metric, waited)
        if wrong is not None:
            raise wrong

    def _answers(self, held: Held) -> bool:
        """Whether its keeper does, and HAProxy its keeper."""
        keeper = KeeperClient(lambda: exec_stream(self._client, held.id, TASK, KEEPER), _ANSWER)
        try:
            return keeper.observed().applied is not None
        except UnreachableError:
            return False
        finally:
            keeper.close()

    def _overdue(self, held: Held | None) -> DeployError:
        lines = self._last_words(held) if held else ()
        where = f" on node `{held.node}`" if held else ""
        hint = f"see `nomad job status {self._id}`"
        return UnreachableError(f"the router{where} does not answer after {DEADLINE:g} s", hint=hint, detail=lines)

    def _last_words(self, held: Held) -> tuple[str, ...]:
        return tuple(self._client.logs(held.id, TASK, "stderr", _LAST_WORDS).splitlines()[-20:])

    def _job(self) -> Document | None:
        found = self._client.job(self._id)
        if found is not None and not self._owner.owns(found.get("Meta") or {}):
            raise not_ours(self._id)
        return found

    def _document(self) -> Document:
        return dict(router_document(self._owner, self._port, self._image, self._nomad))


def _setup(job: Document) -> tuple[str, int]:
    """The image that a job runs, and the port that it listens on."""
    (group,) = job["TaskGroups"]
    return group["Tasks"][0]["Config"]["image"], group["Networks"][0]["ReservedPorts"][0]["Value"]
