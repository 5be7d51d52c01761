"""One carrier for all runtimes: as KServe's modelcar beside a server, and as an image that is mounted as it is.

KServe starts a modelcar with `ln -s /proc/$$/root/models` and a sleep, under the server's user, and shares the pod's
process namespace: https://kserve.github.io/website/docs/model-serving/storage/providers/oci.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.carriers import write_model

pytestmark = pytest.mark.docker

FILES = {"model.bin": os.urandom(100_000), "config/labels.json": b"{}"}
TAG = "mlops-modelcar-test:1"
MODELCAR = "ln -sf /proc/$$/root/models /mnt/models && sleep 60"


def docker(*words, check=True):
    done = subprocess.run(["docker", *map(str, words)], capture_output=True, text=True, timeout=120, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def carrier(tmp_path):
    """The carrier in the engine, by its tag."""
    write_model(tmp_path / "model", FILES)
    command = [sys.executable, "-m", "mlops_deploy", "build-model", "model", "--load", "-t", TAG, "--output", "json"]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=60, check=True)
    yield TAG
    for tag in json.loads(done.stdout)["tags"]:
        docker("rmi", "-f", tag, check=False)


def test_a_modelcar_lends_its_files_to_the_server(carrier, tmp_path):
    shared = tmp_path / "mnt"
    shared.mkdir(mode=0o777)
    shared.chmod(0o777)
    user, volume = "--user=1000:1000", f"--volume={shared}:/mnt"
    car = docker("run", "-d", "--rm", "--network=none", user, volume, carrier, "sh", "-c", MODELCAR)
    try:
        look = (
            "until [ -e /mnt/models ]; do sleep 0.1; done; cd /mnt/models && find . -type f | sort && wc -c < model.bin"
        )
        line = ("run", "--rm", "--network=none", f"--pid=container:{car}", user, volume, carrier, "sh", "-c")
        said = docker(*line, look)
        assert said.split() == ["./config/labels.json", "./model.bin", "100000"]
    finally:
        docker("rm", "-f", car)


def test_mounted_as_it_is_it_holds_the_files_under_models(carrier, tmp_path):
    """What an image volume shows at its mount: the root of the image, of which a pod mounts `models`."""
    made = docker("create", carrier, "none")
    try:
        docker("cp", f"{made}:/models", tmp_path / "seen")
    finally:
        docker("rm", made)
    seen = {
        str(path.relative_to(tmp_path / "seen")): path.read_bytes()
        for path in (tmp_path / "seen").rglob("*")
        if path.is_file()
    }
    assert seen == FILES
