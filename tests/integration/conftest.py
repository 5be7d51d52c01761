"""Images that several integration tests use: made once per session, kept by the engine for the next."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASES = ("mlops-base:bookworm", "python:3.11-slim-bookworm")


@pytest.fixture(scope="session")
def server_base():
    """A base image that is in the engine: one that is there, else pulled, else made on this machine."""
    ways = [["docker", "image", "inspect", base] for base in BASES]
    ways += [["docker", "pull", BASES[1]], [str(ROOT / "images" / "base" / "build.sh")]]
    assert any(subprocess.run(way, capture_output=True, check=False).returncode == 0 for way in ways)


@pytest.fixture(scope="session")
def server_image(server_base, tmp_path_factory):
    """The default server image, as `build-server` makes it where nothing is configured."""
    command = [sys.executable, "-m", "mlops_deploy", "build-server"]
    folder = tmp_path_factory.mktemp("server")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
