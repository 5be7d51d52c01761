"""`bootstrap: pull` without a container engine: the slot's own process pulls, and no store is needed."""

import shutil

import pytest

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
