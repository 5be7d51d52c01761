"""A Nomad agent of a test's own on loopback: server and client in one, everything it has below one folder."""

import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

READY_SECONDS: Final = 60
"""How long an agent may take until its node is ready: the port answers long before."""

_CONFIG: Final = """
data_dir = "{data}"
bind_addr = "127.0.0.1"
disable_update_check = true
log_level = "INFO"
ports {{
  http = {http}
  rpc  = {rpc}
  serf = {serf}
}}
advertise {{
  http = "127.0.0.1"
  rpc  = "127.0.0.1"
  serf = "127.0.0.1"
}}
server {{
  enabled          = true
  bootstrap_expect = 1
}}
client {{
  enabled           = true
  network_interface = "lo"
  cpu_total_compute = 16000
  options = {{
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean"
  }}
  host_volume "models" {{
    path = "{volume}"
  }}
}}
plugin "raw_exec" {{
  config {{
    enabled = true
  }}
}}
plugin "docker" {{
  config {{
    gc {{
      image = false
      dangling_containers {{
        enabled = false
      }}
    }}
  }}
}}
consul {{
  auto_advertise = false
}}
{more}
"""


@dataclass
class Agent:
    """A running agent; `more` is put at the end of its configuration. State survives `stop` and `start`."""

    folder: Path
    more: str = ""
    http: int = 0
    process: subprocess.Popen[bytes] | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.http, rpc, serf = _free_ports(3)
        volume = self.folder / "volume"
        volume.mkdir(parents=True)
        volume.chmod(0o777)
        data = self.folder / "data"
        text = _CONFIG.format(data=data, http=self.http, rpc=rpc, serf=serf, volume=volume, more=self.more)
        (self.folder / "agent.hcl").write_text(text)

    @property
    def address(self) -> str:
        """Its HTTP API."""
        return f"http://127.0.0.1:{self.http}"

    @property
    def log(self) -> Path:
        """What it says."""
        return self.folder / "agent.log"

    def start(self) -> None:
        """Start it and wait for its node."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["nomad", "agent", f"-config={self.folder / 'agent.hcl'}"],
                stdout=log,
                stderr=log,
                env=_clean(os.environ) | self.environment,
                start_new_session=True,
            )
        until = time.monotonic() + READY_SECONDS
        while not self._ready():
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < until, f"no node is ready: {self.log.read_text()[-2000:]}"
            time.sleep(0.1)

    def stop(self) -> None:
        """End it, as a machine's shutdown would; tasks go on."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def remove(self) -> None:
        """Purge every job, end the agent, and unmount what it left."""
        with suppress(OSError):
            for job in self.ask("GET", "/v1/jobs?namespace=*") or []:
                self.ask("DELETE", f"/v1/job/{job['ID']}?purge=true&namespace={job['Namespace']}")
            until = time.monotonic() + 20
            while self._running() and time.monotonic() < until:
                time.sleep(0.2)
        self.stop()
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted(mounts, reverse=True):
            if mount.startswith(str(self.folder)):
                subprocess.run(["umount", mount], check=False)

    def ask(self, method: str, path: str, body: Any = None, token: str | None = None) -> Any:
        """One request of a test's own, around the product."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=20)
        headers = {"X-Nomad-Token": token} if token else {}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        data = answer.read()
        if answer.status >= 400:
            raise OSError(f"{method} {path}: {answer.status} {data.decode(errors='replace')[:300]}")
        return json.loads(data) if data else None

    def _ready(self) -> bool:
        with suppress(OSError):
            return any(node["Status"] == "ready" for node in self.ask("GET", "/v1/nodes") or [])
        return False

    def _running(self) -> bool:
        allocations = self.ask("GET", "/v1/allocations?namespace=*") or []
        return any(one["ClientStatus"] in {"pending", "running"} for one in allocations)


@contextmanager
def agent(folder: Path, more: str = "") -> Iterator[Agent]:
    """An agent that is gone afterwards, with everything it ran."""
    one = Agent(folder, more)
    try:
        one.start()
        yield one
    finally:
        one.remove()


def _clean(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if not name.startswith("NOMAD_")}


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
