"""Debian's registry with passwords, TLS and client certificates, asked by the commands as people ask it."""

import json
import os
import shutil
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import pytest

from tests.fakes.carriers import write_model
from tests.integration.nomad_tls import Certificates
from tests.integration.registry_server import registry_server

pytestmark = pytest.mark.registry

PASSWORD = "s3cret-of-ann"
HTPASSWD = "$2y$05$abcdefghijklmnopqrstuubGIO2GYAzsTYkWDBylJZ1TngL2ovaZy"


def bridge():
    """An address of this machine that is not loopback, and that nobody else reaches: that of docker's bridge."""
    done = subprocess.run(["ip", "-4", "-o", "addr", "show", "docker0"], capture_output=True, text=True, check=False)
    return done.stdout.split()[3].partition("/")[0] if done.stdout else None


ADDRESS = bridge() if shutil.which("ip") else None
ELSEWHERE = pytest.mark.skipif(ADDRESS is None, reason="no docker bridge on this machine")


@pytest.fixture
def folder(tmp_path):
    write_model(tmp_path / "model", {"a.bin": os.urandom(5000)})
    (tmp_path / "htpasswd").write_text(f"ann:{HTPASSWD}\n")
    return tmp_path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("tls") / "tls", names=f"IP:{ADDRESS or '127.0.0.1'}")


def run(folder, *arguments, **environ):
    home = {"HOME": str(folder / "home"), "XDG_CACHE_HOME": str(folder / "cache"), "XDG_RUNTIME_DIR": str(folder)}
    return subprocess.run(
        [sys.executable, "-m", "mlops_deploy", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())} | home | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def push(folder, host, *arguments, **environ):
    return run(folder, "build-model", "model", "--push", f"{host}/team/digits:1", *arguments, **environ)


def login(folder, host, password=PASSWORD):
    file = folder / "home" / ".docker" / "config.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    auth = b64encode(f"ann:{password}".encode()).decode()
    file.write_text(json.dumps({"auths": {host: {"auth": auth}}}))


def laid(folder, host, **files):
    place = folder / "home" / ".config" / "containers" / "certs.d" / host
    place.mkdir(parents=True, exist_ok=True)
    for name, file in files.items():
        shutil.copy(file, place / name.replace("_", "."))


def test_a_registry_with_passwords(folder):
    with registry_server(folder / "registry", htpasswd=folder / "htpasswd") as registry:
        done = push(folder, registry.host)
        assert done.returncode == 2
        assert f"log in with `docker login {registry.host}`" in done.stderr
        login(folder, registry.host, "wrong-s3cret")
        done = push(folder, registry.host)
        assert done.returncode == 2
        assert "wrong" not in done.stderr
        login(folder, registry.host)
        assert (done := push(folder, registry.host)).returncode == 0, done.stderr
        assert registry.tags("team/digits") == {"1"}
        done = run(folder, "verify", f"{registry.host}/team/digits:1")
        assert done.returncode == 0, done.stderr


@ELSEWHERE
def test_a_registry_with_an_authority_and_client_certificates_of_its_own(folder, certificates):
    server = certificates.folder / "server.pem", certificates.folder / "server-key.pem"
    settings = {"tls": server, "client_ca": certificates.authority, "address": ADDRESS}
    with registry_server(folder / "registry", htpasswd=folder / "htpasswd", **settings) as registry:
        login(folder, registry.host)
        done = push(folder, registry.host)
        assert done.returncode == 8
        assert "certificate is not trusted" in done.stderr
        assert f"certs.d/{registry.host}/ca.crt" in done.stderr
        laid(folder, registry.host, ca_crt=certificates.authority)
        done = push(folder, registry.host)
        assert done.returncode == 8
        assert "`client.cert`" in done.stderr
        mine, key = certificates.client
        laid(folder, registry.host, client_cert=mine, client_key=key)
        assert (done := push(folder, registry.host)).returncode == 0, done.stderr
        done = run(folder, "verify", f"{registry.host}/team/digits:1")
        assert done.returncode == 0, done.stderr


@ELSEWHERE
def test_plain_http_elsewhere_only_where_it_is_allowed(folder):
    with registry_server(folder / "registry", address=ADDRESS) as registry:
        done = push(folder, registry.host)
        assert done.returncode == 8
        assert f"--insecure-registry {registry.host}" in done.stderr
        named = ("--insecure-registry", registry.host)
        assert (done := push(folder, registry.host, *named)).returncode == 0, done.stderr
        ref = f"{registry.host}/team/digits:1"
        assert run(folder, "verify", ref).returncode == 8
        assert run(folder, "verify", ref, MLOPS_DEPLOY_INSECURE_REGISTRIES=f"other.test, {ADDRESS}").returncode == 0
        assert run(folder, "inspect", ref, *named).returncode == 0


@pytest.mark.parametrize("value", ["", "http://r.test", "r.test/team", "r.test:port", "a b", "user@r.test"])
def test_what_is_no_host_is_refused(folder, value):
    done = run(folder, "verify", "r.test/team/digits:1", "--insecure-registry", value)
    assert done.returncode == 2
    assert "HOST:PORT" in done.stderr
