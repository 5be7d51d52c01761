"""The jobs of a service's slots in a cluster. What is not ours is refused, never touched."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

from mlops_deploy.adapters.faults import Fault
from mlops_deploy.adapters.nomad.allocations import Allocation, current, judge
from mlops_deploy.adapters.nomad.client import NomadClient, Params
from mlops_deploy.adapters.nomad.evaluations import Blocked, blocked
from mlops_deploy.adapters.nomad.slot_job import SlotJob
from mlops_deploy.errors import ConflictError, UnusableInputError
from mlops_deploy.release.state import SLOTS, Slot, SlotState
from mlops_deploy.spec.owner import Owner

_MARGIN: Final = 5.0
"""Seconds that an answer may take beyond what it was asked to wait for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a cluster says of a slot: its job, its allocations, and what came of looking for a node; `now` its clock."""

    job: SlotJob | None
    allocations: tuple[Allocation, ...]
    blocked: Blocked | None
    now: float

    @property
    def held(self) -> Allocation | None:
        """The allocation that counts."""
        return current(self.job, self.allocations)

    @property
    def judged(self) -> SlotState | Fault:
        """How the slot is."""
        return judge(self.job, self.allocations, blocked=self.blocked, now=self.now)

    def runs(self, key: str) -> bool:
        """Whether the artefact `key` is there, or on its way, and will stay."""
        wanted = self.job is not None and not self.job.stopped and self.job.key == key
        return wanted and self.judged in {"running", "preparing"}


class Slots:
    """The slots of one service in the namespace of `client`."""

    def __init__(self, owner: Owner, client: NomadClient) -> None:
        self._owner = owner
        self._client = client

    def name(self, slot: Slot) -> str:
        """What the job of `slot` is called."""
        return f"{self._owner.project}-{slot}"

    def job(self, slot: Slot) -> SlotJob | None:
        """The job of `slot`, None when there is none."""
        found = self._client.job(self.name(slot))
        if found is None:
            return None
        if not self._owner.owns(found.get("Meta") or {}, slot):
            raise not_ours(self.name(slot))
        return SlotJob.read(found)

    def stopped_job(self, slot: Slot) -> SlotJob | None:
        """The job of `slot` after it was cleared; `ConflictError` when somebody has begun something in it since."""
        job = self.job(slot)
        if job is not None and not job.stopped:
            raise ConflictError("somebody else has changed the job meanwhile", hint="plan again")
        return job

    def look(self, slot: Slot) -> Look:
        """What there is of `slot` now."""
        job = self.job(slot)
        found = self._client.allocations(self.name(slot)) if job else []
        allocations = tuple(map(Allocation.read, found))
        held = current(job, allocations)
        placed = held is not None and held.status != "lost"
        stuck = None if job is None or job.stopped or placed else self._blocked(job)
        return Look(job=job, allocations=allocations, blocked=stuck, now=time.time() + self._ahead)

    def register(self, document: Mapping[str, Any], before: SlotJob | None) -> None:
        """Make `document` the job, unless somebody else has changed the one that was there `before`."""
        self._client.register(dict(document), before.index if before else 0)

    def stop(self, slot: Slot) -> None:
        """Begin to stop the job of `slot`; the cluster still knows it afterwards."""
        job = self.job(slot)
        if job is not None and not job.stopped:
            self._client.deregister(job.id, purge=False)

    def clear(self, slot: Slot, seconds: float, *, purge: bool) -> None:
        """Stop the job of `slot`, and wait at most `seconds` until nothing of it runs; with `purge` forget it too."""
        look = self.look(slot)
        if look.job is None:
            return
        if not look.job.stopped:
            self._client.deregister(look.job.id, purge=False)
        self._wait_until_ended(look.job.id, seconds)
        if purge:  # only now: a cluster knows nothing any more of what is left of a job that was forgotten
            self._client.deregister(look.job.id, purge=True)

    def _wait_until_ended(self, job_id: str, seconds: float) -> None:
        """Wait at most `seconds` for the news that nothing of a job runs any more."""
        index, until = 0, time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            waiting: Params = {"index": index, "wait": f"{math.ceil(left * 1000)}ms"}
            found = self._client.raw("GET", f"job/{job_id}/allocations", params=waiting, seconds=left + _MARGIN)
            if not any(Allocation.read(one).active for one in found.body or ()):
                return
            index = found.index

    @cached_property
    def _ahead(self) -> float:
        """Seconds by which the cluster's clock is ahead of ours."""
        return self._client.raw("GET", "status/leader").date - time.time()

    def _blocked(self, job: SlotJob) -> Blocked | None:
        found = blocked(job, self._client.raw("GET", f"job/{job.id}/evaluations").body)
        return found and replace(found, changing=self._changing())

    def _changing(self) -> bool:
        """Whether something of the service is about to leave its node."""
        found = [Allocation.read(one) for slot in SLOTS for one in self._client.allocations(self.name(slot))]
        return any(one.active and not one.wanted for one in found)


def not_ours(job_id: str) -> UnusableInputError:
    """A job of our name that does not say that it is this service's."""
    return UnusableInputError(
        f"there is a job `{job_id}`, and its meta does not say that it is this service's",
        hint=f"see what it is with `nomad job status {job_id}`; choose another `service`, or another namespace",
    )
