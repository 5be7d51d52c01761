"""The commands that look at a service and keep it, on a real engine: its router anew, its end, and what is not ours."""

import socket

import pytest

from tests.fakes.ports import free_port
from tests.integration.releasing import docker, listed, until

pytestmark = pytest.mark.docker


@pytest.fixture
def one(service):
    """A service with one version, which is live."""
    service.versions = service.build_all(1)
    service.release(1)
    return service


def test_a_router_that_was_stopped_is_said_and_started(one):
    docker("kill", one.container("router"))
    done = one.run("status", code=8)
    assert "slot a is running" in done.stderr
    assert "`mlops-deploy router apply` starts it" in done.stderr
    assert "the router was down, and is started" in one.run("router", "apply").stderr
    until(lambda: answering(one) == one.versions[1], 30, "it has found the slot")


def test_another_port_needs_another_router_and_the_route_survives_it(one):
    old, one.port = one.port, free_port()
    one.configure(port=one.port)
    refused = one.run("router", "apply", code=2)
    assert f"it listens on port {old}, not {one.port}" in refused.stderr
    assert "`mlops-deploy router apply --replace` makes it anew" in refused.stderr
    status = one.status()
    assert "the router is made anew" in one.run("router", "apply", "--replace").stderr
    until(lambda: answering(one) == one.versions[1], 30, "it has found the slot")
    assert one.status()["router"]["committed"] == status["router"]["in_force"] == {"share_b": 0, "closed": False}
    assert "anew" not in one.run("router", "apply", "--replace").stderr


def test_a_router_that_cannot_be_made_anew_is_there_again_as_it_was(one):
    before, one.port = one.port, free_port()
    one.configure(port=one.port)
    with socket.create_server(("127.0.0.1", one.port)):
        refused = one.run("router", "apply", "--replace", code=2)
    assert f"port {one.port} is taken" in refused.stderr
    one.port = before
    until(lambda: answering(one) == one.versions[1], 30, "it answers as before")


def answering(service):
    try:
        return service.serves()
    except OSError:
        return None  # it has only just been started


def test_the_end_of_a_service_keeps_its_volumes_until_they_are_named(one):
    one.run("down")
    assert [listed(kind, one.name) for kind in ("container", "network")] == [[], []]
    assert sorted(listed("volume", one.name)) == [f"{one.name}-a-models", f"{one.name}-state"]
    one.release(1)
    assert [row["end"] for row in one.json("history")] == ["released", "released"]
    one.run("down", "--volumes")
    assert listed("volume", one.name) == []
    assert "was not running" in one.run("down").stderr


@pytest.mark.parametrize("kind", ["container", "volume"])
def test_the_end_of_a_service_does_not_touch_what_is_not_ours(one, kind):
    name = {"container": one.container("server", "b"), "volume": f"{one.name}-b-models"}[kind]
    docker(kind, "create", *(("--name", name, "mlops-tiny-v2") if kind == "container" else (name,)))
    try:
        refused = one.run("down", "--volumes", code=2)
        assert f"there is a {kind} `{name}`" in refused.stderr
        assert name in docker(kind, "ls", *(["--all"] if kind == "container" else []))
        assert kind == "volume" or one.serves() == one.versions[1]
    finally:
        docker(kind, "rm", name)
