"""What a release runs: the files of both slots and of the router, and what of them depends on the slot."""

import dataclasses
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_deploy.render.layout import read_back
from mlops_deploy.render.slots import router_document, router_text, slot_document, slot_job, slot_text
from mlops_deploy.spec.owner import Owner
from mlops_deploy.spec.rendered import JobImage

CONTENT, KEY = "1" * 64, "9" * 64
CONFIG = "global\n  log stdout\tformat raw local0 # $HOME 'a' \"b\"\n"
ROUTER = JobImage(ref="mlops-router:0123456789ab", local=True)
OWNER = Owner(service="digits", environment="test")
VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def test_the_files_are_as_reviewed(spec, job, golden):
    made = slot_job(spec, *job)
    golden("slot-a.yml", slot_text(OWNER, "a", made, content=CONTENT, key=KEY))
    golden("router.yml", router_text(OWNER, 9000, ROUTER, CONFIG))


def test_a_job_says_nothing_of_the_slot_and_survives_json(spec, job):
    made = slot_job(spec, *job)
    assert set(made) == {"bootstrap", "server"}
    assert not {"ports", "labels", "networks"} & (made["server"].keys() | made["bootstrap"].keys())
    assert "digits-test" not in json.dumps(made)
    again = json.loads(json.dumps(made))
    assert slot_text(OWNER, "a", again, content=CONTENT, key=KEY) == slot_text(
        OWNER, "a", made, content=CONTENT, key=KEY
    )


def test_two_slots_share_nothing(spec, job):
    a, b = (slot_document(OWNER, slot, slot_job(spec, *job), content=CONTENT, key=KEY) for slot in "ab")
    assert (a["name"], b["name"]) == ("digits-test-a", "digits-test-b")
    assert a["volumes"]["models"]["name"] == "digits-test-a-models"
    networks = [{"default": {"name": f"digits-test-{slot}", "external": True}} for slot in "ab"]
    assert [a["networks"], b["networks"]] == networks, "an address of one slot never becomes the other's"
    assert a["services"]["server"]["networks"] == {"default": {"aliases": ["digits-test-a"]}}
    assert "ports" not in a["services"]["server"], "a slot is reached through the router alone"
    assert a["services"]["bootstrap"]["network_mode"] == "none"


def test_everything_is_labelled(spec, job):
    document = slot_document(OWNER, "b", slot_job(spec, *job), content=CONTENT, key=KEY)
    whose = {"io.mlops-deploy.service": "digits", "io.mlops-deploy.env": "test", "io.mlops-deploy.slot": "b"}
    of_content = whose | {"io.mlops-deploy.content": CONTENT}
    assert document["volumes"]["models"]["labels"] == of_content, "another artefact of the same model keeps the volume"
    for task in ("bootstrap", "server"):
        assert document["services"][task]["labels"] == of_content | {"io.mlops-deploy.key": KEY}


def test_without_an_environment_nothing_says_one():
    router = router_document(Owner(service="digits"), 9000, ROUTER, CONFIG)
    labels = {"io.mlops-deploy.service": "digits"}
    assert router["name"] == "digits-router"
    assert router["services"]["router"]["labels"] == router["volumes"]["state"]["labels"] == labels
    assert router["services"]["router"]["networks"] == ["a", "b"]
    assert router["networks"] == {
        slot: {"name": f"digits-{slot}", "labels": labels | {"io.mlops-deploy.slot": slot}} for slot in "ab"
    }


def test_the_router_is_locked_down_and_reached_from_this_machine_only():
    router = router_document(OWNER, 9000, ROUTER, CONFIG)["services"]["router"]
    assert router["ports"] == ["127.0.0.1:9000:8080"]
    assert (router["user"], router["read_only"], router["cap_drop"]) == ("65532:65532", True, ["ALL"])
    assert router["security_opt"] == ["no-new-privileges:true"]
    assert [mount.partition(":")[0] for mount in router["tmpfs"]] == ["/tmp", "/run/router"]  # noqa: S108
    assert router["environment"] == {"ROUTER_CONFIG": CONFIG}
    assert router["logging"]["options"] == {"max-size": "10m", "max-file": "3"}


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=50
)
@given(text=VALUES)
def test_every_value_comes_back_as_it_was(spec, job, text):
    made = slot_job(dataclasses.replace(spec, env={"ANY": text}), *job)
    document = slot_document(OWNER, "a", made, content=CONTENT, key=KEY)
    assert read_back(slot_text(OWNER, "a", made, content=CONTENT, key=KEY)) == document
    assert read_back(router_text(OWNER, 1, ROUTER, text)) == router_document(OWNER, 1, ROUTER, text)


@pytest.mark.parametrize(
    ("labels", "slot", "ours"),
    [
        ({"service": "digits", "env": "test"}, None, True),
        ({"service": "digits", "env": "test", "content": "x"}, None, True),
        ({"service": "digits", "env": "test", "slot": "a"}, "a", True),
        ({"service": "digits", "env": "test", "slot": "b"}, "a", False),
        ({"service": "digits", "env": "test", "slot": "a"}, None, False),
        ({"service": "digits", "env": "live"}, None, False),
        ({"service": "digits"}, None, False),
        ({}, None, False),
    ],
)
def test_whose_a_thing_is(labels, slot, ours):
    named = {f"io.mlops-deploy.{name}": value for name, value in labels.items()}
    assert OWNER.owns(named | {"com.example": "x"}, slot) is ours
