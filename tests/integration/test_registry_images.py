"""A carrier and a server of a registry, named by their digests: pulled, looked at, and released."""

import json
import shutil

import pytest

from tests.integration.registry_server import registry_server
from tests.integration.releasing import TINY, docker, run

pytestmark = [pytest.mark.docker, pytest.mark.registry]

TASKS = ("bootstrap", "server")


@pytest.fixture
def registry(tmp_path):
    """A real registry on loopback; its host and port."""
    with registry_server(tmp_path / "registry") as server:
        yield server.host


def pushed(service, host, bias):
    """A carrier that only the registry has, by its digest; and the version in it."""
    version = service.build(bias, "--tag", f"{service.name}:{bias}")
    name, store = f"{host}/models/{service.name}", service.folder / ".mlops" / "store"
    source, place = f"oci:{store}:{service.name}:{bias}", f"docker://{name}:{bias}"
    copy = ("skopeo", "copy", "--quiet", "--all", "--preserve-digests", "--dest-tls-verify=false", source, place)
    assert (done := run(*copy)).returncode == 0, done.stderr
    index = json.loads((store / "index.json").read_text())["manifests"]
    shutil.rmtree(store)
    return f"{name}@{index[-1]['digest']}", version


@pytest.fixture
def server(tiny_image, registry):
    """The small server as only the registry has it, by its digest."""
    docker("tag", TINY, f"{registry}/tiny:1")
    docker("push", "--quiet", f"{registry}/tiny:1")
    found = json.loads(docker("image", "inspect", TINY))[0]["RepoDigests"]
    docker("rmi", f"{registry}/tiny:1", check=False)
    return next(one for one in found if one.startswith(registry))


def test_a_release_of_what_only_a_registry_has(make_service, registry, server):
    service = make_service()
    carrier, version = pushed(service, registry, 0)
    said = service.run("release", "--model", carrier, "--server", server).stderr
    assert f"pulling `{carrier}`" in said
    bootstrap, server_ = (
        json.loads(docker("inspect", service.container(task, "a")))[0] for task in ("bootstrap", "server")
    )
    assert bootstrap["Config"]["Image"] == carrier
    assert service.serves() == version
    assert "nothing to do" in service.run("release", "--model", carrier, "--server", server).stderr
    assert server_["State"]["Running"]


def test_what_the_registry_lacks_is_refused(make_service, registry):
    absent = f"{registry}/models/none@sha256:{'0' * 64}"
    done = make_service().run("release", "--model", absent, code=2)
    assert f"the registry has no `{absent}`" in done.stderr


def test_an_image_that_is_no_carrier_is_refused(make_service, registry, server):
    done = make_service().run("plan", "--model", server, code=2)
    assert f"`{server}` is no carrier" in done.stderr


def test_tags_are_pinned_by_their_digests_and_a_plan_pulls_nothing(make_service, registry, server):
    service = make_service()
    carrier, version = pushed(service, registry, 0)
    tags = ("--model", f"{carrier.partition('@')[0]}:0", "--server", f"{registry}/tiny:1")
    done = service.run("plan", *tags)
    assert f"`{tags[1]}` is the carrier `{carrier}` in the registry" in done.stderr
    assert f"`{tags[3]}` is the server `{server}` in the registry" in done.stderr
    assert server in done.stdout
    assert docker("image", "inspect", carrier, check=False) == "[]"
    service.run("release", *tags)
    images = [json.loads(docker("inspect", service.container(task, "a")))[0]["Config"]["Image"] for task in TASKS]
    assert images == [carrier, server]
    assert service.serves() == version
    assert "nothing to do" in service.run("release", "--model", carrier, "--server", server).stderr


def test_a_server_that_only_the_engine_has_is_taken_from_it(make_service, registry):
    service = make_service()
    service.build(0)
    docker("tag", TINY, f"{registry}/unpushed:1")
    try:
        done = service.run("plan", "--server", f"{registry}/unpushed:1")
        assert f"the server is `{registry}/unpushed:1` as the engine has it" in done.stderr
    finally:
        docker("rmi", f"{registry}/unpushed:1")
    assert "the registry has no" in service.run("plan", "--server", f"{registry}/unpushed:1", code=2).stderr
