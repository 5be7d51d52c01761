"""The whole target without a container engine: real HAProxy, keeper and carriers, and whatever is killed meanwhile."""

import http.client
import os
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mlops_deploy.adapters.process import LocalRunner
from mlops_deploy.adapters.processes.identity import alive
from mlops_deploy.adapters.processes.target import ProcessTarget
from mlops_deploy.errors import DeployError, UnusableInputError
from mlops_deploy.release.state import CLOSED, Route, whole
from mlops_deploy.render.router import RouterSettings, render_router
from mlops_deploy.spec.owner import Owner
from tests.fakes.local_slots import NAME, artefact, holds, pid_of, processes_of, until
from tests.fakes.ports import free_port

pytestmark = pytest.mark.haproxy

PATHS = (f"/v2/models/{NAME}/ready", f"/v2/models/{NAME}/infer")


class Service:
    """A target with its router's configuration, and a client of its entry."""

    def __init__(self, home, port, **environ):
        self.home, self.port = home, port
        owner = Owner(service="digits", environment="test")
        self.target = ProcessTarget(owner, port, home=home, environ={**os.environ, **environ})
        self.folder = home / "digits-test"

    @property
    def config(self):
        return render_router(
            RouterSettings(
                service="digits",
                listen=f"127.0.0.1:{self.port}",
                a="{}:{}".format(*self.target.address("a")),
                b="{}:{}".format(*self.target.address("b")),
                by_name=False,
                check_path=PATHS[0],
                paths=PATHS,
            )
        )

    def start(self):
        self.target.make_router(self.config)
        return self

    def run(self, slot, weight):
        self.target.ensure(slot, artefact(weight))
        until(self.target, slot, "running")
        keeper = self.target.keeper()
        holds(lambda: keeper.observed().lane(slot).up)
        keeper.close()
        return artefact(weight).content_id.short

    def commit(self, route):
        keeper = self.target.keeper()
        try:
            lease = keeper.get("lease")
            if lease.value is None:
                keeper.put("lease", {"token": 1, "holder": "tests", "ttl": 3600.0}, lease.index, 1)
            keeper.commit(route, keeper.observed().generation, 1)
        finally:
            keeper.close()

    def observed(self):
        keeper = self.target.keeper()
        try:
            return keeper.observed()
        finally:
            keeper.close()

    def get(self, path=PATHS[0]):
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            client.request("GET", path)
            answer = client.getresponse()
            return answer.status, answer.read().decode()
        finally:
            client.close()

    @property
    def router(self):
        return (self.folder / "router.id").read_text()


@pytest.fixture
def service(tmp_path):
    service = Service(tmp_path / "state", free_port())
    yield service
    service.target.remove(volumes=True)
    holds(lambda: processes_of(tmp_path) == {})
    assert not service.folder.exists()


def haproxies(service):
    return [pid for pid, line in processes_of(service.home).items() if "haproxy -W" in line]


def test_a_new_router_is_closed_and_then_sends_requests_where_was_committed(service):
    assert service.target.keeper() is None
    service.start()
    assert service.get()[0] == 503
    a, b = service.run("a", 1), service.run("b", 2)
    service.commit(whole("a"))
    assert a in service.get()[1]
    service.commit(whole("b"))
    assert b in service.get()[1]
    assert service.get("/metrics")[0] == 404
    service.commit(CLOSED)
    assert service.get()[0] == 503


def test_a_router_is_made_once_also_by_many_at_once(service):
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: Service(service.home, service.port).start(), range(6)))
    first = service.router
    service.start()
    assert service.router == first
    assert alive(first)
    assert service.observed().applied == CLOSED


@pytest.mark.parametrize("victim", ["init", "master", "worker"])
def test_a_router_that_was_killed_comes_back_with_what_was_committed(service, victim):
    service.start()
    a = service.run("a", 1)
    service.commit(whole("a"))
    keeper = service.target.keeper()
    killed = pid_of(service.router) if victim == "init" else sorted(haproxies(service))[victim == "worker"]
    os.kill(killed, signal.SIGKILL)
    holds(lambda: not alive(service.router))
    holds(lambda: haproxies(service) == [])
    seen = keeper.observed()
    keeper.close()
    assert (seen.route, seen.applied) == (whole("a"), None)
    assert service.target.keeper() is None
    service.start()
    assert service.observed().applied == whole("a")
    holds(lambda: a in service.get()[1])


