"""A service of a test's own on a real Nomad agent, changed through the command line alone."""

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tests.integration.nomad_agent import Agent
from tests.integration.releasing import Json, Service, remove

LEASE_SECONDS = 60
_NS = 1_000_000_000


@dataclass
class NomadService(Service):
    """As `Service`, on target `nomad`: its jobs are in the agent, and so is its state."""

    target: str = "nomad"
    agent: Agent = field(kw_only=True)

    def __post_init__(self) -> None:
        self.environment |= self.agent.variables
        super().__post_init__()

    @property
    def variable(self) -> str:
        """Where its state is, in the API."""
        return f"/v1/var/nomad/jobs/{self.name}-router"

    def jobs(self) -> dict[str, Json]:
        """Its jobs by what comes after the service's name: `a`, `b`, `router`."""
        listed = self.agent.ask("GET", f"/v1/jobs?prefix={self.name}-")
        return {one["ID"].removeprefix(f"{self.name}-"): one for one in listed}

    def job(self, part: str) -> Json:
        """One of its jobs, whole."""
        found: Json = self.agent.ask("GET", f"/v1/job/{self.name}-{part}")
        return found

    def allocation(self, part: str) -> Json:
        """The newest allocation of one of its jobs."""
        found = self.agent.ask("GET", f"/v1/job/{self.name}-{part}/allocations")
        newest: Json = max(found, key=lambda one: one["CreateIndex"])
        return newest

    def container(self, task: str, slot: str | None = None) -> str:
        """The name of a container of its newest allocation."""
        return f"{task}-{self.allocation(slot or 'router')['ID']}"

    def items(self) -> dict[str, str]:
        """What the variable of its state holds; nothing before there is one."""
        with suppress(OSError):
            found: dict[str, str] = self.agent.ask("GET", self.variable)["Items"]
            return found
        return {}

    def journaled(self) -> int:
        """How many lines the journals have."""
        return sum(json.loads(text)["count"] for name, text in self.items().items() if name.startswith("journals/"))

    def expire_lease(self) -> None:
        """Let the lease be as old as if its holder had not been heard for longer than it lives."""
        found = self.agent.ask("GET", self.variable)
        entry = json.loads(found["Items"]["keys/lease"]) | {"since": int((time.time() - LEASE_SECONDS - 1) * _NS)}
        body: dict[str, Any] = {"Items": found["Items"] | {"keys/lease": json.dumps(entry)}}
        self.agent.ask("PUT", f"{self.variable}?cas={found['ModifyIndex']}", body)

    def end(self) -> None:
        """Remove everything of this service, also what a failed test left."""
        self.end_processes()
        for part in self.jobs():
            self.agent.ask("DELETE", f"/v1/job/{self.name}-{part}?purge=true")
        for one in self.agent.ask("GET", f"/v1/vars?prefix=nomad/jobs/{self.name}-router") or []:
            self.agent.ask("DELETE", f"/v1/var/{one['Path']}")
        remove(self.name, os.environ)
