"""A Nomad agent of a test's own on loopback: server and client in one, everything it has below one folder."""

import json
import os
import random
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, Final, Literal

from tests.integration.nomad_leftovers import remove_leftovers
from tests.integration.nomad_tls import Certificates

READY_SECONDS: Final = 60
"""How long an agent may take until its node is ready: the port answers long before."""

PORTS: Final = range(10_000, 12_000)
"""Below what tests' services, Nomad's tasks and the system's clients get: free at a restart, and taken from nobody."""

GIVEN: Final[set[int]] = set()
"""Ports that agents have got, and may not listen on yet."""

Role = Literal["both", "server", "client"]

_AGENT: Final = """
name = "{name}"
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
consul {{
  auto_advertise = false
}}
"""

_SERVER: Final = """
server {{
  enabled          = true
  bootstrap_expect = {expect}
  server_join {{
    retry_join     = {join}
    retry_interval = "1s"
  }}
}}
"""

_CLIENT: Final = """
client {{
  servers           = {servers}
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
"""

_ACL: Final = """
acl {
  enabled = true
}
"""


@dataclass
class Agent:
    """A running agent; `more` is put at the end of its configuration. State survives `stop`, `kill` and `start`.

    With `acl` it asks for tokens, and `token` is the first one, which may do everything. With `tls` its API speaks
    HTTPS with these certificates and wants one of its clients.
    """

    folder: Path
    more: str = ""
    http: int = 0
    process: subprocess.Popen[bytes] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    acl: bool = False
    tls: Certificates | None = None
    role: Role = "both"
    rpc: int = 0
    serf: int = 0
    token: str = ""

    def __post_init__(self) -> None:
        self.http, self.rpc, self.serf = free_ports(3)
        self.volume.mkdir(parents=True)
        self.volume.chmod(0o777)
        self.configure()

    def configure(self, servers: "list[Agent] | None" = None) -> None:
        """Write its configuration; `servers` are those of its cluster, where it is not alone."""
        text = _AGENT.format(name=self.folder.name, data=self.data, http=self.http, rpc=self.rpc, serf=self.serf)
        if self.role != "client":
            join = json.dumps([f"127.0.0.1:{one.serf}" for one in servers or ()])
            text += _SERVER.format(expect=len(servers or (self,)), join=join)
        if self.role != "server":
            known = json.dumps([f"127.0.0.1:{one.rpc}" for one in servers or ()])
            text += _CLIENT.format(volume=self.volume, servers=known)
        text += (_ACL if self.acl else "") + (self.tls.section if self.tls else "") + self.more
        (self.folder / "agent.hcl").write_text(text)

    @property
    def address(self) -> str:
        """Its HTTP API."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.http}"

    @property
    def variables(self) -> dict[str, str]:
        """What the `nomad` command's environment must be to reach it with every right."""
        found = {"NOMAD_ADDR": self.address} | (self.tls.variables if self.tls else {})
        return found | ({"NOMAD_TOKEN": self.token} if self.token else {})

    @property
    def volume(self) -> Path:
        """The folder that is its static host volume `models`."""
        return self.folder / "volume"

    @property
    def data(self) -> Path:
        """Its state, and its allocations."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What it says."""
        return self.folder / "agent.log"

    def start(self) -> None:
        """Start it and wait for its node, or for its cluster where it is a server alone.

        The first time its server goes first: a node that asks before the server has its keys waits half a minute until
        it asks again.
        """
        if self.role == "both" and not self.data.exists():
            self.launch(client=False)
            self.wait(self.has_keys)
            self.stop()
        self.launch()
        self.wait(self.has_keys if self.role == "server" else self.ready)

    def launch(self, *, client: bool = True) -> None:
        """Start it, without waiting; or its server alone."""
        options = ["-client"] if client and self.role != "server" else []
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["nomad", "agent", f"-config={self.folder / 'agent.hcl'}", *options],
                stdout=log,
                stderr=log,
                env=_clean(os.environ) | {"TEST_AGENT": str(self.folder)} | self.environment,
                start_new_session=True,
            )

    def wait(self, true: Callable[[], bool]) -> None:
        """Wait for what is true of it once it is ready."""
        assert self.process is not None
        until = time.monotonic() + READY_SECONDS
        while not true():
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < until, f"not ready: {self.log.read_text()[-2000:]}"
            time.sleep(0.1)

    def stop(self) -> None:
        """End it, as a machine's shutdown would; tasks go on."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End it as a crash would; tasks go on."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def remove(self) -> None:
        """End it and everything that it ever ran; nothing is asked of it, so that it may be in any state."""
        self.kill()
        remove_leftovers(self.folder)

    def ask(self, method: str, path: str, body: Any = None, token: str | None = None) -> Any:
        """One request of a test's own, around the product; `token` is another than the first one, "" is none."""
        connection = self._connection()
        chosen = self.token if token is None else token
        try:
            connection.request(
                method, path, None if body is None else json.dumps(body), {"X-Nomad-Token": chosen} if chosen else {}
            )
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            raise OSError(f"{method} {path}: {answer.status} {data.decode(errors='replace')[:300]}")
        return json.loads(data) if data else None

    def has_keys(self) -> bool:
        """Whether its cluster has a leader, and the keys that jobs and nodes are signed with."""
        with suppress(OSError, HTTPException):
            return bool(self.ask("GET", "/v1/status/leader") and self.ask("GET", "/.well-known/jwks.json")["keys"])
        return False

    def ready(self) -> bool:
        """Whether its node has been heard by the servers since it started, and takes jobs."""
        with suppress(OSError, HTTPException):
            if self.acl and not self.token:
                self.token = self.ask("POST", "/v1/acl/bootstrap")["SecretID"]
            client = self.ask("GET", "/v1/agent/self")["stats"]["client"]
            node = self.ask("GET", f"/v1/node/{client['node_id']}")
            return bool(client["known_servers"] and node["Status"] == "ready")
        return False

    def _connection(self) -> HTTPConnection:
        if self.tls is None:
            return HTTPConnection("127.0.0.1", self.http, timeout=20)
        context = ssl.create_default_context(cafile=str(self.tls.authority))
        context.check_hostname = False  # a certificate of a wrong name is what some tests are about
        context.load_cert_chain(self.tls.client[0], self.tls.client[1])
        return HTTPSConnection("127.0.0.1", self.http, timeout=20, context=context)


@contextmanager
def agent(folder: Path, more: str = "", *, acl: bool = False, tls: Certificates | None = None) -> Iterator[Agent]:
    """An agent that is gone afterwards, with everything it ran."""
    one = Agent(folder, more, acl=acl, tls=tls)
    try:
        one.start()
        yield one
    finally:
        one.remove()


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now, and that no other agent of this process has got."""
    found: list[int] = []
    while len(found) < count:
        port = random.choice(PORTS)
        with suppress(OSError), socket.socket() as one:
            one.bind(("127.0.0.1", port))
            found += {port} - GIVEN
            GIVEN.add(port)
    return found


def _clean(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if not name.startswith("NOMAD_")}
