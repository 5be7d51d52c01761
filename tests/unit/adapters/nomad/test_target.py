"""What the target does to jobs in a cluster, and what it leaves alone: against the double of the API."""

import dataclasses

import pytest

from mlops_deploy.adapters.nomad.client import NomadClient
from mlops_deploy.adapters.nomad.settings import Cluster
from mlops_deploy.adapters.nomad.target import NomadTarget
from mlops_deploy.errors import ConflictError, UnusableInputError
from mlops_deploy.spec.nomad import NomadSpec
from mlops_deploy.spec.owner import LABEL, Owner
from mlops_deploy.spec.rendered import JobImage
from tests.fakes.nomad_api.server import NomadApi
from tests.simulation import scenarios

JOB = {
    "Type": "service",
    "Datacenters": ["*"],
    "Meta": {},
    "TaskGroups": [
        {
            "Name": "model",
            "Count": 1,
            "Tasks": [
                {"Name": "bootstrap", "Driver": "docker", "Lifecycle": {"Hook": "prestart"}},
                {"Name": "server", "Driver": "docker"},
            ],
        }
    ],
}
ONE, TWO = (dataclasses.replace(scenarios.artefact(version), job=JOB | {"Priority": version}) for version in (1, 2))


@pytest.fixture
def api():
    with NomadApi().running() as one:
        yield one


@pytest.fixture
def client(api):
    return NomadClient(Cluster(address=api.address))


@pytest.fixture
def target(client):
    image = JobImage(ref="router:1", local=True)
    return NomadTarget(Owner(service="shop"), 8080, image, NomadSpec(), client)


def test_a_slot_is_begun_once_and_the_same_artefact_is_left_alone(api, client, target):
    assert target.observe("a").state == "absent"
    target.ensure("a", ONE)
    first = client.job("shop-a")
    target.ensure("a", ONE)
    assert client.job("shop-a") == first
    view = target.observe("a")
    assert (view.state, view.key, view.content) == ("running", ONE.key, ONE.content_id.hex)
    assert view.revision
    assert target.observe("b").state == "absent"


def test_another_artefact_takes_the_slot(client, target):
    target.ensure("a", ONE)
    before = target.observe("a").revision
    target.ensure("a", TWO)
    view = target.observe("a")
    assert view.key == TWO.key
    assert view.revision != before
    assert client.job("shop-a")["Version"] == 1


def test_what_has_failed_is_begun_anew_although_its_job_is_the_same(api, client, target):
    target.ensure("a", ONE)
    (held,) = client.allocations("shop-a")
    ended = {"Type": "Terminated", "DisplayMessage": "", "Details": {"exit_code": "65", "oom_killed": "false"}}
    state = {"State": "dead", "Failed": True, "Restarts": 0, "StartedAt": None, "Events": [ended]}
    api.amend(held["ID"], ClientStatus="failed", TaskStates={"bootstrap": state})
    api.write_log(held["ID"], "bootstrap", "copying\n")
    api.write_log(held["ID"], "bootstrap", "deploy.sh: damaged\n", "stderr")
    cause = target.observe("a").cause
    assert cause.message.startswith("the bootstrap ended with 65")
    assert cause.lines == ("copying", "deploy.sh: damaged")
    target.ensure("a", ONE)
    assert target.observe("a").state == "running"
    target.ensure("a", ONE)
    assert client.job("shop-a")["Version"] == 1, "and then left alone"


def test_a_slot_that_is_stopped_is_empty_and_its_job_is_not_forgotten(client, target):
    target.ensure("a", ONE)
    target.stop("a", 5)
    assert target.observe("a") == target.observe("b").__class__(slot="a", state="absent")
    assert client.job("shop-a")["Stop"]
    target.stop("a", 5)
    target.stop("b", 5)
    target.ensure("a", ONE)
    assert target.observe("a").state == "running"


