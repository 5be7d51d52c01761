"""An archive of a carrier, loaded and run by what else there is: Docker 20.10, podman, containerd.

Docker 26 with both of its image stores and skopeo are in test_build_model.py.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.carriers import write_model

OLD = Path("/var/lib/mlops-deploy/docker-20.10")
"""Where `scripts/engine.sh --test-tools` unpacks Debian 12's own engine."""

CONTAINERD = Path("/var/run/docker/containerd/containerd.sock")
FILES = {"model.bin": os.urandom(300_000), "labels/names with blanks.txt": b"0\n", "labels/größe": b"8x8", "empty": b""}
TAG = "mlops-archive-test:1"
DEPLOY = ("sh", "-c", "/deploy.sh")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="engines of one's own need root")


def run(*arguments, check=True, **named):
    named.setdefault("capture_output", True)
    done = subprocess.run([str(part) for part in arguments], timeout=120, check=False, **named)
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture(params=["file", "stream"])
def archive(request, tmp_path):
    """An archive of a carrier, made either way."""
    write_model(tmp_path / "model", FILES)
    command = [sys.executable, "-m", "mlops_deploy", "build-model", "model", "-t", TAG, "--archive"]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    if request.param == "file":
        run(*command, "x.tar", cwd=tmp_path, env=environment)
    else:
        with (tmp_path / "x.tar").open("wb") as file:
            run(*command, "-", cwd=tmp_path, env=environment, capture_output=False, stdout=file)
    return tmp_path / "x.tar"


@pytest.fixture
def volume(tmp_path):
    """A folder to mount as the volume of models."""
    made = tmp_path / "volume"
    made.mkdir()
    return made


def check(volume, first, second):
    """The model is there, whole, and a second run finds it."""
    assert b"copied" in first.stdout + first.stderr
    assert b"found" in second.stdout + second.stderr
    (content,) = (path for path in (volume / "v").iterdir() if len(path.name) == 64)
    found = {str(path.relative_to(content)): path.read_bytes() for path in content.rglob("*") if path.is_file()}
    assert found == FILES


@pytest.mark.skipif(not OLD.is_dir(), reason="no Docker 20.10 here (`scripts/engine.sh --test-tools` unpacks one)")
def test_docker_20(archive, volume, tmp_path_factory):
    with docker_20(tmp_path_factory.mktemp("d")) as host:
        assert b"20.10" in run("docker", "-H", host, "version", "--format", "{{.Server.Version}}").stdout
        run("docker", "-H", host, "load", "-i", archive)
        line = ("docker", "-H", host, "run", "--rm", "--network", "none", "-v", f"{volume}:/model", TAG, *DEPLOY)
        check(volume, run(*line), run(*line))


@contextmanager
def docker_20(root):
    settings = {
        "hosts": [f"unix://{root}/s"],
        "data-root": f"{root}/data",
        "exec-root": f"{root}/exec",
        "pidfile": f"{root}/pid",
        "bridge": "none",
        "iptables": False,
        "ip6tables": False,
    }
    (root / "daemon.json").write_text(json.dumps(settings))
    path = f"{OLD}/usr/sbin:{OLD}/usr/bin:{os.environ['PATH']}"
    # In a network of its own: an engine without a bridge removes the one that the machine's engine uses.
    command = ["unshare", "--net", OLD / "usr/sbin/dockerd", "--config-file", root / "daemon.json"]
    with (root / "log").open("wb") as log:
        engine = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"PATH": path})
    host = f"unix://{root}/s"
    until = time.monotonic() + 60
    while run("docker", "-H", host, "info", check=False).returncode:
        assert engine.poll() is None, (root / "log").read_text()
        assert time.monotonic() < until, (root / "log").read_text()
        time.sleep(0.2)
    try:
        yield host
    finally:
        engine.terminate()
        engine.wait(60)


@pytest.mark.skipif(not shutil.which("podman"), reason="no podman here")
def test_podman(archive, volume, tmp_path_factory):
    root = tmp_path_factory.mktemp("p")
    podman = ("podman", "--root", root / "root", "--runroot", root / "run", "--storage-driver", "vfs",
              "--cgroup-manager", "cgroupfs", "--events-backend", "file")  # fmt: skip
    run(*podman, "load", "-i", archive)
    # A machine may allow fewer open files than podman asks for by itself.
    limits = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
    line = (*podman, "run", "--rm", "--network", "none", *limits, "-v", f"{volume}:/model", f"localhost/{TAG}", *DEPLOY)
    try:
        check(volume, run(*line), run(*line))
    finally:
        run(*podman, "rmi", "--all", "--force", check=False)


@pytest.mark.skipif(not shutil.which("ctr") or not CONTAINERD.is_socket(), reason="no containerd here")
def test_containerd(archive, volume):
    ctr = ("ctr", "-a", CONTAINERD, "-n", "mlops-archive-test")
    name = f"docker.io/library/{TAG}"
    run(*ctr, "images", "import", archive)
    mount = f"type=bind,src={volume},dst=/model,options=rbind:rw"
    line = (*ctr, "run", "--rm", "--mount", mount, name)
    try:
        check(volume, run(*line, "first", *DEPLOY), run(*line, "second", *DEPLOY))
    finally:
        listed = run(*ctr, "images", "list", "-q").stdout.decode().split()
        run(*ctr, "images", "remove", *listed)
