"""The router with real HAProxy: what clients see when routes change, processes die and configurations are replaced."""

import http.client
import json
import re
import shutil
import socket
import subprocess
import threading
import time
from dataclasses import replace

import pytest

from mlops_deploy.adapters.keeper import KeeperStream
from mlops_deploy.errors import DeployError, UnreachableError
from mlops_deploy.release.effects import Committed, Refused
from mlops_deploy.release.state import CLOSED, Counters, Route, whole
from mlops_deploy.render.router import render_router
from tests.fakes.routers import Router, Server, keeper_argv, until

pytestmark = pytest.mark.haproxy

INFER = "/v2/models/m/infer"
CALLS = ("openat", "write", "fsync", "rename", "connect", "sendto", "recvfrom", "flock", "close", "read")


@pytest.fixture
def servers():
    made = Server("a"), Server("b")
    yield made
    for server in made:
        server.end()


@pytest.fixture
def router(servers):
    made = Router(servers[0].port, servers[1].port)
    yield made
    made.end()


@pytest.fixture
def keeper(router):
    """A keeper of a router whose slots are both up, with a lease; traffic goes to slot a."""
    started = router.start()
    router.lease(started)
    assert started.commit(whole("a"), 0, 1) == Committed(generation=1)
    until(lambda: started.observed().a.up and started.observed().b.up)
    return started