def test_a_job_of_our_name_that_is_not_ours_is_refused_and_not_touched(client, target):
    other = {**JOB, "ID": "shop-a", "Name": "shop-a", "Meta": {f"{LABEL}service": "shop", f"{LABEL}slot": "b"}}
    client.register(other, 0)
    before = client.job("shop-a")
    for deed in (
        lambda: target.ensure("a", ONE),
        lambda: target.observe("a"),
        lambda: target.stop("a", 5),
        lambda: target.remove(volumes=True),
        lambda: target.logs("server", "a", 5, follow=False),
    ):
        with pytest.raises(UnusableInputError, match="there is a job `shop-a`, and its meta does not say") as refused:
            deed()
        assert "nomad job status shop-a" in refused.value.hint
    assert client.job("shop-a") == before


def test_the_last_lines_of_both_streams_are_told(api, client, target):
    assert list(target.logs("server", "a", 5, follow=False)) == []
    target.ensure("a", ONE)
    (held,) = client.allocations("shop-a")
    api.write_log(held["ID"], "server", "".join(f"out {number}\n" for number in range(9)))
    api.write_log(held["ID"], "server", "err 0\nerr 1\nerr 2", "stderr")
    assert list(target.logs("server", "a", 2, follow=False)) == ["out 7", "out 8", "err 1", "err 2"]
    assert list(target.logs("server", "a", 0, follow=False)) == []


def test_a_service_is_removed_with_its_state_and_no_other_one(client, target):
    ours = ["nomad/jobs/shop-router", "nomad/jobs/shop-router/pages/0"]
    others = ["nomad/jobs/shop-router2", "nomad/jobs/shop-b"]
    for path in (*ours, *others):
        client.put_variable(path, {"a": "b"}, 0)
    target.ensure("a", ONE)
    gone = []
    target.remove(volumes=False, before_router=lambda: gone.append(client.job("shop-a")))
    assert gone == [None], "the slots are gone before the router"
    assert client.variables("nomad/jobs/") == sorted([*ours, *others])
    target.remove(volumes=True)
    assert client.variables("nomad/jobs/") == sorted(others)


def test_a_job_that_somebody_has_edited_holds_no_artefact_and_is_put_right(client, target):
    target.ensure("a", ONE)
    assert target.observe("a").remark == ""
    found = client.job("shop-a")
    (group,) = found["TaskGroups"]
    server = group["Tasks"][1] | {"Env": {"ADDS": "100"}}
    client.register(found | {"TaskGroups": [group | {"Tasks": [group["Tasks"][0], server]}]}, found["JobModifyIndex"])
    view = target.observe("a")
    assert (view.state, view.content) == ("running", None)
    assert view.key not in {ONE.key, None}
    assert "changed its job by hand" in view.remark
    target.ensure("a", ONE)
    view = target.observe("a")
    assert (view.state, view.key, view.remark) == ("running", ONE.key, "")
    assert "Env" not in client.job("shop-a")["TaskGroups"][0]["Tasks"][1]


def test_a_job_that_was_scaled_to_nothing_is_absent(client, target):
    target.ensure("a", ONE)
    found = client.job("shop-a")
    client.register(found | {"TaskGroups": [found["TaskGroups"][0] | {"Count": 0}]}, found["JobModifyIndex"])
    assert target.observe("a").state == "absent"
    target.ensure("a", ONE)
    assert target.observe("a").state == "running"


def test_who_decides_on_a_job_replaces_that_one_and_no_later_one(client, target, monkeypatch):
    target.ensure("a", ONE)
    decided = target._slots.look("a")
    meanwhile = client.job("shop-a")
    client.register(meanwhile | {"Priority": 70}, meanwhile["JobModifyIndex"])
    monkeypatch.setattr(target._slots, "look", lambda _slot: decided)
    with pytest.raises(ConflictError):
        target.ensure("a", TWO)
    assert client.job("shop-a")["Priority"] == 70
