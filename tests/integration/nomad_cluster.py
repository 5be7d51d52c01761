"""Three Nomad servers and a client of a test's own on loopback, whose members can be killed and come back."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.integration.nomad_agent import Agent

SERVERS: Final = 3
ELECTION_SECONDS: Final = 60


@dataclass
class Cluster:
    """The servers and the one client, through whose API the cluster is spoken to."""

    folder: Path
    servers: list[Agent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.servers = [Agent(self.folder / f"server-{number}", role="server") for number in range(SERVERS)]
        self.client = Agent(self.folder / "client", role="client")
        for one in self.agents:
            one.configure(self.servers)

    @property
    def agents(self) -> list[Agent]:
        """Every process of it."""
        return [*self.servers, self.client]

    @property
    def alive(self) -> list[Agent]:
        """The servers that run."""
        return [one for one in self.servers if one.process is not None and one.process.poll() is None]

    def start(self) -> None:
        """Start all, and wait for a leader and the node."""
        for one in self.servers:
            one.launch()
        for one in self.servers:
            one.wait(one.has_keys)
        self.client.start()

    def leader(self) -> Agent:
        """The server that leads now: one that runs; waits for an election that is going on."""
        until = time.monotonic() + ELECTION_SECONDS
        while time.monotonic() < until:
            for one in self.alive:
                if (found := self._led_by(one)) is not None:
                    return found
            time.sleep(0.1)
        raise AssertionError("the cluster has no leader")

    def remove(self) -> None:
        """End all and everything that they ran."""
        for one in self.agents:
            one.kill()
        for one in self.agents:
            one.remove()

    def _led_by(self, asked: Agent) -> Agent | None:
        with suppress(OSError):
            address = asked.ask("GET", "/v1/status/leader")
            return next((one for one in self.alive if address == f"127.0.0.1:{one.rpc}"), None)
        return None


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster that is gone afterwards, with everything it ran."""
    one = Cluster(folder)
    try:
        one.start()
        yield one
    finally:
        one.remove()
