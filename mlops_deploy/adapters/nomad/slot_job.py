"""The job of a slot as a cluster holds it: what it asks for, and what it says of itself. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from mlops_deploy.ports import Task
from mlops_deploy.render.nomad_fingerprint import fingerprint, is_edited
from mlops_deploy.render.nomad_tasks import MODELS
from mlops_deploy.spec.owner import LABEL


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotJob:
    """One registered job. `version` counts its registrations, `index` is that of the last one; memory in MiB.

    One that was scaled to nothing is `stopped` too. `edited`: somebody has changed what it runs and left its meta as it
    was; then `fingerprint` alone tells what it is.
    """

    id: str
    version: int
    index: int
    stopped: bool
    meta: Mapping[str, str]
    whereabouts: str
    memory: Mapping[str, int]
    drivers: tuple[str, ...]
    devices: tuple[str, ...]
    volumes: tuple[str, ...]
    edited: bool
    fingerprint: str

    @classmethod
    def read(cls, job: Mapping[str, Any]) -> Self:
        """From the API's form, registered or not."""
        group = job["TaskGroups"][0]
        resources = {task["Name"]: task.get("Resources") or {} for task in group["Tasks"]}
        devices = [device["Name"] for asked in resources.values() for device in asked.get("Devices") or ()]
        return cls(
            id=job["ID"],
            version=job.get("Version") or 0,
            index=job.get("JobModifyIndex") or 0,
            stopped=bool(job.get("Stop")) or group.get("Count") == 0,
            meta=job.get("Meta") or {},
            whereabouts=_whereabouts(job),
            memory={name: asked.get("MemoryMB") or 0 for name, asked in resources.items()},
            drivers=tuple(sorted({task["Driver"] for task in group["Tasks"]})),
            devices=tuple(sorted(set(devices))),
            volumes=tuple(one["Source"] for one in (group.get("Volumes") or {}).values()),
            edited=is_edited(job),
            fingerprint=fingerprint(job),
        )

    @property
    def key(self) -> str | None:
        """The key of the artefact that it runs; of one that was edited a text that is the key of none."""
        return self.fingerprint if self.edited else self.labelled

    @property
    def labelled(self) -> str | None:
        """The key that its meta says."""
        return self.meta.get(f"{LABEL}key")

    @property
    def own_volume(self) -> str | None:
        """The volume that is made for this job alone."""
        return next((name for name in self.volumes if name == f"{self.id}-{MODELS}"), None)

    @property
    def content(self) -> str | None:
        """The content id of the model that it runs, None where that is not known."""
        return None if self.edited else self.meta.get(f"{LABEL}content")

    def limit(self, task: Task) -> str:
        """How much memory a task may have, in words."""
        return f"its {self.memory.get(task, 0):,} MiB of memory"


def _whereabouts(job: Mapping[str, Any]) -> str:
    centers = [name for name in job.get("Datacenters") or () if name != "*"]
    parts = [f"datacenter {', '.join(f'`{name}`' for name in centers)}"] if centers else []
    parts += [f"node pool `{pool}`"] if (pool := job.get("NodePool")) and pool != "default" else []
    return " and ".join(parts) or "the cluster"
