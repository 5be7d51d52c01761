"""The address that a live server gives up when it ends never leads clients to a candidate that nobody has proven."""

import gc
import json
import threading
import time

import pytest

from mlops_deploy.adapters.compose.target import ComposeTarget
from mlops_deploy.adapters.docker_engine import DockerEngine
from mlops_deploy.adapters.process import LocalRunner
from mlops_deploy.api.docker_supply import DockerSupply
from mlops_deploy.config.load import load_with_files
from mlops_deploy.spec.owner import Owner
from mlops_deploy.spec.rendered import JobImage
from mlops_deploy.store.layout import LayoutStore
from tests.fakes.carriers import Silent
from tests.integration.releasing import docker, until

pytestmark = [pytest.mark.docker, pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")]

ENDS = [("kill",), ("rm", "--force"), ("kill",)]
WATCHED = 5.0
"""Seconds for which clients ask while the candidate runs: longer than the router keeps an address without an answer."""


@pytest.fixture
def target(service):
    runner = LocalRunner()
    target = ComposeTarget(Owner(service=service.name), service.port, JobImage(ref="none", local=True), runner, runner)
    yield target
    for slot in "ab":
        target.stop(slot, 1)
        until(lambda slot=slot: target.observe(slot).state == "absent", 30, "stopped")
    target._client.close()
    gc.collect()  # the SDK leaves some sockets to it


def artefact(service, bias):
    """What a release of the model that adds `bias` runs; its images are in the engine."""
    service.build(bias)
    spec, _ = load_with_files(service.folder / "mlops.yml", None)
    store = LayoutStore(service.folder / ".mlops" / "store")
    supply = DockerSupply(spec=spec, store=store, engine=DockerEngine(), builder=None)
    made = supply.artefact(store.newest(service.name), None)
    supply.prepare(made, Silent())
    return made


def networks(container):
    return set(json.loads(docker("inspect", container))[0]["NetworkSettings"]["Networks"])


class Clients:
    """Asks through the entry, a new connection each time, until it is ended; all different answers."""

    def __init__(self, service):
        self._service, self._over, self.seen = service, threading.Event(), []
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _ask(self):
        while not self._over.is_set():
            try:
                self.seen.append(self._service.serves())
            except OSError as error:
                self.seen.append(type(error).__name__)
            time.sleep(0.005)


def test_a_candidate_never_answers_for_a_live_server_that_ended(service, target):
    live = artefact(service, 1)
    service.run("release")
    candidate = artefact(service, 2)
    one, two = (it.proof.version for it in (live, candidate))
    assert service.serves() == one
    for end in ENDS:
        with Clients(service) as clients:
            until(lambda clients=clients: one in clients.seen, 10, "it is live")
            docker(*end, service.container("server", "a"))
            target.ensure("b", candidate)
            until(lambda: target.observe("b").state == "running", 60, "the candidate runs")
            until(lambda clients=clients: 503 in clients.seen, 30, "nobody is live")
            time.sleep(WATCHED)
        assert two not in clients.seen
        assert networks(service.container("server", "b")) == {f"{service.name}-b"}
        target.stop("b", 1)
        until(lambda: target.observe("b").state == "absent", 30, "the candidate is gone")
        target.ensure("a", live)
        until(lambda: service.serves() == one, 60, "the live one answers again, found by its name")
        assert networks(service.container("server", "a")) == {f"{service.name}-a"}
    assert networks(service.container("router")) == {f"{service.name}-a", f"{service.name}-b"}
