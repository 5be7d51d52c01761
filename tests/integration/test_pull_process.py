"""`bootstrap: pull` without a container engine: the slot's own process pulls, and no store is needed."""

import shutil

import pytest

from tests.fakes.forwarding import forwarding
from tests.integration.registry_server import registry_server

pytestmark = pytest.mark.registry


def test_a_model_comes_from_the_registry_alone(make_local, tmp_path):
    service = make_local()
    service.configure(bootstrap="pull")
    with registry_server(tmp_path / "registry") as server:
        carrier = f"{server.host}/models/{service.name}:0"
        version = service.build(0, "--tag", carrier, "--push", carrier)
        shutil.rmtree(service.folder / ".mlops" / "store")
        for number in (1, 2):  # slot a, then slot b
            service.configure(env={"NUMBER": str(number)})
            service.run("release", "--model", carrier)
            assert service.serves() == version
        assert f"copied {service.name} {version}: " in service.run("logs", "--task", "bootstrap").stdout


def test_a_node_reaches_the_registry_by_its_own_proxy(make_local, tmp_path):
    service = make_local()
    name = "r.test:5000"
    with registry_server(tmp_path / "registry") as server, forwarding(name, server.host) as ours:
        direct = f"{server.host}/models/{service.name}:0"
        version = service.build(0, "--push", direct)
        shutil.rmtree(service.folder / ".mlops" / "store")
        carrier = direct.replace(server.host, name)
        service.environment |= {"HTTP_PROXY": ours.url, "MLOPS_DEPLOY_INSECURE_REGISTRIES": name}
        service.configure(bootstrap="pull", registry={"insecure": True})
        told = service.run("release", "--model", carrier, code=4).stderr
        assert f"`{name}`" in told
        assert "`registry` of mlops.yml" in told, "a slot has none of its user's variables"
        with forwarding(name, server.host) as theirs:
            service.configure(registry={"insecure": True, "proxy": theirs.url})
            service.run("release", "--model", carrier)
            assert service.serves() == version
            assert any("/blobs/" in one.path for one in theirs.asked)
