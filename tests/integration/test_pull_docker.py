"""`bootstrap: pull` on Docker: a model comes from a real registry into a slot's volume, and no engine keeps it."""

import json
from base64 import b64encode

import pytest

from tests.integration.registry_server import registry_server
from tests.integration.releasing import docker, run

pytestmark = [pytest.mark.docker, pytest.mark.registry]

# Of the password `secret`.
HTPASSWD = "ann:$2b$04$2m.QMxOE0pdDeu7v4K33m.bjyPdAOBAmg7r9.ojffHFDIZXjK/Jsa\n"


@pytest.fixture(scope="module")
def gateway():
    """Where containers and this machine meet."""
    (network,) = json.loads(docker("network", "inspect", "bridge"))
    return network["IPAM"]["Config"][0]["Gateway"]


@pytest.fixture
def htpasswd(tmp_path):
    """Who may use a registry: nobody but `ann`."""
    path = tmp_path / "htpasswd"
    path.write_text(HTPASSWD)
    return path


@pytest.fixture
def certificate(tmp_path, gateway):
    """A certificate of nobody else's for the address of the registry, and its key."""
    names = ("-subj", "/CN=registry", "-addext", f"subjectAltName=IP:{gateway}")
    made = ("-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "ca.crt", "-days", "1")
    assert run("openssl", "req", "-x509", *made, *names, cwd=tmp_path).returncode == 0
    (tmp_path / "ca.crt").chmod(0o644)
    return tmp_path / "ca.crt", tmp_path / "key.pem"


def credentials(tmp_path, host):
    """A file of a node that says what `ann` says to the registry."""
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps({"auths": {host: {"auth": b64encode(b"ann:secret").decode()}}}))
    path.chmod(0o644)
    return str(path)


def name_of(service, host):
    return f"{host}/models/{service.name}:0"


def said_by(service, slot):
    return service.docker("logs", service.container("bootstrap", slot))


def test_a_model_is_pulled_once_for_a_volume_and_needs_no_registry_again(
    make_service, tmp_path, gateway, htpasswd, certificate
):
    with registry_server(tmp_path / "registry", address=gateway, htpasswd=htpasswd, tls=certificate) as server:
        node, ca = credentials(tmp_path, server.host), str(certificate[0])
        service = make_service(environment={"REGISTRY_AUTH_FILE": node, "SSL_CERT_FILE": ca})
        service.configure(bootstrap="pull", registry={"credentials": node, "ca": ca})
        carrier = name_of(service, server.host)
        version = service.build(0, "--tag", carrier, "--push", carrier)
        for number in (1, 2):  # slot a, then slot b
            service.configure(env={"NUMBER": str(number)})
            service.run("release", "--model", carrier)
    assert service.serves() == version
    assert said_by(service, "a").startswith(f"copied {service.name} {version}: ")
    image = json.loads(docker("inspect", service.container("bootstrap", "b")))[0]["Config"]["Image"]
    assert image.startswith("mlops-puller:")
    assert not docker("images", "--quiet", carrier.rpartition(":")[0]), "no engine has the model"
    service.configure(env={"NUMBER": "3"})
    service.run("release", "--model", carrier)
    assert said_by(service, "a").startswith(f"found {service.name} {version}: "), "the registry is gone by now"
    assert service.serves() == version


def test_what_keeps_a_model_from_coming_is_told_at_once(make_service, tmp_path, gateway, htpasswd):
    with registry_server(tmp_path / "registry", address=gateway) as server:
        service = make_service(environment={"MLOPS_DEPLOY_INSECURE_REGISTRIES": server.host})
        service.configure(bootstrap="pull", registry={"insecure": True})
        carrier = name_of(service, server.host)
        service.build(0, "--tag", carrier)
        absent = service.run("release", "--model", carrier, code=4).stderr
        port = int(server.host.rpartition(":")[2])
    with registry_server(tmp_path / "registry", address=gateway, port=port, htpasswd=htpasswd):
        denied = service.run("release", "--model", carrier, code=4).stderr
    gone = service.run("release", "--model", carrier, code=4).stderr
    assert "the bootstrap ended with 78: its settings are wrong" in absent
    assert "the registry has no" in absent
    assert "the bootstrap ended with 78: its settings are wrong" in denied
    assert "the bootstrap ended with 75: the registry of the carrier does not answer" in gone