def get(router, path=INFER, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", router.port, timeout=10)
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        body = answer.read()
        return answer.status, json.loads(body) if answer.status == 200 else None, answer.headers
    finally:
        connection.close()


def version(router, **headers):
    status, body, _ = get(router, headers={name.replace("_", "-"): value for name, value in headers.items()})
    return body["version"] if status == 200 else status


def raw(router, request):
    with socket.create_connection(("127.0.0.1", router.port), timeout=20) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer


def test_a_new_router_is_closed_until_a_release_opens_it(router, servers):
    keeper = router.start()
    status, _, headers = get(router)
    assert (status, headers["Retry-After"]) == (503, "5")
    view = keeper.observed()
    assert (view.route, view.applied, view.generation) == (CLOSED, CLOSED, 0)
    assert view.entry == Counters(requests=1, failed=0), "a deliberate answer is no failure"
    router.lease(keeper)
    assert keeper.commit(whole("b"), 0, 1) == Committed(generation=1)
    until(lambda: keeper.observed().b.up)
    assert version(router) == "b"


def test_a_switch_is_seen_by_the_next_request_of_a_connection_that_is_kept(router, keeper):
    connection = http.client.HTTPConnection("127.0.0.1", router.port, timeout=10)
    for generation in range(1, 41):
        slot = "ab"[generation % 2]
        assert keeper.commit(whole(slot), generation, 1) == Committed(generation=generation + 1)
        connection.request("POST", INFER, body=b"{}")
        assert json.loads(connection.getresponse().read()) == {"version": slot}
    connection.close()
    view = keeper.observed()
    assert view.entry == Counters(requests=40, failed=0)
    assert (view.a.counters.requests, view.b.counters.requests) == (20, 20)


@pytest.mark.parametrize(
    "path",
    [
        "/", "/v3", "/v2/", "//v2", "/v2/models/m", "/v2/repository/index", "/v2/%72epository/index",
        "/v2/models/m/inf%65r", "/v2/models/m/infer/", "/v2/models/m//infer", "/v2/./models/m/infer",
        "/v2/models/x/../m/infer", "/v2/models/m/infer%00", "/v2/models/m/infer;x", "/v2/models/m/infer%3fx",
        "/v2/models/m/infer%0a", "/V2/models/m/infer", "/v2/models/m/versions/0123456789ab/infer/..",
        "/v2/models/m/versions/0123456789AB/infer", "/v2/models/m/versions/0123456789abc/infer",
        "/v2/models/m/infer#x", "/ready", "*", "http://x/v2/repository/index", "\\v2",
    ],
)  # fmt: skip
def test_what_is_not_on_the_list_reaches_no_server(router, keeper, servers, path):
    answer = raw(router, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert re.match(rb"HTTP/1.1 40[04] ", answer), answer[:100]
    assert [server.seen for server in servers] == [[], []]


@pytest.mark.parametrize(
    "path", ["/v2", INFER, f"{INFER}?a=/../b", "/v2/models/m/versions/0123456789ab/infer", f"http://x{INFER}"]
)
def test_what_is_on_the_list_passes(router, keeper, servers, path):
    answer = raw(router, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert len(servers[0].seen) == 1


def test_a_request_cannot_be_smuggled_past_the_list(router, keeper, servers):
    inner = b"GET /v2/repository/index HTTP/1.1\r\nHost: x\r\n\r\n"
    for head in (
        b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 5\r\nContent-Length: 0\r\n\r\n",
    ):
        raw(router, b"POST /v2 HTTP/1.1\r\nHost: x\r\n" + head + inner)
    assert {path for path, _ in servers[0].seen} <= {"/v2"}


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
def test_no_other_protocol_is_offered_to_a_server(router, keeper, servers, protocol):
    head = f"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    head += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    head += "X-Forwarded-For: 9.9.9.9\r\nX-Slot: b\r\n"
    answer = raw(router, f"GET /v2 HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 200 ")
    headers = {name.lower(): value for name, value in servers[0].seen[-1][1].items()}
    assert not {"upgrade", "http2-settings", "x-slot"} & set(headers)
    assert "upgrade" not in headers.get("connection", "").lower()
    assert headers["x-forwarded-for"] == "127.0.0.1"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "X"])
def test_other_methods_reach_no_server(router, keeper, servers, method):
    answer = raw(router, f"{method} /v2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert re.match(rb"HTTP/1.1 40[045] ", answer), answer[:100]
    assert [server.seen for server in servers] == [[], []]


def test_clients_do_not_choose_their_slot_and_are_named_to_the_server(router, keeper, servers):
    assert version(router, x_slot="b") == "a"
    _, headers = servers[0].seen[-1]
    assert headers["x-forwarded-for"] == "127.0.0.1"


def test_users_stay_with_their_slot_while_its_share_grows(router, keeper):
    users, before = [f"user-{n}" for n in range(100)], set()
    for generation, share in enumerate((0, 500, 2500, 5000, 10000), start=1):
        keeper.commit(Route(share_b=share), generation, 1)
        on_b = {user for user in users if version(router, x_user_id=user) == "b"}
        assert before <= on_b
        assert len(on_b) == pytest.approx(share / 100, abs=15)
        before = on_b
    keeper.commit(Route(share_b=5000), 6, 1)
    seen = [version(router) for _ in range(200)]
    assert 60 < seen.count("b") < 140
    assert len({version(router, x_user_id="user-1,x") for _ in range(20)}) == 1


def test_the_private_way_reaches_each_slot_and_is_not_counted(router, keeper, servers):
    assert keeper.ask("a", "/anything", None, 10.0).body == {"version": "a"}
    assert keeper.ask("b", INFER, {"inputs": []}, 10.0).body == {"version": "b"}
    assert "x-slot" not in servers[1].seen[-1][1]
    assert keeper.ask(None, INFER, {"inputs": []}, 10.0).body == {"version": "a"}
    assert keeper.ask(None, "/v3", None, 10.0).status == 404
    view = keeper.observed()
    assert view.b.counters == Counters()
    assert view.a.counters == Counters(requests=1)
    servers[1].fault = "slow"
    began = time.monotonic()
    with pytest.raises(UnreachableError, match=r"no answer within 0\.3 s"):
        keeper.ask("b", INFER, {}, 0.3)
    assert time.monotonic() - began < 15  # the server would take thirty seconds
    with pytest.raises(DeployError, match="no path of a request"):
        keeper.ask("a", "/x y", None, 1.0)
    assert keeper.journals() == ()


@pytest.mark.parametrize(
    "told",
    [(None, 200, 0), (404, 404, 0), (400, 400, 0), (500, 500, 1), (503, 503, 1), ("reset", 502, 1), ("cut", 200, 1)],
)
def test_failed_is_what_a_client_saw_fail(router, keeper, servers, told):
    servers[0].fault, status, failed = told
    answer = raw(router, f"GET {INFER} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    view = until(lambda: (v := keeper.observed()).entry.requests == 1 and v.a.sessions == 0 and v)
    assert view.entry == Counters(requests=1, failed=failed)
    assert view.a.counters == Counters(requests=1, failed=failed)
    assert view.b.counters == Counters()


def test_a_client_that_goes_away_is_no_failure(router, keeper, servers):
    servers[0].fault = "slow"
    with socket.create_connection(("127.0.0.1", router.port)) as connection:
        connection.sendall(f"GET {INFER} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        until(lambda: keeper.observed().a.sessions == 1)
    servers[0].gate.set()
    view = until(lambda: (v := keeper.observed()).a.sessions == 0 and v)
    assert view.entry.failed == view.a.counters.failed == 0


def test_a_server_that_is_gone_fails_at_once_and_comes_back_soon(router, keeper, servers):
    port = servers[0].port
    servers[0].end()
    until(lambda: keeper.observed().a.verdict == "DOWN (L4CON)")
    began = time.monotonic()
    assert version(router) == 503
    assert time.monotonic() - began < 4
    view = keeper.observed()
    assert (view.entry.failed, view.a.verdict) == (1, "DOWN (L4CON)")
    again = Server("again", port)
    began = time.monotonic()
    until(lambda: keeper.observed().a.up)
    assert time.monotonic() - began < 5
    assert version(router) == "again"
    again.end()


def test_a_model_that_loads_is_not_up_and_a_slow_check_takes_nobody_out(router, servers):
    servers[0].ready = False
    keeper = router.start()
    view = until(lambda: (v := keeper.observed()).a.verdict == "DOWN (L7STS 503)" and v)
    assert not view.a.up
    servers[0].ready = True
    until(lambda: keeper.observed().a.up, 5)
    servers[0].lapses, lanes = 3, []
    until(lambda: lanes.append(keeper.observed().a) or (not servers[0].lapses and lanes[-1].verdict == "UP (L7OK 200)"))
    assert all(lane.up for lane in lanes), "a bad check is not enough"


def test_a_server_that_was_not_checked_yet_is_not_up(router):
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes connections, and never answers a check
        router.settings = replace(router.settings, b=f"127.0.0.1:{mute.getsockname()[1]}")
        lane = router.start().observed().b
    assert (lane.up, lane.verdict.split(" (")[0]) == (False, "UP 1/10")


def test_a_proof_in_flight_is_counted_too(router, keeper, servers):
    servers[1].fault = "slow"
    proof = threading.Thread(target=router.keeper().ask, args=("b", INFER, {}, 10.0))
    proof.start()
    until(lambda: keeper.observed().b.sessions == 1)
    assert keeper.observed().a.sessions == 0
    servers[1].gate.set()
    proof.join()
    until(lambda: keeper.observed().b.sessions == 0)


def test_in_flight_is_counted_until_answered_also_across_a_reload(router, keeper, servers):
    servers[0].fault = "slow"
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(version(router))) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: keeper.observed().a.sessions == 3)
    keeper.commit(whole("b"), 1, 1)
    assert version(router) == "b"
    assert keeper.configure(render_router(replace(router.settings, answer=500)))
    assert keeper.observed().a.sessions == 3
    servers[0].gate.set()
    for thread in threads:
        thread.join()
    assert answers == ["a", "a", "a"]
    until(lambda: keeper.observed().a.sessions == 0)


def test_a_router_that_was_killed_comes_back_with_the_committed_share(router, keeper):
    keeper.commit(Route(share_b=10000), 1, 1)
    started = keeper.observed().started
    router.kill()
    until(lambda: keeper.observed().applied is None)
    assert keeper.commit(Route(share_b=2500), 2, 1) == Committed(generation=3), "the disk is the truth"
    (router.root / "state" / "route.map").write_text("share_b 77\n")
    again = router.start()
    view = again.observed()
    assert (view.applied, view.generation) == (Route(share_b=2500), 3)
    assert view.started != started


def test_a_map_that_was_changed_behind_the_keeper_is_mended(router, keeper):
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect(str(router.root / "run" / "admin.sock"))
        admin.sendall(b"set map route.map share_b 10000\n")
        admin.recv(100)
    assert keeper.observed().applied == whole("a")
    assert version(router) == "a"


def test_sigterm_ends_the_router_when_the_last_request_is_answered(router, keeper, servers):
    servers[0].fault = "slow"
    answers = []
    thread = threading.Thread(target=lambda: answers.append(version(router)))
    thread.start()
    until(lambda: keeper.observed().a.sessions == 1)
    router.process.terminate()
    until(lambda: "Connection refused" in refusal(router))
    assert router.process.poll() is None
    servers[0].gate.set()
    thread.join()
    assert router.process.wait(20) == 0
    assert answers == ["a"]


def refusal(router):
    try:
        socket.create_connection(("127.0.0.1", router.port)).close()
    except OSError as error:
        return str(error)
    return ""


def test_one_router_for_one_state_folder(router, keeper):
    done = subprocess.run(keeper_argv("init"), env=router.env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, f"router: another router runs on `{router.env['STATE']}`\n")


def test_a_port_that_is_taken_ends_the_router(router, keeper, servers):
    other = Router(servers[0].port, servers[1].port)
    other.settings = replace(other.settings, listen=router.settings.listen)
    with pytest.raises(AssertionError, match="Address already in use"):
        other.start()
    other.settings = replace(other.settings, listen=f"127.0.0.1:{other.port}")
    other.start()
    other.end()


def test_nothing_to_start_with_is_told(tmp_path, router):
    env = router.env | {"STATE": str(tmp_path / "state")}

    def init(**more):
        return subprocess.run(keeper_argv("init"), env=env | more, capture_output=True, text=True, check=False)

    done = init()
    assert (done.returncode, done.stderr) == (2, "router: there is no configuration: set `ROUTER_CONFIG`\n")
    done = init(ROUTER_CONFIG="global\n  nonsense\n")
    assert done.returncode == 2
    assert "unknown keyword 'nonsense'" in done.stderr
    done = init(RUN=str(tmp_path / ("x" * 80)))
    assert (done.returncode, "too long" in done.stderr) == (2, True)
    assert not (tmp_path / "state" / "haproxy.cfg").exists()


def test_what_configure_wrote_outlives_a_restart_with_the_configuration_of_old(router, keeper):
    assert keeper.configure(render_router(router.settings)) is False
    paths = (*router.settings.paths, "/v2/health/live")
    fresh = replace(router.settings, paths=paths)
    assert get(router, "/v2/health/live")[0] == 404
    assert keeper.configure(render_router(fresh)) is True
    assert keeper.configure(render_router(fresh)) is False
    assert get(router, "/v2/health/live")[0] == 200
    router.kill()
    router.start()
    assert get(router, "/v2/health/live")[0] == 200
    router.kill()
    router.settings = replace(fresh, paths=("/v2",))
    router.start()
    assert get(router, "/v2/health/live")[0] == 404
    assert keeper.observed().applied == whole("a")


@pytest.mark.parametrize("fault", ["syntax", "port"])
def test_a_configuration_that_haproxy_refuses_changes_nothing(router, keeper, servers, fault):
    good = render_router(router.settings)
    bad = "global\n  nonsense\n" if fault == "syntax" else good.replace(f":{router.port}", f":{servers[0].port}")
    before = (router.root / "state" / "haproxy.cfg").read_bytes()
    with pytest.raises(DeployError, match="HAProxy") as caught:
        keeper.configure(bad)
    said = " ".join((caught.value.message, *caught.value.detail))
    assert ("address already in use" if fault == "port" else "unknown keyword 'nonsense'") in said
    assert (router.root / "state" / "haproxy.cfg").read_bytes() == before
    assert version(router) == "a"
    assert keeper.configure(good) is False
    assert keeper.configure(good.replace("600s", "500s")) is True
    assert version(router) == "a"


def test_a_configuration_that_haproxy_does_not_take_over_is_taken_back(router, keeper):
    good = render_router(router.settings)
    before = (router.root / "state" / "haproxy.cfg").read_bytes()
    bad = good.replace(f":{router.port}", f":{router.port}\n    bind /nowhere/at/all.sock", 1)
    assert bad != good
    with pytest.raises(DeployError, match="did not take the configuration over; the one before is in force again"):
        keeper.configure(bad)
    assert (router.root / "state" / "haproxy.cfg").read_bytes() == before
    assert version(router) == "a"
    assert keeper.configure(good) is False, "HAProxy runs with the one before, and says so"


def test_reloads_and_switches_under_load_lose_nothing(router, keeper, servers):
    assert shutil.which("wrk"), "`scripts/engine.sh --test-tools` installs it"
    url = f"http://127.0.0.1:{router.port}{INFER}"
    load = subprocess.Popen(["wrk", "-t1", "-c8", "-d5s", "--timeout", "20s", url], stdout=subprocess.PIPE, text=True)
    generation, reloads = 1, 0
    until(lambda: keeper.observed().entry.requests > 0)
    while load.poll() is None:
        reloads += keeper.configure(render_router(replace(router.settings, answer=300 + reloads)))
        for _ in range(5):
            generation = keeper.commit(whole("ab"[generation % 2]), generation, 1).generation
            time.sleep(0.02)
    out = load.stdout.read()
    load.stdout.close()
    sent = int(re.search(r"(\d+) requests in", out)[1])
    assert "Socket errors" not in out, out
    assert "Non-2xx" not in out, out
    assert sent > 500
    assert reloads > 2
    assert all(server.seen for server in servers)
    assert keeper.observed().applied == whole("ab"[(generation - 1) % 2])


@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace is here to inject kills with")
@pytest.mark.parametrize("call", CALLS)
def test_a_keeper_killed_at_any_call_of_a_commit_leaves_route_and_map_agreeing(router, keeper, call):
    last = calls_of_a_commit(router, keeper, call)
    given, killed = set(), 0
    for turn in range(max(1, last - 40), last + 2):
        generation = keeper.observed().generation
        target = Route(share_b=turn)
        inject = ("strace", "-qqq", "-o", "/dev/null", "-e", f"inject={call}:signal=KILL:when={turn}")
        doomed = KeeperStream((*inject, "-e", "signal=none", *keeper_argv("serve")), router.env)
        try:
            answer = doomed.commit(target, generation, 1)
        except UnreachableError:
            answer, killed = None, killed + 1
        doomed.close()
        view = keeper.observed()
        assert view.route == view.applied
        assert view.generation - generation in {0, 1}
        if view.generation > generation:
            assert view.generation not in given, "a generation is never given twice"
            given.add(view.generation)
            assert view.route == target
        if answer is not None:
            assert answer == Committed(generation=view.generation)
    assert killed > 0
    assert given, "the last turns are beyond the commit"


@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace is here to inject kills with")
@pytest.mark.parametrize("when", [1, 2])
def test_the_proxy_is_told_only_what_the_disk_holds(router, keeper, when):
    inject = ("strace", "-qqq", "-o", "/dev/null", "-e", f"inject=rename:signal=KILL:when={when}", "-e", "signal=none")
    doomed = KeeperStream((*inject, *keeper_argv("serve")), router.env)
    with pytest.raises(UnreachableError):
        doomed.commit(whole("b"), 1, 1)
    doomed.close()
    assert map_in_force(router) == "0"  # looked at without a keeper, which would mend it
    assert keeper.observed().route == whole("a" if when == 1 else "b")


def map_in_force(router):
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect(str(router.root / "run" / "admin.sock"))
        admin.sendall(b"show map route.map\n")
        said = admin.recv(1000).decode()
    return said.split()[-1]


def calls_of_a_commit(router, keeper, call):
    """How often a keeper that is started, commits and ends makes a system call."""
    trace = router.root / "trace"
    argv = ("strace", "-qqq", "-o", str(trace), "-e", f"trace={call}", "-e", "signal=none", *keeper_argv("serve"))
    traced = KeeperStream(argv, router.env)
    traced.commit(Route(share_b=1), keeper.observed().generation, 1)
    traced.close()
    return len(trace.read_text().splitlines())


def test_killed_at_random_while_others_commit_no_generation_is_given_twice(router, keeper):
    given, stop = [], threading.Event()

    def steady(mine):
        while not stop.is_set():
            answer = mine.commit(Route(share_b=7), mine.observed().generation, 1)
            if isinstance(answer, Committed):
                given.append(answer.generation)

    def doomed():
        while not stop.is_set():
            given.extend(killed_in_a_commit(router))

    threads = [threading.Thread(target=steady, args=(router.keeper(),))]
    threads += [threading.Thread(target=doomed) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(4)
    until(lambda: len(given) > 20, 60)
    stop.set()
    for thread in threads:
        thread.join()
    view = keeper.observed()
    assert len(given) == len(set(given))
    assert view.generation >= max(given)
    assert view.applied == view.route


def killed_in_a_commit(router):
    """Kill a keeper that commits, up to three milliseconds after it was asked; the generation, if it was answered."""
    process = subprocess.Popen(keeper_argv("serve"), env=router.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        process.stdin.write(b'{"keeper": 1, "id": 1, "op": "observed"}\n')
        process.stdin.flush()
        generation = json.loads(process.stdout.readline())["ok"]["generation"]
        commit = {"route": {"share_b": 3, "closed": False}, "generation": generation, "token": 1}
        process.stdin.write(json.dumps({"keeper": 1, "id": 2, "op": "commit", **commit}).encode() + b"\n")
        process.stdin.flush()
        time.sleep((time.monotonic_ns() % 3000) / 1e6)
        process.kill()
        said = process.stdout.readline()
    return [json.loads(said)["ok"]["generation"]] if b'"ok"' in said else []


def test_a_late_holder_is_refused_by_the_router(router, keeper):
    keeper.put("lease", {"token": 2, "holder": "other", "ttl": 600}, keeper.get("lease").index, 0)
    late = keeper.commit(whole("b"), 1, 1)
    assert isinstance(late, Refused)
    assert late.fenced
    assert version(router) == "a"
