"""Clusters that must behave alike: the API double, and an agent."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mlops_deploy.adapters.nomad.client import NomadClient
from mlops_deploy.adapters.nomad.settings import Cluster
from tests.fakes.nomad_api import Grant, NomadApi
from tests.integration.nomad_agent import Agent, agent


class World:
    """A cluster that asks for tokens, and has the namespaces `default` and `other`."""

    address: str
    root: str

    def client(self, token: str | None = None, namespace: str | None = None) -> NomadClient:
        """As who has `token`, by default one that may do everything; "" is none."""
        environ = {"NOMAD_ADDR": self.address, "NOMAD_TOKEN": self.root if token is None else token}
        return NomadClient(Cluster.from_environment(environ, namespace=namespace))


class Double(World):
    """The double."""

    def __init__(self, api: NomadApi) -> None:
        self.api = api
        self.address = api.address
        self.root = api.ask_for_tokens()
        api.state.namespaces.add("other")

    def token(self, *grants: Grant) -> str:
        """A token with these rights."""
        return self.api.token(*grants)

    def wrote(self, alloc_id: str, text: str) -> None:
        """Make sure that the task `main`, which is told to write `text`, has done so."""
        self.api.write_log(alloc_id, "main", text)


class Real(World):
    """An agent."""

    def __init__(self, one: Agent) -> None:
        self.agent = one
        self.address = one.address
        self.root = one.token
        self.policies = 0
        one.ask("POST", "/v1/namespace/other", {"Name": "other"})

    def token(self, *grants: Grant) -> str:
        """A token with these rights."""
        self.policies += 1
        name = f"policy-{self.policies}"
        self.agent.ask("POST", f"/v1/acl/policy/{name}", {"Name": name, "Rules": "\n".join(map(_rules, grants))})
        body = {"Name": name, "Type": "client", "Policies": [name]}
        return self.agent.ask("POST", "/v1/acl/token", body)["SecretID"]

    def wrote(self, alloc_id: str, text: str) -> None:
        """Wait until the task `main`, which is told to write `text`, has done so."""
        until = time.monotonic() + 20
        while text not in self.client().logs(alloc_id, "main", "stdout", len(text.encode())):
            assert time.monotonic() < until
            time.sleep(0.1)


def _rules(grant: Grant) -> str:
    agent_read = 'agent { policy = "read" }' if "agent:read" in grant.capabilities else ""
    names = sorted(grant.capabilities - {"agent:read"})
    paths = "\n".join(
        f'path "{path}" {{ capabilities = {_list(sorted(may))} }}' for path, may in grant.variables.items()
    )
    variables = f"variables {{\n{paths}\n}}" if paths else ""
    return f'namespace "{grant.namespace}" {{\ncapabilities = {_list(names)}\n{variables}\n}}\n{agent_read}'


def _list(names: list[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


@contextmanager
def _double() -> Iterator[World]:
    with NomadApi().running() as api:
        yield Double(api)


@pytest.fixture(scope="session", params=["double", pytest.param("agent", marks=pytest.mark.nomad)])
def world(request, tmp_path_factory):
    """Either of them; each test brings names of its own."""
    if request.param == "double":
        with _double() as one:
            yield one
    else:
        with agent(tmp_path_factory.mktemp("contract"), acl=True) as running:
            yield Real(running)


@pytest.fixture
def client(world):
    """Who may do everything."""
    return world.client()


@pytest.fixture
def name(request):
    """A name of the test's own."""
    return "c-" + request.node.originalname.removeprefix("test_").replace("_", "-")[:50]
