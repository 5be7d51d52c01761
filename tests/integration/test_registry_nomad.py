"""A release to Nomad of what only a registry has, from a machine without an engine: the nodes pull, by digests."""

import json

import pytest

from mlops_deploy.adapters.buildx import BuildKit
from mlops_deploy.adapters.docker_engine import DockerEngine
from mlops_deploy.adapters.process import LocalRunner
from mlops_deploy.api.router_image import find_or_build
from tests.fakes.carriers import Silent
from tests.integration.registry_server import registry_server
from tests.integration.releasing import TINY, docker
from tests.integration.test_registry_images import pushed

pytestmark = [pytest.mark.nomad, pytest.mark.docker, pytest.mark.registry]

NO_ENGINE = {"DOCKER_HOST": "unix:///nothing/there.sock"}


@pytest.fixture
def registry(tmp_path):
    """A real registry on loopback; its host and port."""
    with registry_server(tmp_path / "registry") as server:
        yield server.host


@pytest.fixture
def push(registry):
    """Bring an image of the engine there: its name by tag and by digest. Nothing of that stays in the engine."""
    names = []

    def bring(image, name):
        names.append(f"{registry}/{name}:1")
        docker("tag", image, names[-1])
        docker("push", "--quiet", names[-1])
        found = json.loads(docker("image", "inspect", image))[0]["RepoDigests"]
        docker("rmi", names[-1])
        return names[-1], next(one for one in found if one.startswith(f"{registry}/{name}@"))

    yield bring
    for name in names:
        docker("rmi", "--force", name, check=False)


@pytest.fixture
def router_image(tiny_image):
    return find_or_build(DockerEngine(), BuildKit(LocalRunner()), LocalRunner(), Silent()).ref


def test_no_engine_is_needed_where_registries_have_every_image(make_nomad, registry, push, router_image):
    service = make_nomad()
    (first, old), (second, new) = (pushed(service, registry, bias) for bias in (1, 2))
    tag, server = push(TINY, "tiny")
    service.environment |= NO_ENGINE

    told = service.run("plan", "--model", first, "--server", tag)
    assert f"`{tag}` is the server `{server}` in the registry" in told.stderr
    assert "`nomad.router_image` names one in a registry" in told.stdout + told.stderr
    refused = service.run("release", "--model", first, "--server", tag, code=8).stderr
    assert "the router's image cannot be made here: no Docker Engine answers" in refused
    assert "`nomad.router_image`" in refused
    assert service.jobs() == {}

    router, _ = push(router_image, "router")
    service.configure(nomad={"router_image": router}, server={"image": tag})
    service.use(1)
    service.run("release", "--model", first)
    assert service.serves() == old
    service.use(2)
    service.run("release", "--model", second)
    assert service.serves() == new
    service.run("rollback")
    assert service.serves() == old
    service.run("router", "apply")
    images = {part: service.job(part)["TaskGroups"][0]["Tasks"] for part in ("a", "router")}
    assert [task["Config"]["image"] for task in images["a"]] == [first, server]
    assert [task["Config"]["image"] for task in images["router"]] == [router]
    local = service.run("release", "--model", first, "--server", TINY, code=8).stderr
    assert "no Docker Engine answers" in local
    service.run("down", "--volumes")
