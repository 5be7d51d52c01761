"""The keeper on Nomad: the ledger in the cluster, and a real router that is asked over the cluster's exec."""

import time

import pytest

from mlops_deploy.adapters.nomad.client import NomadClient
from mlops_deploy.adapters.nomad.execution import exec_stream
from mlops_deploy.adapters.nomad.keeper import NomadKeeper
from mlops_deploy.adapters.nomad.ledger import Ledger
from mlops_deploy.adapters.nomad.settings import Cluster
from mlops_deploy.adapters.nomad.writing import CONFIG_MOST
from mlops_deploy.errors import DeployError, UnreachableError
from mlops_deploy.release.effects import Answered, Committed, Written
from mlops_deploy.release.state import CLOSED, whole
from mlops_deploy.render.router import render_router
from tests.fakes.routers import Router, Server, keeper_argv, until

pytestmark = [pytest.mark.nomad, pytest.mark.haproxy]

JOB = "keeper-test-router"


@pytest.fixture
def servers():
    both = Server("one"), Server("two")
    yield both
    for one in both:
        one.end()


@pytest.fixture
def router(servers):
    one = Router(*(server.port for server in servers))
    one.start()
    yield one
    one.end()


@pytest.fixture
def client(nomad_agent):
    return NomadClient(Cluster(address=nomad_agent.address))


@pytest.fixture
def allocation(client, router):
    """A task with the router's environment, on the router's machine."""
    task = {"Name": "router", "Driver": "raw_exec", "Env": router.env}
    task |= {"Config": {"command": "sleep", "args": ["600"]}, "Resources": {"CPU": 50, "MemoryMB": 20}}
    group = {"Name": "router", "Tasks": [task]}
    client.register({"ID": JOB, "Name": JOB, "Type": "service", "Datacenters": ["*"], "TaskGroups": [group]}, None)
    until(lambda: any(one["ClientStatus"] == "running" for one in client.allocations(JOB)), 60)
    (held,) = client.allocations(JOB)
    yield held["ID"]
    client.deregister(JOB, purge=True)
    for path in client.variables(f"nomad/jobs/{JOB}"):
        client.delete_variable(path)


@pytest.fixture
def keeper(client, allocation, router):
    Ledger(client, JOB).lay_out(render_router(router.settings))
    made = NomadKeeper(client, JOB, lambda: exec_stream(client, allocation, "router", keeper_argv("serve")))
    yield made
    made.close()


def test_what_is_committed_is_the_ledgers_and_what_is_seen_the_routers(keeper, router):
    until(lambda: keeper.observed().a.up, 60)
    assert keeper.put("lease", {"token": 3, "holder": "x", "ttl": 60}, 0, 3) == Written(index=1)
    assert keeper.commit(whole("b"), 0, 3) == Committed(generation=1)
    view = keeper.observed()
    assert (view.route, view.generation, view.token) == (whole("b"), 1, 3)
    assert view.applied == CLOSED, "the router has not heard of it"
    assert keeper.ask("b", "/v2", None, 5) == Answered(status=200, body={"version": "two"})
    assert keeper.ask(None, "/v2", None, 5).status == 503
    assert keeper.observed().started == router.keeper().observed().started


def test_a_configuration_is_in_force_first_and_then_in_the_ledger(keeper, client, router):
    ledger, before = Ledger(client, JOB), render_router(router.settings)
    assert not keeper.configure(before)
    with pytest.raises(DeployError, match="refuses the configuration") as refused:
        keeper.configure(before + "\nfrontend x\n    nonsense\n")
    assert any("nonsense" in line for line in refused.value.detail)
    with pytest.raises(DeployError, match="on Nomad it may have"):
        keeper.configure(before + "#" * CONFIG_MOST)
    assert ledger.book().config == before
    assert not router.keeper().configure(before)
    after = before.replace("timeout server 600s", "timeout server 601s")
    assert after != before
    assert keeper.configure(after)
    assert ledger.book().config == after
    assert not keeper.configure(after)
    assert not router.keeper().configure(after)


def test_the_ledger_answers_while_the_router_does_not(keeper, client, allocation):
    client.deregister(JOB, purge=False)
    until(lambda: client.allocation(allocation)["ClientStatus"] == "complete", 60)
    began = time.monotonic()
    for ask in (keeper.observed, lambda: keeper.ask("a", "/v2", None, 1), lambda: keeper.configure("x")):
        with pytest.raises(UnreachableError):
            ask()
    assert time.monotonic() - began < 30
    assert keeper.put("lease", {"token": 1, "holder": "x", "ttl": 60}, 0, 1) == Written(index=1)
    assert keeper.append("r-1", "x", 0, 1) == Written(index=1)
    assert keeper.read("r-1").lines == ("x",)
    assert (keeper.keys(""), keeper.journals()) == (("lease",), ("r-1",))
    assert Ledger(client, JOB).book().config != "x"
