"""A service runs in slots or as one job, never both ways: what a cluster holds refuses it before anything is made."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest

from mlops_deploy.adapters.nomad.client import NomadClient
from mlops_deploy.adapters.nomad.rolling import NomadRolling
from mlops_deploy.adapters.nomad.settings import Cluster
from mlops_deploy.adapters.nomad.target import NomadTarget
from mlops_deploy.api import planning, release, rolling
from mlops_deploy.api.service import Service
from mlops_deploy.errors import UnusableInputError
from mlops_deploy.spec.nomad import NomadSpec
from mlops_deploy.spec.owner import Owner
from mlops_deploy.spec.rendered import JobImage
from tests.fakes.nomad_api.server import NomadApi
from tests.simulation.scenarios import SPEC, artefact
from tests.unit.adapters.nomad.test_target import JOB

OWNER = Owner(service="toy")
CANDIDATE = replace(artefact(1), job=JOB | {"TaskGroups": [JOB["TaskGroups"][0] | {"Update": {}}]})
WISH = planning.Wish()
WAYS = {
    "plan": lambda one: planning.preview(one, None, WISH, None),
    "release": lambda one: release.release(one, None, WISH, None),
    "release --plan": lambda one: release.apply(one, None, None),
    "release --plan --dry-run": planning.look,
}
NATIVE_WAYS = {
    "plan --native": lambda one: rolling.preview(one, None, WISH, None),
    "release --native": lambda one: rolling.release(one, None, WISH, None),
}


class ReleasedError(Exception):
    """A release has got as far as to what it makes."""


@pytest.fixture
def client():
    with NomadApi().running() as api:
        yield NomadClient(Cluster(address=api.address))


@pytest.fixture
def service(client, monkeypatch):
    def prepare(*_):
        raise ReleasedError

    def make_router(*_):
        raise ReleasedError

    monkeypatch.setattr(planning, "find_candidate", lambda *_: CANDIDATE)
    monkeypatch.setattr(release, "find_candidate", lambda *_: CANDIDATE)
    monkeypatch.setattr(rolling, "find_candidate", lambda *_: CANDIDATE)
    monkeypatch.setattr(NomadTarget, "make_router", make_router)
    return Service(
        spec=replace(SPEC, release=replace(SPEC.release, strategy=None)),
        target_name="nomad",
        target=NomadTarget(OWNER, 8080, JobImage(ref="router:1", local=True), NomadSpec(), client),
        supply=lambda: SimpleNamespace(prepare=prepare),
        router_config=lambda: "global\n",
        clock=SimpleNamespace(listening=nullcontext),
        holder=None,
        rolling=lambda: NomadRolling(OWNER, 1, client),
    )


def run(client, part, labels=None):
    """A job of the service in the cluster, `part` after its name."""
    name = f"toy{part}"
    meta = labels or OWNER.labels(part[1:] if part in {"-a", "-b"} else None)
    client.register(JOB | {"ID": name, "Name": name, "Meta": meta}, 0)


def jobs(client):
    return [client.job(f"toy{part}") for part in ("", "-a", "-b", "-router")]


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_nothing_goes_into_slots_beside_the_one_job(way, service, client):
    service.rolling().register(CANDIDATE, 0)
    before = jobs(client)
    with pytest.raises(UnusableInputError, match="`toy` runs as one job without slots") as refused:
        way(service)
    assert "`mlops-deploy release --native` goes on" in refused.value.hint
    assert refused.value.hint.endswith("`nomad job stop toy`")
    assert jobs(client) == before


@pytest.mark.parametrize("there", ["-a", "-b", "-router"])
@pytest.mark.parametrize("way", NATIVE_WAYS.values(), ids=NATIVE_WAYS)
def test_no_job_is_registered_beside_a_slot_or_the_router(way, there, service, client):
    run(client, there)
    before = jobs(client)
    with pytest.raises(UnusableInputError, match="`toy` has slots behind a router") as refused:
        way(service)
    assert refused.value.hint.endswith("end them first: `mlops-deploy down`")
    assert jobs(client) == before


@pytest.mark.parametrize("purge", [False, True], ids=["stopped", "forgotten"])
def test_what_was_stopped_is_in_nobodys_way(purge, service, client):
    service.rolling().register(CANDIDATE, 0)
    client.deregister("toy", purge=purge)
    assert WAYS["plan"](service).steps
    with pytest.raises(ReleasedError):
        WAYS["release"](service)
    run(client, "-a")
    run(client, "-router")
    for part in ("a", "router"):
        client.deregister(f"toy-{part}", purge=purge)
    assert NATIVE_WAYS["plan --native"](service).needed
    with pytest.raises(ReleasedError):
        NATIVE_WAYS["release --native"](service)


@pytest.mark.parametrize("labels", [{"team": "theirs"}, None], ids=["another team's", "run by hand"])
def test_jobs_that_no_release_made_are_in_nobodys_way(labels, service, client):
    run(client, "", labels=labels)
    assert WAYS["plan"](service).steps
    client.deregister("toy", purge=True)
    run(client, "-a", labels=Owner(service="toy", environment="a").labels())
    assert NATIVE_WAYS["plan --native"](service).needed
