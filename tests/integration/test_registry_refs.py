"""References into a real registry, by the command line: looked at, verified, copied, rendered; no engine is asked."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.carriers import ARM64, elf, write_model
from tests.fakes.fault_proxy import FaultProxy
from tests.fakes.routers import until
from tests.integration.registry_server import registry_server
from tests.integration.releasing import docker

pytestmark = pytest.mark.registry

BIG = 40 << 20
CONFIG = "service: toy\nmodel: {path: model, name: toy}\npreset: kserve-sklearn\n"


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with registry_server(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def folder(tmp_path):
    write_model(tmp_path / "model", {"small.txt": b"small", "big.bin": os.urandom(BIG), "other.bin": os.urandom(BIG)})
    return tmp_path


@pytest.fixture
def call(folder, tmp_path):
    """The command line where no engine answers."""
    env = os.environ | {"HOME": str(tmp_path / "home"), "DOCKER_HOST": "unix:///nowhere.sock"}

    def call(*arguments, code=0):
        command = (sys.executable, "-m", "mlops_deploy", *arguments)
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == code, done.stderr
        return done

    return call


@pytest.fixture
def pushed(call, registry, request):
    """A carrier that only the registry has: its repository, and its digest."""
    name = f"{registry.host}/{request.node.name.partition('[')[0].replace('_', '-')}"
    built = call("build-model", "model", "--name", "toy", "-t", "toy:1", "--store", "st")
    call("copy", "toy:1", f"{name}:1", "--store", "st")
    shutil.rmtree(Path(request.getfixturevalue("folder")) / "st")
    return name, built.stdout.strip().partition("@")[2]


def test_it_is_looked_at_and_verified_where_it_is(call, pushed, registry):
    name, digest = pushed
    done = call("inspect", f"{name}:1", "--output", "json")
    said = json.loads(done.stdout)
    assert (said["digest"], said["registry"], said["tags"]) == (digest, name, [f"{name}:1"])
    assert f"in the registry: `{name}:1@{digest}`" in done.stderr
    assert json.loads(call("verify", f"{name}@{digest}", "--output", "json").stdout) == {
        "digest": digest,
        "files": 3,
        "verified": True,
        "registry": name,
    }


def test_what_is_wrong_there_is_told_by_the_exit_code(call, pushed, registry):
    name, _ = pushed
    assert f"`docker login {registry.host}`" in call("verify", f"{name}:none", code=2).stderr
    call("inspect", "localhost:1/toy:1", code=8)
    layers = json.loads(call("inspect", f"{name}:1", "--output", "json").stdout)["platforms"]["linux/amd64"]["layers"]
    wrong = max(layers, key=lambda layer: layer["size"])["digest"].removeprefix("sha256:")
    data = registry.folder / "docker/registry/v2/blobs/sha256" / wrong[:2] / wrong / "data"
    with data.open("r+b") as file:
        file.seek(1 << 20)
        file.write(b"????")
    done = call("verify", f"{name}:1", code=12)
    assert wrong in done.stderr
    done = call("copy", f"{name}:1", "mine:1", "--store", "other", code=12)
    assert "is damaged: its sha256 is" in done.stderr
    call("inspect", "mine:1", "--store", "other", code=2)


def test_a_copy_is_the_same_wherever_it_goes(call, pushed, registry, folder):
    name, digest = pushed
    said = json.loads(call("copy", f"{name}:1", f"{registry.host}/elsewhere/toy", "--output", "json").stdout)
    assert said["name"] == f"{registry.host}/elsewhere/toy:{digest[7:19]}"
    assert (said["layers"], said["bytes_sent"]) == ({"sent": 0, "mounted": 5, "found": 0}, 0)
    done = call("copy", f"{registry.host}/elsewhere/toy@{digest}", "mine:2", "--store", "other")
    assert done.stdout == f"mine:2@{digest}\n"
    assert call("verify", "mine:2", "--store", "other").stdout.startswith(digest)
    assert json.loads(call("copy", "mine:2", f"{name}:1", "--store", "other", "--output", "json").stdout)["layers"] == {
        "sent": 0,
        "mounted": 0,
        "found": 5,
    }


def test_the_command_after_a_copy_asks_the_registry_as_the_copy_did(call, pushed, registry):
    name, _ = pushed
    insecure = f"--insecure-registry {registry.host}"
    done = call("copy", f"{name}:1", f"{registry.host}/elsewhere/toy:9", *insecure.split())
    assert done.stderr.endswith(f"next: mlops-deploy inspect {registry.host}/elsewhere/toy:9 {insecure}\n")
    assert insecure not in call("copy", f"{name}:1", "mine:9", *insecure.split()).stderr


def test_a_copy_that_is_killed_goes_on_where_it_was(call, pushed, registry, folder, tmp_path):
    name, digest = pushed
    blobs = folder / "other" / "blobs" / "sha256"
    with FaultProxy(registry.host).running() as way:
        way.most, way.held = BIG + BIG // 2, "down"
        name = name.replace(registry.host, way.host)
        command = (sys.executable, "-m", "mlops_deploy", "copy", f"{name}:1", "mine:1", "--store", "other")
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: way.bytes["down"] >= way.most and any(blobs.glob(".mlops-deploy-*")), 60)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (folder / "other" / "index.json").exists()
        whole = {path.name for path in blobs.iterdir() if len(path.name) == 64}
        way.heal()
        said = json.loads(call(*command[3:], "--output", "json").stdout)
    assert said["layers"] == {"sent": 5 - len(whole), "mounted": 0, "found": len(whole)}
    assert not list(blobs.glob(".mlops-deploy-*"))
    assert call("verify", "mine:1", "--store", "other").stdout.startswith(digest)


@pytest.mark.parametrize("target", ["docker", "nomad", "kubernetes"])
def test_a_job_file_names_the_digest_of_the_tag(call, pushed, folder, target):
    name, digest = pushed
    (folder / "mlops.yml").write_text(CONFIG)
    done = call("render", "--target", target, "--model", f"{name}:1")
    assert f"{name}@{digest}" in done.stdout
    assert not (folder / ".mlops" / "store").exists()


def test_memory_does_not_grow_with_the_layers(pushed, folder):
    name, _ = pushed
    measured = (
        "import resource, subprocess, sys\n"
        "code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
        "sys.exit(code)\n"
    )
    for arguments in (("verify", f"{name}:1"), ("copy", f"{name}:1", "mine:1", "--store", "other")):
        command = (sys.executable, "-c", measured, sys.executable, "-m", "mlops_deploy", *arguments)
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) < 96 << 10


def test_one_carrier_for_two_platforms_goes_wherever_one_does(call, registry, folder, tmp_path):
    (tmp_path / "arm64").write_bytes(elf(ARM64))
    shells = ("--shell", "/bin/busybox", "--shell", str(tmp_path / "arm64"))
    call("build-model", "model", "--name", "toy", "-t", "toy:1", "--store", "st", *shells)
    name = f"{registry.host}/both/toy"
    call("copy", "toy:1", f"{name}:1", "--store", "st")
    platforms = json.loads(call("inspect", f"{name}:1", "--output", "json").stdout)["platforms"]
    assert sorted(platforms) == ["linux/amd64", "linux/arm64"]
    one, other = ([layer["digest"] for layer in image["layers"]] for image in platforms.values())
    assert one[0] != other[0]
    assert one[1:] == other[1:]
    call("verify", f"{name}:1")
    pushed = call("build-model", "model", "--name", "toy", "--push", f"{name}:2", *shells).stdout
    assert (
        pushed.strip().partition("@")[2]
        == json.loads(call("inspect", f"{name}:1", "--output", "json").stdout)["digest"]
    )


@pytest.mark.docker
def test_of_two_platforms_an_engine_and_a_pull_take_what_runs_here(call, registry, folder, tmp_path):
    (tmp_path / "arm64").write_bytes(elf(ARM64))
    name = f"{registry.host}/engine/toy"
    shells = ("--shell", "/bin/busybox", "--shell", str(tmp_path / "arm64"))
    call("build-model", "model", "--name", "toy", "--push", f"{name}:1", *shells)
    content = json.loads(call("inspect", f"{name}:1", "--output", "json").stdout)["content_id"]
    call("pull", f"{name}:1", "volume")
    assert (folder / "volume" / "v" / content / "small.txt").read_text() == "small"
    docker("pull", "--quiet", f"{name}:1")
    try:
        said = docker(
            "run", "--rm", "--tmpfs", "/model", f"{name}:1", "sh", "-c", "/deploy.sh && cat /model/toy/small.txt"
        )
        assert said.endswith("small")
    finally:
        docker("rmi", f"{name}:1")


def test_a_local_release_of_what_only_the_registry_has(make_local, registry):
    service = make_local()
    version = service.build(0, "--tag", f"{service.name}:0")
    ref = f"{registry.host}/local/{service.name}:0"
    service.run("copy", f"{service.name}:0", ref)
    shutil.rmtree(service.folder / ".mlops" / "store")
    newer = service.build(1)
    service.use(0)
    done = service.run("release", "--model", ref)
    assert f"copying `{ref.rpartition(':')[0]}@sha256:" in done.stderr
    assert service.serves() == version
    service.use(1)
    service.run("release")
    assert service.serves() == newer
    shutil.rmtree(service.folder / ".mlops" / "store")
    assert "no carrier" in service.run("release", code=2).stderr
    assert service.run("rollback").returncode == 0
    assert service.serves() == version


@pytest.mark.docker
def test_a_cold_rollback_copies_anew_what_the_store_has_lost(make_local, tmp_path):
    service = make_local()
    service.configure(release=service.config["release"] | {"strategy": "recreate"})
    (network,) = json.loads(docker("network", "inspect", "bridge"))
    with registry_server(tmp_path / "registry", address=network["IPAM"]["Config"][0]["Gateway"]) as server:
        named, versions = ("--insecure-registry", server.host), []
        for bias in (0, 1):
            ref = f"{server.host}/models/{service.name}:{bias}"
            versions.append(service.build(bias, "--tag", ref, "--push", ref, *named))
            shutil.rmtree(service.folder / ".mlops" / "store")
            service.run("release", "--model", ref, *named)
        shutil.rmtree(service.folder / ".mlops" / "store")
        assert f"--insecure-registry {server.host}" in service.run("rollback", code=8).stderr
        assert service.serves() == versions[1]
        assert "copying `" in service.run("rollback", *named).stderr
        assert service.serves() == versions[0]
