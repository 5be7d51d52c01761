"""The router that a cluster runs, with real HAProxy: it follows what the cluster says, and outlives its silence."""

import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mlops_deploy.release.state import CLOSED, Route, whole
from mlops_deploy.render.router import render_router
from tests.fakes.routers import KEEPER, Router, Server, keeper_argv, until
from tests.fakes.task_api import TaskApi

pytestmark = pytest.mark.haproxy

INFER = "/v2/models/m/infer"


class ClusterRouter(Router):
    """A router whose task the cluster `api` has started."""

    def __init__(self, api):
        super().__init__(1, 1)
        self.settings = replace(self.settings, listen=None, a=None, b=None)
        self.env |= api.environment() | {"ROUTER_ADDRESS": f"127.0.0.1:{self.port}"}

    @property
    def config(self):
        return render_router(self.settings)

    def begin(self):
        """Start it without waiting for anything."""
        with (self.root / "log").open("ab") as log:
            self.process = subprocess.Popen(
                keeper_argv("init"), env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def start(self):
        self.begin()
        keeper = self.keeper()
        until(lambda: self.process.poll() is not None or self.is_there(keeper))
        assert self.process.poll() is None, self.log()
        return keeper


@pytest.fixture
def servers():
    made = Server("a"), Server("b")
    yield made
    for server in made:
        server.end()


@pytest.fixture
def api(tmp_path):
    made = TaskApi(tmp_path)
    yield made
    made.end()


@pytest.fixture
def router(api):
    made = ClusterRouter(api)
    yield made
    made.end()


@pytest.fixture
def keeper(api, router, servers):
    """A router that sends everything to slot a; both servers are registered, and up."""
    api.route(0, 1, config=router.config)
    for slot, server in zip("ab", servers, strict=True):
        api.serve(slot, server.port)
    started = router.start()
    until(lambda: started.observed().a.up and started.observed().b.up)
    return started


def version(router):
    """The version that answers, else the status, else that nobody does."""
    connection = http.client.HTTPConnection("127.0.0.1", router.port, timeout=10)
    try:
        connection.request("GET", INFER)
        answer = connection.getresponse()
        body = answer.read()
        return json.loads(body)["version"] if answer.status == 200 else answer.status
    except ConnectionError:
        return None
    finally:
        connection.close()


def beside(router):
    """The processes that follow the cluster: children of the router that are not HAProxy."""
    children = Path(f"/proc/{router.process.pid}/task/{router.process.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"haproxy" not in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_it_begins_with_what_is_committed(api, router, servers):
    api.route(10_000, 7, config=router.config)
    api.serve("b", servers[1].port)
    view = router.start().observed()
    assert (view.route, view.applied, view.generation, view.token) == (whole("b"), whole("b"), 7, 1)
    assert version(router) == "b"


def test_a_route_is_in_force_as_soon_as_it_is_written(api, router, keeper):
    for generation in range(2, 42):
        slot = "ab"[generation % 2]
        api.route(10_000 if slot == "b" else 0, generation)
        until(lambda slot=slot: version(router) == slot, 8)  # who only asks now and then takes ten seconds
    api.route(0, 42, closed=True)
    until(lambda: version(router) == 503)
    view = keeper.observed()
    assert (view.route, view.applied, view.generation) == (CLOSED, CLOSED, 42)


def test_the_share_never_goes_back(api, router, keeper):
    api.route(10_000, 5)
    until(lambda: version(router) == "b")
    for share, generation in ((0, 4), (0, 5), (0, 1)):
        api.route(share, generation)
    api.serve("a")
    until(lambda: not keeper.observed().a.up)
    assert keeper.observed().generation == 5
    assert version(router) == "b"
    api.route(10_000, 6)
    until(lambda: keeper.observed().generation == 6)


def test_a_ledger_that_was_made_anew_begins_anew(api, router, keeper):
    api.route(10_000, 5)
    until(lambda: version(router) == "b")
    api.route(0, 0, closed=True, created=90)
    until(lambda: version(router) == 503)
    assert keeper.observed().generation == 0


def test_without_a_committed_route_nobody_is_let_in(api, router):
    router.begin()
    until(lambda: "holds no route and configuration" in router.log())
    assert version(router) is None
    api.route(0, 0, closed=True, config=router.config)
    until(lambda: version(router) == 503)


@pytest.mark.parametrize("fault", [500, 403, "hang"])
def test_a_cluster_that_does_not_answer_is_waited_for(api, router, fault):
    api.fault = fault
    api.route(0, 3, closed=True, config=router.config)
    router.begin()
    if fault != "hang":
        until(lambda: "the cluster answers" in router.log())
    time.sleep(1.5)
    assert version(router) is None
    assert router.process.poll() is None
    if fault == "hang":
        return
    api.fault = None
    until(lambda: version(router) == 503)


def test_sigterm_ends_a_router_that_waits(api, router):
    router.begin()
    until(lambda: "holds no route" in router.log())
    router.process.terminate()
    assert router.process.wait(8) == 128 + signal.SIGTERM


def test_a_restart_during_a_silence_goes_on_as_before(api, router, keeper, servers):
    api.route(10_000, 5)
    until(lambda: version(router) == "b")
    api.fault = 500
    router.kill()
    until(lambda: version(router) is None)
    router.begin()
    until(lambda: version(router) == "b", 15)
    assert "starting with what was known here last" in router.log()
    api.fault = None
    api.route(0, 6)
    until(lambda: version(router) == "a", 15)


def test_addresses_are_followed(api, router, keeper, servers):
    moved = Server("moved")
    try:
        api.serve("a", moved.port)
        until(lambda: version(router) == "moved")
        until(lambda: keeper.observed().a.up)
        assert keeper.ask("a", INFER, None, 10).body == {"version": "moved"}
    finally:
        moved.end()
    api.serve("a", servers[0].port)
    until(lambda: version(router) == "a")


def test_another_address_has_yet_to_be_checked(api, router, keeper, servers):
    servers[1].ready = False
    api.serve("a", servers[1].port)
    until(lambda: str(servers[1].port) in router.log())
    until(lambda: not keeper.observed().a.up)
    time.sleep(1.0)
    assert not keeper.observed().a.up
    servers[1].ready = True
    until(lambda: keeper.observed().a.up)


def test_an_address_that_was_given_up_leads_nobody_to_the_other_slot(api, router, keeper, servers):
    api.serve("a")
    until(lambda: version(router) == 503)
    assert keeper.ask("a", INFER, None, 10).status == 503
    port = servers[0].port
    servers[1].fault = None
    api.serve("b", port)
    until(lambda: f"slot b is at 127.0.0.1 port {port}" in router.log())
    assert version(router) == 503
    router.kill()
    router.start()
    assert version(router) == 503
    assert not keeper.observed().a.up


def test_the_newest_registration_counts_and_only_that_of_our_job(api, router, keeper, servers):
    moved = Server("moved")
    try:
        api.serve("a", servers[0].port, moved.port)
        until(lambda: version(router) == "moved")
        api.serve("a", moved.port, job="somebody")
        until(lambda: version(router) == 503)
    finally:
        moved.end()


@pytest.mark.parametrize("port", [0, 65536, "80 state ready", None])
def test_what_is_no_address_is_not_taken(api, router, keeper, port):
    api.serve("a", port)
    until(lambda: "is no address" in router.log(), 20)
    until(lambda: version(router) == 503)  # rather nowhere than to an address that was given up


def test_a_configuration_is_taken_over_without_losing_anybody(api, router, keeper):
    answers, stop = [], threading.Event()

    def load():
        while not stop.is_set():
            answers.append(version(router))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    config = router.root / "state/haproxy.cfg"
    try:
        for number in range(5):
            router.settings = replace(router.settings, answer=100 + number)
            api.route(0, 2 + number, config=router.config)
            until(lambda number=number: f"timeout server {100 + number}s" in config.read_text())
            time.sleep(0.2)
        router.settings = replace(router.settings, answer=200)
        assert keeper.configure(router.config)
        before = len(answers)
        until(lambda: len(answers) > max(100, before + 20))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(answers) == {"a"}


def test_what_was_configured_outlives_news_of_the_old_one(api, router, keeper):
    router.settings = replace(router.settings, answer=77)
    assert keeper.configure(router.config)
    api.route(10_000, 2)
    until(lambda: version(router) == "b")
    assert not keeper.configure(router.config)


def test_a_configuration_that_is_refused_changes_nothing(api, router, keeper):
    api.route(10_000, 2, config="nonsense")
    until(lambda: version(router) == "b")
    until(lambda: "HAProxy refuses the configuration" in router.log())
    api.route(0, 3, config="nonsense")
    until(lambda: version(router) == "a")
    assert router.log().count("HAProxy refuses the configuration") == 1


def test_who_follows_is_started_again(api, router, keeper, servers):
    before = beside(router)
    assert len(before) == 3
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    api.route(10_000, 2)
    until(lambda: version(router) == "b")
    api.serve("b")
    until(lambda: version(router) == 503)
    assert len(beside(router)) == 3
    assert not set(before) & set(beside(router))


def test_nobody_is_left_when_the_router_dies(router, keeper):
    followers = beside(router)
    router.kill()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in followers))
    until(lambda: version(router) is None)


