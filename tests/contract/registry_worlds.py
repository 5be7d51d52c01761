"""Registries that must behave alike: the double as two kinds of them, and Debian's."""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mlops_deploy.adapters.process import LocalRunner
from mlops_deploy.adapters.registry.pace import Pace
from mlops_deploy.adapters.registry.registries import HttpRegistries
from mlops_deploy.ports import Repository
from mlops_deploy.spec.refs import ImageRef
from tests.fakes.registry import FakeRegistry, Personality, cloud, distribution
from tests.integration.registry_server import registry_server

USER, PASSWORD = "ann", "s3cret-of-ann"


QUICK = Pace(first=0.002, longest=0.02, silence=10, commit=10, farewell=10)
"""Waits that a test has time for."""


@dataclass(frozen=True, kw_only=True)
class World:
    """A registry and how a client is told to ask it."""

    kind: str
    host: str
    environ: Mapping[str, str] = field(default_factory=dict)
    fake: FakeRegistry | None = None

    def repository(self, path: str, *, host: str | None = None, pace: Pace = QUICK) -> Repository:
        """As the product sees it, from a process of its own; `host`: by way of a proxy."""
        return self.client(pace)(f"{host or self.host}/{path}")

    def client(self, pace: Pace = QUICK) -> Callable[[str], Repository]:
        """A process that asks for several repositories, by their names with the registry."""
        registries = HttpRegistries(self.environ, LocalRunner())

        def repository(name: str) -> Repository:
            found = registries.repository(ImageRef.parse(name))
            found._channel.pace = found._channel._access.pace = pace  # type: ignore[attr-defined]
            return found

        return repository


@contextmanager
def fake_world(folder: Path, personality: Personality, kind: str = "") -> Iterator[World]:
    """The double, with the credentials it wants."""
    with FakeRegistry(personality).running() as fake:
        yield World(kind=kind or personality.name, host=fake.host, environ=environ_for(folder, fake.host), fake=fake)


@contextmanager
def world_of(kind: str, folder: Path) -> Iterator[World]:
    """One of `distribution`, `cloud`, `debian`."""
    if kind == "debian":
        with registry_server(folder / "registry") as server:
            yield World(kind=kind, host=server.host, environ=environ_for(folder, server.host))
    else:
        with fake_world(folder, cloud() if kind == "cloud" else distribution()) as world:
            yield world


def environ_for(folder: Path, *hosts: str, user: str = USER, password: str = PASSWORD) -> dict[str, str]:
    """An environment whose home, cache and credentials are below `folder`."""
    config = folder / "docker"
    config.mkdir(parents=True, exist_ok=True)
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    (config / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth} for host in hosts}}))
    return {"HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache"), "DOCKER_CONFIG": str(config)}
