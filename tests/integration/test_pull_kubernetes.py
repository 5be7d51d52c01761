"""`bootstrap: pull` for Kubernetes: a rendered pod, run on Docker in a kubelet's order, pulls from a real registry."""

import json
from base64 import b64encode

import pytest

from mlops_deploy.adapters.buildx import BuildKit
from mlops_deploy.adapters.docker_engine import DockerEngine
from mlops_deploy.adapters.process import LocalRunner
from mlops_deploy.api.puller_image import find_or_build
from mlops_deploy.render.layout import read_objects
from tests.fakes.carriers import Silent
from tests.fakes.kubelet import InitFailedError, Pod
from tests.integration.registry_server import registry_server
from tests.integration.releasing import docker

pytestmark = [pytest.mark.docker, pytest.mark.registry]

# Of the password `secret`.
HTPASSWD = "ann:$2b$04$2m.QMxOE0pdDeu7v4K33m.bjyPdAOBAmg7r9.ojffHFDIZXjK/Jsa\n"


def test_a_pod_pulls_its_model_with_the_secret_that_is_named(make_service, tmp_path):
    find_or_build(DockerEngine(), BuildKit(LocalRunner()), Silent())
    (network,) = json.loads(docker("network", "inspect", "bridge"))
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    with registry_server(
        tmp_path / "registry", address=network["IPAM"]["Config"][0]["Gateway"], htpasswd=tmp_path / "htpasswd"
    ) as server:
        auth = {"auths": {server.host: {"auth": b64encode(b"ann:secret").decode()}}}
        (tmp_path / "auth.json").write_text(json.dumps(auth))
        environment = {
            "MLOPS_DEPLOY_INSECURE_REGISTRIES": server.host,
            "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json"),
        }
        service = make_service(environment=environment)
        service.configure(bootstrap="pull", registry={"insecure": True, "credentials": "registry-login"})
        carrier = f"{server.host}/models/{service.name}:0"
        version = service.build(0, "--tag", carrier, "--push", carrier)
        service.run("render", "--target", "kubernetes", "--model", carrier, "-o", "job.yml")
        spec = read_objects((service.folder / "job.yml").read_text())[0]["spec"]["template"]["spec"]
        (tmp_path / "pod").mkdir()
        login = {"registry-login": {".dockerconfigjson": (tmp_path / "auth.json").read_bytes()}}
        with Pod(f"{service.name}-pod", spec, tmp_path / "pod", login) as pod:
            assert pod.initialise()[0].startswith(f"copied {service.name} {version}: ")
            assert pod.initialise()[0].startswith(f"found {service.name} {version}: ")
            pod.begin("server")
            assert pod.started("server"), pod.logs("server")
        (tmp_path / "other").mkdir()
        other = {"registry-login": {".dockerconfigjson": b"{}"}}
        with (
            Pod(f"{service.name}-other", spec, tmp_path / "other", other) as pod,
            pytest.raises(InitFailedError, match="exit 78"),
        ):
            pod.initialise()
