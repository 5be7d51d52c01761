"""What the product asks of a Nomad API. Jobs, deployments, allocations and variables go through python-nomad."""

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any, Final, Literal

import nomad
import requests

from mlops_deploy.adapters.nomad.errors import (
    AbsentError,
    ForbiddenError,
    bad_token,
    document,
    no_namespace,
    silence,
    strange,
    too_old,
)
from mlops_deploy.adapters.nomad.session import PATIENCE, Session
from mlops_deploy.adapters.nomad.settings import Cluster
from mlops_deploy.errors import ConflictError, DeployError, UnreachableError

Document = dict[str, Any]
Params = Mapping[str, str | int | bool]

_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer: `body` is the decoded JSON or None, `index` for blocking queries, `date` seconds since 1970.

    With status 404 or 409 `body` is the text of the server.
    """

    status: int
    body: Any
    index: int
    date: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A Variable: `index` for check-and-set, `modified` in nanoseconds since 1970, `age` in seconds.

    Both times are by the clocks of the servers.
    """

    items: dict[str, str]
    index: int
    age: float
    modified: int


class NomadClient:
    """One namespace of one cluster. Every call ends within seconds; every error is a `DeployError`.

    `UnreachableError`: nobody answers, or the servers are without a leader. `UnusableInputError`: a token without the
    right, an unknown namespace, a server too old. The first call makes sure that a Nomad API answers and knows the
    namespace: a cluster would take Variables also for one that is not there.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster: Final = cluster
        self.namespace: Final = cluster.namespace

    @cached_property
    def _session(self) -> Session:
        """Where a Nomad API answers, and the namespace is there."""
        session = Session(self.cluster)
        leader = session.ask("GET", f"{self.cluster.address}/v1/status/leader")
        if not leader.ok or not isinstance(document(self.cluster, leader), str):
            raise strange(self.cluster, leader)
        try:
            space = session.ask("GET", f"{self.cluster.address}/v1/namespace/{self.namespace}")
        except ForbiddenError:
            if self.cluster.token is not None and not _is_known(self.cluster, session):
                raise bad_token(self.cluster) from None
            raise
        if space.status_code == requests.codes.not_found:
            raise no_namespace(self.namespace)
        return session

    @cached_property
    def _library(self) -> nomad.Nomad:
        """python-nomad: it makes the requests, `Session` sends them and judges the answers."""
        settings = {"address": self.cluster.address, "namespace": self.namespace, "timeout": PATIENCE, "verify": True}
        return nomad.Nomad(**settings, session=self._session)

    def check(self) -> None:
        """Raise what stands in the way of any call; nothing otherwise."""
        _ = self._session

    def raw(
        self, method: str, path: str, *, params: Params | None = None, body: object = None, seconds: float = PATIENCE
    ) -> Reply:
        """One request that python-nomad cannot make, `path` without `/v1/`; 404 and 409 are answers, not errors.

        A blocking query (`index` and `wait` in `params`) needs `seconds` above 17/16 of `wait`.
        """
        url = f"{self.cluster.address}/v1/{path}"
        answer = self._session.ask(method, url, params=dict(params or {}), json=body, timeout=seconds)
        body = document(self.cluster, answer) if answer.ok and answer.content else answer.text or None
        return Reply(
            status=answer.status_code,
            body=body,
            index=int(answer.headers.get("X-Nomad-Index", 0)),
            date=_date(answer),
        )

    def version(self) -> str | None:
        """The version of the agent that answers; None when the token may not ask for it (`agent:read`)."""
        try:
            return str(_one(self.raw("GET", "agent/self").body)["member"]["Tags"]["build"])
        except ForbiddenError:
            return None

    def require(self, what: str, since: str) -> None:
        """Raise `UnusableInputError` when the agent is older than `since`, which `what` needs.

        Where the token may not ask for the version, nothing is raised: the request itself will tell.
        """
        found = self.version()
        if found is not None and _numbers(found) < _numbers(since):
            raise too_old(what, since, found)

    def job(self, job_id: str) -> Document | None:
        """The job as the cluster has it, None when there is none; one that was stopped is there until it is purged."""
        try:
            return _one(self._library.job.get_job(job_id))
        except AbsentError:
            return None

    def register(self, job: Document, index: int | None) -> str:
        """Register `job` when the `JobModifyIndex` of the one that is there is `index`: 0 for none, None for any.

        The id of the evaluation, empty for a periodic job. `ConflictError` when somebody else has changed the job.
        """
        enforced = {} if index is None else {"EnforceIndex": True, "JobModifyIndex": index}
        done = self._library.jobs.register_job({"Job": job, **enforced})
        return str(_one(done)["EvalID"])

    def plan(self, job: Document) -> Document:
        """What registering `job` would do: `Diff`, `Annotations`, `FailedTGAllocs`, `JobModifyIndex`, `Warnings`."""
        return _one(self._library.job.plan_job(job["ID"], {"Job": job}, diff=True))

    def deregister(self, job_id: str, *, purge: bool) -> None:
        """Stop a job, with `purge` forget it too; an absent one stays absent."""
        self._library.job.deregister_job(job_id, purge=purge)

    def allocations(self, job_id: str) -> list[Document]:
        """The allocations of the job of that name that is there now, without those of one that was purged."""
        return _many(self._library.job.get_allocations(job_id))

    def allocation(self, alloc_id: str) -> Document:
        """One allocation, whole."""
        return _one(self._library.allocation.get_allocation(alloc_id))

    def evaluation(self, eval_id: str) -> Document:
        """One evaluation, whole."""
        return _one(self._library.evaluation.get_evaluation(eval_id))

    def deployment_of(self, job_id: str) -> Document | None:
        """The newest deployment of a job, None when it has none."""
        found = self._library.job.get_deployment(job_id)
        return None if found is None else _one(found)

    def promote(self, deployment_id: str) -> None:
        """Promote the canaries of every group."""
        self._library.deployment.promote_deployment_all(deployment_id)

    def fail(self, deployment_id: str) -> None:
        """Give a deployment up."""
        self._library.deployment.fail_deployment(deployment_id)

    def logs(self, alloc_id: str, task: str, stream: Literal["stdout", "stderr"], tail_bytes: int) -> str:
        """The last bytes that a task wrote; empty when it has not begun to, or its node has let go of it."""
        read = self._library.client.stream_logs.stream
        try:
            return str(read(alloc_id, task, stream, offset=tail_bytes, origin="end", plain=True))
        except AbsentError:
            return ""

    def stream(self, path: str, params: Params) -> Iterator[bytes]:
        """An answer piece by piece as it comes, for as long as a piece comes every few seconds; nothing for a 404."""
        with self._session.ask("GET", f"{self.cluster.address}/v1/{path}", params=dict(params), stream=True) as answer:
            if not answer.ok:
                return
            try:
                yield from answer.iter_content(chunk_size=None)
            except requests.RequestException as error:
                raise silence(self.cluster, error) from error

    def variable(self, path: str) -> Variable | None:
        """A Variable, None when there is none."""
        reply = self.raw("GET", f"var/{path}")
        if reply.status == requests.codes.not_found:
            return None
        body = _one(reply.body)
        modified = int(body["ModifyTime"])
        age = max(0.0, reply.date - modified / _NS)
        return Variable(items=dict(body["Items"]), index=int(body["ModifyIndex"]), age=age, modified=modified)

    def put_variable(self, path: str, items: Mapping[str, str], index: int) -> int | None:
        """Write a Variable whole when its index is still `index`, 0 for one that is not there yet.

        The new index; None when somebody else was there before. `DeployError` when keys and values together have
        more than 64 KiB: then nothing is written.
        """
        try:
            written = self._library.variable.create_variable(path, {"Items": dict(items)}, cas=index)
        except ConflictError:
            return None
        except AbsentError as error:
            raise too_old("a Variable", "1.4") from error
        return int(_one(written)["ModifyIndex"])

    def variables(self, prefix: str) -> list[str]:
        """The paths of the Variables that begin with `prefix`, in order."""
        return sorted(str(one["Path"]) for one in _many(self._library.variables.get_variables(prefix)))

    def delete_variable(self, path: str, index: int | None = None) -> bool:
        """Delete a Variable, with `index` only while that is its index: False for another; absent ones stay absent."""
        try:
            self._library.variable.delete_variable(path, cas=index)
        except ConflictError:
            return False
        return True

    def services(self, name: str) -> list[Document]:
        """The registrations of a service of provider nomad: `Address`, `Port`, `AllocID` and more, healthy or not."""
        return _many(self.raw("GET", f"service/{name}").body)


def _is_known(cluster: Cluster, session: Session) -> bool:
    """Whether the token is one: servers say of an unknown one only that it may not."""
    try:
        return session.ask("GET", f"{cluster.address}/v1/acl/token/self").ok
    except UnreachableError:
        raise
    except DeployError:
        return False


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _one(body: object) -> Document:
    if not isinstance(body, dict):
        raise _unexpected(body)
    return body


def _many(body: object) -> list[Document]:
    if not isinstance(body, list):
        raise _unexpected(body)
    return body


def _unexpected(body: object) -> UnreachableError:
    return UnreachableError(
        f"the Nomad API gave what cannot be understood: `{str(body)[:80]}`", hint="see which proxy is in between"
    )


def _date(answer: requests.Response) -> float:
    """The time at the agent that answered, in whole seconds; ours, where a proxy has removed it."""
    said = answer.headers.get("Date")
    return parsedate_to_datetime(said).timestamp() if said else time.time()
