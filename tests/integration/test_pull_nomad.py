"""`bootstrap: pull` on a real Nomad agent: the model comes from a registry into the allocation, and is served."""

import json

import pytest

from tests.integration.registry_server import registry_server
from tests.integration.releasing import docker

pytestmark = [pytest.mark.nomad, pytest.mark.docker, pytest.mark.registry]


@pytest.fixture
def pushed(make_nomad, tmp_path):
    """A service whose nodes pull, its carrier in a registry, and its version."""
    service = make_nomad()
    (network,) = json.loads(docker("network", "inspect", "bridge"))
    with registry_server(tmp_path / "registry", address=network["IPAM"]["Config"][0]["Gateway"]) as server:
        service.environment["MLOPS_DEPLOY_INSECURE_REGISTRIES"] = server.host
        service.configure(bootstrap="pull", registry={"insecure": True})
        carrier = f"{server.host}/models/{service.name}:0"
        yield service, carrier, service.build(0, "--tag", carrier, "--push", carrier)


def test_a_model_is_pulled_into_the_allocation_and_no_engine_has_it(pushed):
    service, carrier, version = pushed
    service.run("release", "--model", carrier)
    assert service.serves() == version
    said = service.run("logs", "--task", "bootstrap").stdout
    assert f"copied {service.name} {version}: " in said
    assert not docker("images", "--quiet", carrier.rpartition(":")[0]), "no engine has the model"


def test_a_candidate_that_could_not_start_says_nothing_of_the_next_which_waits_for_its_volume(pushed):
    service, carrier, version = pushed
    service.configure(registry={"insecure": True, "credentials": "/nothing/there"})
    told = service.run("release", "--model", carrier, code=4).stderr
    assert "the bootstrap cannot be started" in told
    service.configure(registry={"insecure": True}, nomad={"volume": {"kind": "dynamic"}})
    try:
        service.run("release", "--model", carrier)
        assert service.serves() == version
    finally:
        service.run("down", "--volumes")
