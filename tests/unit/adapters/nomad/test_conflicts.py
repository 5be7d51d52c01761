"""What somebody else did meanwhile is not undone, and what was there before a failure is there after it."""

import pytest

from mlops_deploy.adapters.nomad import router as router_module
from mlops_deploy.adapters.nomad.client import NomadClient, Reply
from mlops_deploy.adapters.nomad.execution import exec_stream
from mlops_deploy.adapters.nomad.ledger import Ledger
from mlops_deploy.adapters.nomad.rolling import NomadRolling
from mlops_deploy.adapters.nomad.router import NomadRouter
from mlops_deploy.adapters.nomad.settings import Cluster
from mlops_deploy.adapters.nomad.slots import Slots
from mlops_deploy.errors import ConflictError, UnreachableError
from mlops_deploy.release.rolling import RollingView
from mlops_deploy.release.state import whole
from mlops_deploy.spec.nomad import NomadSpec
from mlops_deploy.spec.owner import Owner
from mlops_deploy.spec.rendered import JobImage
from tests.fakes.nomad_api import jobs
from tests.fakes.nomad_api.server import NomadApi
from tests.unit.adapters.nomad.test_execution import agent
from tests.unit.adapters.nomad.test_target import JOB

OWNER = Owner(service="shop")
ID = "shop-router"
PATH = f"nomad/jobs/{ID}"


@pytest.fixture
def api():
    with NomadApi().running() as one:
        yield one


@pytest.fixture
def client(api):
    return NomadClient(Cluster(address=api.address))


@pytest.fixture
def router(client, monkeypatch):
    monkeypatch.setattr(router_module, "DEADLINE", 0.3)
    return NomadRouter(OWNER, 8080, JobImage(ref="router:1", local=True), NomadSpec(), client)


def up(monkeypatch, answers="yes"):
    """Let the router's program answer, or not."""
    monkeypatch.setattr(NomadRouter, "_answers", lambda *_: answers == "yes")


def test_a_stopped_service_keeps_its_state_and_its_job_when_its_router_does_not_come_up(client, router, monkeypatch):
    up(monkeypatch)
    router.make("global\n")
    ledger = Ledger(client, ID)
    ledger.put("lease", {"token": 1, "holder": "x", "ttl": 60.0}, 0, 1)
    ledger.commit(whole("b"), 0, 1)
    client.deregister(ID, purge=False)
    up(monkeypatch, "no")
    with pytest.raises(UnreachableError, match="does not answer"):
        router.make("global\n")
    assert ledger.book().route.generation == 1
    assert client.job(ID)["Stop"], "stopped as it was before, and not forgotten"


def test_a_router_that_was_changed_meanwhile_is_not_replaced(client, router, monkeypatch):
    up(monkeypatch)
    router.make("global\n")
    decided = client.job(ID)
    client.register(decided | {"Priority": 71}, decided["JobModifyIndex"])
    monkeypatch.setattr(router, "_job", lambda: decided)
    with pytest.raises(ConflictError):
        router.replace("global\n")
    assert client.job(ID)["Priority"] == 71


def test_the_end_of_a_router_is_waited_for(api, client, router, monkeypatch):
    up(monkeypatch)
    router.make("global\n")
    looks = iter(["unknown", "running", "complete"])
    (held,) = client.allocations(ID)
    monkeypatch.setattr(jobs, "_stop", lambda *_: None)
    real = client.raw

    def raw(method, path, **more):
        if path == f"allocation/{held['ID']}":
            api.amend(held["ID"], ClientStatus=next(looks))
        return real(method, path, **more)

    monkeypatch.setattr(client, "raw", raw)
    router.remove()
    assert next(looks, None) is None, "it was asked for until it had ended"


def test_a_slot_is_registered_over_the_job_that_was_seen_and_no_other_one(client):
    slots = Slots(OWNER, client)
    one = JOB | {"ID": "shop-a", "Name": "shop-a", "Meta": OWNER.labels("a")}
    slots.register(one, None)
    seen = slots.job("a")
    slots.register(one | {"Priority": 60}, seen)
    for before in (seen, None):
        with pytest.raises(ConflictError):
            slots.register(one | {"Priority": 70}, before)
    assert client.job("shop-a")["Priority"] == 60


def test_the_deployment_of_another_version_is_not_that_of_the_job_as_it_is(api, client):
    client.register(JOB | {"ID": "shop", "Name": "shop", "Meta": OWNER.labels()}, 0)
    rolling = NomadRolling(OWNER, 1, client)
    assert rolling.view().deployment is not None
    with api.state.changed:
        (deployment,) = api.state.deployments.values()
        deployment |= {"JobVersion": 7, "Status": "successful"}
    view = rolling.view()
    assert (view.state, view.deployment) == ("starting", None)


def test_a_job_is_reverted_only_from_the_version_that_was_seen(client, monkeypatch):
    sent = []

    def raw(method, path, *, body=None, **_):
        sent.append((method, path, body))
        return Reply(status=200, body={}, index=0, date=0.0)

    monkeypatch.setattr(client, "raw", raw)
    now, before = RollingView(state="failed", version=5), RollingView(state="settled", version=3)
    NomadRolling(OWNER, 1, client).take_back(now, before)
    body = {"JobID": "shop", "JobVersion": 3, "EnforcePriorVersion": 5}
    assert sent == [("POST", "job/shop/revert", body)]


def test_a_route_is_committed_neither_over_a_later_generation_nor_over_one_that_is_yet_to_come(client):
    ledger = Ledger(client, ID)
    ledger.lay_out("global\n")
    ledger.put("lease", {"token": 1, "holder": "x", "ttl": 60.0}, 0, 1)
    ledger.commit(whole("b"), 0, 1)
    for generation in (0, 2):
        assert ledger.commit(whole("a"), generation, 1).reason == f"the route has generation 1, not {generation}"
    assert ledger.book().route.generation == 1


def test_a_websocket_goes_nowhere_else_with_the_token():
    with NomadApi().running() as other:

        def play(peer):
            to = f"Location: {other.address.replace('http', 'ws', 1)}/v1/x"
            peer.connection.sendall(f"HTTP/1.1 307 Elsewhere\r\n{to}\r\nContent-Length: 0\r\n\r\n".encode())

        with agent(play, NOMAD_TOKEN="t0k3n") as (client, _), pytest.raises(UnreachableError):
            exec_stream(client, "id", "main", ["cat"]).close()
        assert other.asked == []