def test_a_keeper_that_was_killed_is_replaced_at_the_next_call(service):
    service.start()
    keeper = service.target.keeper()
    keeper.observed()
    (serving,) = (pid for pid, line in processes_of(service.home).items() if line.rstrip().endswith("keeper serve"))
    os.kill(serving, signal.SIGKILL)
    holds(lambda: serving not in processes_of(service.home))
    assert keeper.observed().route == CLOSED
    keeper.close()
    holds(lambda: not any("keeper serve" in line for line in processes_of(service.home).values()))


def test_slots_and_router_outlive_each_other_and_the_command_that_started_them(service):
    command = (
        "import os, sys; from pathlib import Path; sys.path.insert(0, '.');"
        "from tests.integration.test_process_target import Service; from tests.fakes.local_slots import artefact;"
        f"service = Service(Path({str(service.home)!r}), {service.port});"
        "service.start(); service.target.ensure('a', artefact(1)); os.kill(os.getpid(), 9)"
    )
    assert LocalRunner().run((sys.executable, "-c", command), timeout=60).code == -signal.SIGKILL
    a = service.run("a", 1)
    service.commit(whole("a"))
    assert a in service.get()[1]
    os.kill(pid_of(service.router), signal.SIGKILL)
    holds(lambda: haproxies(service) == [])
    assert service.target.observe("a").state == "running"
    service.start()
    holds(lambda: a in service.get()[1])


def test_a_killed_slot_is_called_down_and_told_by_its_cause(service):
    service.start()
    service.run("a", 1)
    os.kill(pid_of(service.target.observe("a").revision), signal.SIGKILL)
    assert until(service.target, "a", "failed").cause.message == "the server ended by SIGKILL"
    holds(lambda: not service.observed().a.up)


def test_requests_go_on_while_the_route_changes(service):
    service.start()
    versions = {service.run("a", 1), service.run("b", 2)}
    service.commit(whole("a"))
    answers, stop = [], threading.Event()

    def ask():
        client = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
        while not stop.wait(0.01):
            client.request("GET", PATHS[0])
            answer = client.getresponse()
            answers.append((answer.status, answer.read().decode()))
        client.close()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(10):
        time.sleep(0.1)
        service.commit(whole("b" if turn % 2 == 0 else "a"))
    holds(lambda: len(answers) > 100)
    stop.set()
    for thread in threads:
        thread.join()
    assert {status for status, _ in answers} == {200}
    assert {version for version in versions if any(version in body for _, body in answers)} == versions
    seen = service.observed()
    assert seen.entry.requests >= len(answers)
    assert seen.entry.failed == 0


def test_a_taken_port_is_named_and_nothing_is_left(service):
    with socket.socket() as other:
        other.bind(("127.0.0.1", service.port))
        other.listen()
        with pytest.raises(UnusableInputError, match=f"port {service.port} is taken by another program"):
            service.start()
    assert service.target.keeper() is None
    service.start()


def test_without_haproxy_the_next_step_is_named(service, tmp_path):
    without = Service(service.home, service.port, PATH=str(tmp_path))
    with pytest.raises(UnusableInputError, match="no `haproxy` on this machine") as refused:
        without.start()
    assert "apt install haproxy" in refused.value.hint
    assert service.target.keeper() is None


def test_a_configuration_that_haproxy_refuses_is_told_in_its_words_and_leaves_no_router(service):
    service.target.address("a")
    with pytest.raises(DeployError, match="the router did not start") as refused:
        service.target.make_router("frontend nonsense\n    bind nowhere\n")
    assert any("nonsense" in line or "nowhere" in line for line in refused.value.detail)
    assert service.target.keeper() is None
    service.start()


def test_sockets_go_elsewhere_when_the_state_is_too_deep_for_them(tmp_path):
    service = Service(tmp_path / ("deep" * 20) / "state", free_port()).start()
    try:
        assert service.observed().applied == CLOSED
    finally:
        service.target.remove(volumes=True)
    holds(lambda: processes_of(tmp_path) == {})


def test_what_the_router_said_can_be_read(service):
    service.start()
    service.run("a", 1)
    holds(lambda: any("Server a/a is UP" in line for line in service.target.logs("router", None, 50, follow=False)))
    assert len(list(service.target.logs("router", None, 1, follow=False))) == 1


def test_without_volumes_models_and_state_stay(service, tmp_path):
    service.start()
    service.run("a", 1)
    service.commit(Route(share_b=2500))
    service.target.remove(volumes=False)
    holds(lambda: processes_of(tmp_path) == {})
    assert (service.folder / "a" / "models" / "v" / artefact(1).content_id.hex).is_dir()
    service.start()
    assert service.observed().applied == Route(share_b=2500)
