"""What becomes of the variable of a router that does not come up, and of one that is removed: against the double."""

from types import SimpleNamespace

import pytest

from mlops_deploy.adapters.nomad.client import NomadClient
from mlops_deploy.adapters.nomad.ledger import Ledger
from mlops_deploy.adapters.nomad.router import NomadRouter
from mlops_deploy.adapters.nomad.settings import Cluster
from mlops_deploy.errors import UnreachableError, UnusableInputError
from mlops_deploy.release.state import CLOSED
from mlops_deploy.spec.nomad import NomadSpec
from mlops_deploy.spec.owner import Owner
from mlops_deploy.spec.rendered import JobImage
from mlops_deploy.spec.secret import Secret
from tests.fakes.nomad_api.server import NomadApi
from tests.fakes.nomad_api.state import Grant

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
def router(client):
    return NomadRouter(Owner(service="shop"), 8080, JobImage(ref="router:1", local=True), NomadSpec(), client)


def failing(monkeypatch, router, meanwhile=lambda: None):
    """A router that never answers."""

    def wait(*, new):
        meanwhile()
        raise UnreachableError("the router does not answer")

    monkeypatch.setattr(router, "_wait", wait)
    with pytest.raises(UnreachableError, match=r"^the router does not answer$") as failed:
        router.make("global\n")
    return failed.value


def test_what_was_begun_for_nothing_is_taken_back(monkeypatch, client, router):
    assert failing(monkeypatch, router).detail == ()
    assert client.variable(PATH) is None
    assert client.job(ID) is None


def test_a_ledger_that_somebody_else_uses_meanwhile_stays_and_its_router_too(monkeypatch, client, router):
    """Of two first releases one sees the router come up, while the other gives up waiting."""
    other = Ledger(client, ID)
    failing(monkeypatch, router, lambda: other.put("lease", {"token": 1, "holder": "x", "ttl": 60.0}, 0, 1))
    assert other.get("lease").value["holder"] == "x"
    assert client.job(ID) is not None


def test_one_that_was_there_before_and_is_used_meanwhile_stays_too(monkeypatch, client, router):
    other = Ledger(client, ID)
    other.lay_out("global\n")
    failing(monkeypatch, router, lambda: other.put("lease", {"token": 1, "holder": "x", "ttl": 60.0}, 0, 1))
    assert client.job(ID) is not None
    client.deregister(ID, purge=True)
    failing(monkeypatch, router)
    assert client.job(ID) is None
    assert other.get("lease").value["holder"] == "x", "its history is not this call's to remove"


def test_a_cluster_without_a_leader_for_a_moment_ends_no_wait(monkeypatch, client, router):
    looks, held = [], SimpleNamespace(running=True)

    def look(waited):
        looks.append(waited)
        if len(looks) < 3:
            raise UnreachableError("No cluster leader")
        return held

    monkeypatch.setattr(router, "_looked", look)
    monkeypatch.setattr(router, "_answers", lambda one: one is held)
    router.make("global\n")
    assert len(looks) == 3
    assert client.job(ID) is not None
    assert client.variable(PATH) is not None


def test_what_cannot_be_taken_back_does_not_hide_what_was_wrong(monkeypatch, client, router):
    def refuse(path, index=None):
        raise UnusableInputError("the token lacks `destroy`")

    monkeypatch.setattr(client, "delete_variable", refuse)
    (line,) = failing(monkeypatch, router).detail
    assert line == "what was begun could not be taken back: the token lacks `destroy`"


def test_a_state_that_is_gone_is_laid_out_anew_closed_where_no_router_runs(client, router):
    assert router.restore("global\n", blind=False) == CLOSED
    assert Ledger(client, ID).book().config == "global\n"
    assert router.restore("other\n", blind=True) is None
    assert Ledger(client, ID).book().config == "global\n"


@pytest.mark.parametrize(
    ("rights", "lacking"),
    [({"write"}, "read"), ({"write", "destroy"}, "read"), ({"list", "write"}, "destroy"), ({"read"}, "destroy")],
)
def test_a_token_that_may_not_remove_the_state_is_told_what_it_lacks(api, client, rights, lacking):
    """Servers leave out of a list what a token may not see, and say nothing of it."""
    Ledger(client, ID).lay_out("global\n")
    api.ask_for_tokens()
    capabilities = frozenset({"read-job"})
    token = api.token(Grant(capabilities=capabilities, variables={f"{PATH}*": frozenset(rights)}))
    mine = NomadClient(Cluster(address=api.address, token=Secret(token)))
    router = NomadRouter(Owner(service="shop"), 8080, JobImage(ref="router:1", local=True), NomadSpec(), mine)
    with pytest.raises(UnusableInputError, match=f"lacks `{lacking}` on variables") as refused:
        router.remove_state()
    assert lacking in refused.value.hint


def test_the_state_is_removed_whole(client, router):
    ledger = Ledger(client, ID)
    ledger.lay_out("global\n")
    client.put_variable(f"{PATH}/pages/1", {"text": "x"}, 0)
    client.put_variable(f"{PATH}2", {"text": "another service's"}, 0)
    router.remove_state()
    router.remove_state()
    assert client.variables(PATH) == [f"{PATH}2"]