def test_what_was_changed_behind_its_back_is_mended_by_the_next_news(api, router, keeper):
    keeper_says = keeper.observed()
    assert keeper_says.route == Route()
    (router.root / "state" / "route.map").write_text("share_b 5\n")
    api.route(0, 1)
    until(lambda: (router.root / "state" / "route.map").read_text() == "share_b 0\n")


def test_a_client_that_only_keeps_its_connection_is_not_waited_for(router, keeper):
    connection = http.client.HTTPConnection("127.0.0.1", router.port, timeout=10)
    connection.request("GET", INFER)
    assert connection.getresponse().read() == b'{"version": "a"}'
    begun = time.monotonic()
    router.process.terminate()
    router.process.wait(40)
    assert time.monotonic() - begun < 20
    connection.close()


def test_an_address_that_is_taken_is_waited_for_and_then_told(api, router, servers):
    router.env["ROUTER_ADDRESS"] = f"127.0.0.1:{servers[0].port}"
    api.route(0, 1, config=router.config)
    router.begin()
    assert router.process.wait(60) == 2
    assert f"cannot listen at 127.0.0.1:{servers[0].port}: address already in use" in router.log()


def test_a_route_that_is_committed_while_the_address_is_waited_for_is_the_one_to_start_with(
    api, router, monkeypatch, tmp_path
):
    monkeypatch.syspath_prepend(KEEPER)
    from mlops_keeper import following, init, routes  # noqa: PLC0415 - found by the line above

    for name, value in router.env.items():
        monkeypatch.setenv(name, value)
    folder = init.lay_out(router.env["STATE"], router.env["RUN"])
    api.route(0, 1, config=router.config)
    with socket.create_server(("127.0.0.1", router.port)) as before:

        def give_up():
            until((router.root / "state/haproxy.cfg").exists)
            time.sleep(1.0)  # the cluster has been asked; the address is what it waits for now
            api.route(10_000, 2)
            api.serve("b", 1234)
            before.close()

        thread = threading.Thread(target=give_up)
        thread.start()
        following.begin(following.Source(os.environ), folder, router.env["RUN"])
        thread.join()
    assert routes.read(folder)["generation"] == 2
    assert (router.root / "state/route.map").read_text() == "share_b 10000\n"
    assert "127.0.0.1:1234" in (router.root / "state/slot-b.cfg").read_text()


def test_a_task_without_an_identity_says_so(api, router):
    del router.env["NOMAD_TOKEN"]
    router.begin()
    assert router.process.wait(30) == 2
    assert "the task needs its identity" in router.log()
