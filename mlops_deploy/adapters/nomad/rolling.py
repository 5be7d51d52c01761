"""A service as one job on a cluster, whose deployments are the cluster's own; see `ports.Rolling`."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from mlops_deploy.adapters.faults import Fault
from mlops_deploy.adapters.keeper import TRIES
from mlops_deploy.adapters.nomad.allocations import Allocation, judge, started_by
from mlops_deploy.adapters.nomad.client import NomadClient, Reply
from mlops_deploy.adapters.nomad.evaluations import blocked_at_first
from mlops_deploy.adapters.nomad.execution import exec_stream
from mlops_deploy.adapters.nomad.forecasting import forecast
from mlops_deploy.adapters.nomad.logs import follow as followed
from mlops_deploy.adapters.nomad.logs import last_lines
from mlops_deploy.adapters.nomad.slot_job import SlotJob
from mlops_deploy.errors import DeployError, UnreachableError, UnusableInputError
from mlops_deploy.ports import Task
from mlops_deploy.release.forecast import Forecast
from mlops_deploy.release.rolling import RollingState, RollingView
from mlops_deploy.release.state import Artefact, Cause
from mlops_deploy.render.nomad_rolling import rolling_document
from mlops_deploy.spec.owner import Owner

_SHOWN: Final = 20
_TAIL: Final = 8192
_WORDLESS: Final = "its proof has said nothing, as one that never ran"


class NomadRolling:
    """The job `<project>` with `count` servers in the namespace of `client`."""

    def __init__(self, owner: Owner, count: int, client: NomadClient) -> None:
        self._owner = owner
        self._count = count
        self._client = client

    def view(self) -> RollingView:
        """See `ports.Rolling`."""
        found = self._job()
        if found is None:
            return RollingView(state="absent", wanted=self._count)
        job = SlotJob.read(found)
        if job.stopped:
            return RollingView(state="absent", version=job.version, index=job.index, wanted=self._count)
        deployment = self._client.deployment_of(job.id)
        mine = deployment if deployment is not None and deployment["JobVersion"] == job.version else None
        theirs = self._client.allocations(job.id)
        ours = started_by(job, [Allocation.read(one) for one in theirs])
        healthy = {one["ID"] for one in theirs if (one.get("DeploymentStatus") or {}).get("Healthy")}
        group = {} if mine is None else next(iter(mine["TaskGroups"].values()))
        evaluations = self._client.raw("GET", f"job/{job.id}/evaluations")
        cause = self._cause(job, ours, mine, evaluations)
        return RollingView(
            state="failed" if cause is not None else _state(found, mine, group),
            version=job.version,
            index=job.index,
            key=job.key,
            content=job.content,
            deployment=None if mine is None else mine["ID"],
            servers=tuple(one.id for one in ours if one.wanted and one.status == "running" and one.id in healthy),
            healthy=group.get("HealthyAllocs", 0),
            wanted=group.get("DesiredCanaries") or group.get("DesiredTotal", self._count),
            cause=cause,
            by_hand=job.labelled is None,
        )

    def forecast(self, artefact: Artefact) -> Forecast:
        """See `ports.Rolling`."""
        document = self._document(artefact)
        return forecast(self._client, document, instead_of=document)

    def register(self, artefact: Artefact, index: int) -> None:
        """See `ports.Rolling`."""
        self._client.register(self._document(artefact), index)

    def prove(self, server: str, command: Sequence[str], seconds: float) -> str | None:
        """See `ports.Rolling`. A proof that seems never to have begun is begun again."""
        why = None
        for _ in range(TRIES):
            if (why := self._unproven(server, command, seconds)) != _WORDLESS:
                break
        return why

    def _unproven(self, server: str, command: Sequence[str], seconds: float) -> str | None:
        try:
            stream = exec_stream(self._client, server, "server", command)
        except UnreachableError as error:
            return error.message
        said = False
        try:
            while stream.receive(seconds):
                said = True
        except OSError as error:
            return None if stream.code == 0 else str(error)
        finally:
            stream.close()
        if stream.code != 0:
            return "the connection ended before its proof did"
        return None if said else _WORDLESS

    def logs(self, task: Task, tail: int, *, follow: bool) -> Iterable[str]:
        """See `ports.Rolling`."""
        found = self._job()
        there = [] if found is None else [Allocation.read(one) for one in self._client.allocations(found["ID"])]
        newest = max(there, key=lambda one: one.order, default=None)
        if newest is None or newest.run(task) is None:
            return ()
        return (followed if follow else last_lines)(self._client, newest.id, task, tail)

    def promote(self, deployment: str) -> None:
        """See `ports.Rolling`."""
        self._client.promote(deployment)

    def take_back(self, now: RollingView, before: RollingView) -> None:
        """See `ports.Rolling`."""
        if now.busy and now.deployment is not None:
            self._client.fail(now.deployment)
        if before.state == "absent":
            self._client.deregister(self._owner.project, purge=False)
            return
        body = {"JobID": self._owner.project, "JobVersion": before.version, "EnforcePriorVersion": now.version}
        done = self._client.raw("POST", f"job/{self._owner.project}/revert", body=body)
        if done.status >= 400:  # noqa: PLR2004 - HTTP's own number
            raise DeployError(f"the job cannot be reverted to version {before.version}: {done.body}")

    def _document(self, artefact: Artefact) -> dict[str, Any]:
        return rolling_document(
            self._owner, artefact.job, count=self._count, content=artefact.content_id.hex, key=artefact.key
        )

    def _job(self) -> dict[str, Any] | None:
        found = self._client.job(self._owner.project)
        if found is not None and not self._owner.owns(found.get("Meta") or {}):
            raise UnusableInputError(
                f"the job `{self._owner.project}` is there and is not of this service: it lacks our `meta`",
                hint="name the service otherwise, or remove that job",
            )
        return found

    def _cause(
        self, job: SlotJob, ours: Sequence[Allocation], deployment: dict[str, Any] | None, evaluations: Reply
    ) -> Cause | None:
        """Why waiting for this version is of no use."""
        for one in sorted(ours, key=lambda alloc: alloc.order):
            said = judge(job, (one,), blocked=None, now=evaluations.date)
            if one.wanted and isinstance(said, Fault):
                return self._told(said, one)
        if not ours and isinstance(
            said := judge(job, (), blocked=blocked_at_first(job, evaluations.body), now=evaluations.date), Fault
        ):
            return Cause(kind=said.kind, message=said.message)
        if deployment is not None and deployment["Status"] in {"failed", "cancelled"}:
            lines = self._lines(ours[-1], "server") if ours else ()
            return Cause(kind="start", message=f"Nomad says: {deployment['StatusDescription'].lower()}", lines=lines)
        return None

    def _told(self, fault: Fault, one: Allocation) -> Cause:
        lines = fault.lines if fault.task is None else self._lines(one, fault.task)
        return Cause(kind=fault.kind, message=fault.message, lines=lines)

    def _lines(self, one: Allocation, task: str) -> tuple[str, ...]:
        said = "".join(self._client.logs(one.id, task, stream, _TAIL) for stream in ("stdout", "stderr"))
        return tuple(said.splitlines()[-_SHOWN:])


def _state(job: dict[str, Any], deployment: dict[str, Any] | None, group: dict[str, Any]) -> RollingState:
    """How far the cluster is; a deployment comes a moment after its job, and is forgotten hours after its end."""
    if deployment is None:
        return "settled" if job.get("Stable") else "starting"
    if deployment["Status"] == "successful":
        return "settled"
    canaries = group.get("DesiredCanaries", 0)
    if canaries and not group["Promoted"]:
        return "waiting" if group["HealthyAllocs"] >= canaries else "starting"
    return "rolling" if canaries else "starting"
