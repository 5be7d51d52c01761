"""A network of our own: names that mean any address, and addresses that are reached at this machine's loopback."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

from mlops_deploy.adapters.process import LocalRunner
from mlops_deploy.adapters.registry import pools
from mlops_deploy.adapters.registry.access import HttpAccess
from mlops_deploy.adapters.registry.channel import Channel
from mlops_deploy.adapters.registry.credentials import Credentials
from mlops_deploy.adapters.registry.pace import Pace
from mlops_deploy.adapters.registry.trust import Trust

PUBLIC = "93.184.216.34"
SCOPE = ("repository:team/app:pull,push",)


@dataclass
class Network:
    """`names`: what each name means, the first time, the second time, and so on; the last of them from then on."""

    names: dict[str, list[Sequence[str]]] = field(default_factory=dict)
    dialled: list[tuple[str, int]] = field(default_factory=list)

    def resolve(self, host, port, *rest, **more):
        answers = self.names.get(host)
        if answers is None:
            if not host.replace(".", "").isdigit() and ":" not in host:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            addresses = [host]
        else:
            addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        kinds = [socket.AF_INET6 if ":" in one else socket.AF_INET for one in addresses]
        return [(kind, socket.SOCK_STREAM, 6, "", (one, port)) for kind, one in zip(kinds, addresses, strict=True)]

    def dial(self, address, timeout=None, **more):
        self.dialled.append(address)
        made = socket.socket()
        made.settimeout(5)
        made.connect(("127.0.0.1", address[1]))
        return made

    @classmethod
    def instead_of_the_real_one(cls, monkeypatch):
        made = cls()
        monkeypatch.setattr(pools.socket, "getaddrinfo", made.resolve)
        monkeypatch.setattr(pools, "create_connection", made.dial)
        return made


def access_to(registry, environ, *, certificates=(), **more):
    return HttpAccess(
        registry, Credentials(registry, environ, LocalRunner()), Trust(registry, environ, certificates), environ, **more
    )


def channel_to(registry, environ, **more):
    pace = Pace(connect=5, silence=5, tries=2, first=0.01, longest=0.01)
    return Channel(registry, access_to(registry, environ, pace=pace, **more), pace=pace)
