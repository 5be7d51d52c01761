"""Images that several integration tests use: made once per session, kept by the engine for the next."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mlops_deploy.adapters.process import LocalRunner
from mlops_deploy.api.server_env import Packages, find_or_make, server_cache
from mlops_deploy.api.shells import ON_THIS_MACHINE
from mlops_deploy.cli.console import PlainStory
from mlops_deploy.errors import UnreachableError
from mlops_deploy.resources import IMAGES
from tests.integration import local_service, nomad_service, releasing
from tests.integration import nomad_agent as nomad_agents
from tests.integration.releasing import BASES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def server_base():
    """A base image that is in the engine: one that is there, else pulled, else made on this machine."""
    look = [["docker", "image", "inspect", base] for base in BASES]
    make = [["docker", "pull", BASES[1]], [str(ROOT / "images" / "base" / "build.sh")]]
    ways = zip((*look, *make), (*BASES, BASES[1], BASES[0]), strict=True)
    tried = (base for way, base in ways if subprocess.run(way, capture_output=True, check=False).returncode == 0)
    found = next(tried, None)
    assert found is not None
    return found


@pytest.fixture(scope="session")
def tiny_image(server_base):
    """The small v2 server, whose every fault can be asked for."""
    releasing.build_tiny(server_base)


@pytest.fixture
def make_service(tiny_image, tmp_path):
    """Services of a test's own; nothing is left of them."""
    with releasing.services(tmp_path) as make:
        yield make


@pytest.fixture(scope="session")
def busybox():
    """The static shell that a carrier needs, on this machine."""
    if not any(path.exists() for path in ON_THIS_MACHINE):
        pytest.skip("no busybox on this machine (`apt install busybox-static`)")


@pytest.fixture(scope="session")
def programs(busybox):
    """The programs of the real server's environment: the user's own, made where a package index answers."""
    recipe = IMAGES / "server"
    packages = Packages(requirements=recipe / "requirements.txt", constraints=recipe / "constraints.txt")
    try:
        return find_or_make(packages, server_cache(os.environ), os.environ, LocalRunner(), PlainStory())
    except UnreachableError as absent:
        if "index" in os.environ.get("MLOPS_DEPLOY_REQUIRE", "").split(","):
            raise
        pytest.skip(f"{absent.message}: nothing was served")


@pytest.fixture
def make_local(busybox, tmp_path):
    """Services of a test's own as local processes; nothing is left of them."""
    with releasing.services(tmp_path, local_service.LocalService) as make:
        yield make


@pytest.fixture(scope="module")
def local_services(busybox, tmp_path_factory):
    """The same for all tests of a module."""
    with releasing.services(tmp_path_factory.mktemp("shared"), local_service.LocalService) as make:
        yield make


@pytest.fixture(scope="module")
def shared_service(tiny_image, tmp_path_factory):
    """A service for all tests of a module, which leave it as they found it."""
    with releasing.services(tmp_path_factory.mktemp("shared")) as make:
        yield make()


@pytest.fixture
def service(make_service):
    """One of them."""
    return make_service()


@pytest.fixture(scope="session")
def server_image(server_base, tmp_path_factory):
    """The default server image, as `build-server` makes it where nothing is configured."""
    command = [sys.executable, "-m", "mlops_deploy", "build-server"]
    folder = tmp_path_factory.mktemp("server")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="session")
def nomad_agent():
    """A Nomad agent that the tests of a session share; each brings names of its own.

    Its folder has a short name: an agent gives each task a socket below it, and a socket's path has 107 bytes.
    """
    with TemporaryDirectory(prefix="nomad-") as folder, nomad_agents.agent(Path(folder) / "n") as one:
        yield one


@pytest.fixture
def make_nomad(tiny_image, nomad_agent, tmp_path):
    """Services of a test's own on that agent; nothing is left of them."""
    with releasing.services(tmp_path, partial(nomad_service.NomadService, agent=nomad_agent)) as make:
        yield make


@pytest.fixture(scope="module")
def nomad_service_of_all(tiny_image, nomad_agent, tmp_path_factory):
    """A service for all tests of a module, which leave it as they found it."""
    root = tmp_path_factory.mktemp("shared")
    with releasing.services(root, partial(nomad_service.NomadService, agent=nomad_agent)) as make:
        yield make()
