import fcntl
import json
import random
import subprocess
import sys
import threading

import pytest

from mlops_deploy.errors import DeployError, UnreachableError
from mlops_deploy.release.effects import Committed, Refused, Written
from mlops_deploy.release.state import CLOSED, Route, whole
from tests.fakes.routers import KEEPER, keeper_argv

GOOD = {
    "observed": {},
    "commit": {"route": {"share_b": 1, "closed": False}, "generation": 0, "token": 1},
    "ask": {"slot": "a", "path": "/", "body": None, "timeout": 0.2},
    "get": {"key": "k"},
    "keys": {"prefix": ""},
    "put": {"key": "k", "value": 1, "index": 0, "token": 1},
    "append": {"journal": "j", "line": "x", "position": 0, "token": 1},
    "journals": {},
    "read": {"journal": "j"},
    "configure": {"config": "x"},
}
JUNK = (None, True, -1, 1.5, "", "x", [], [1], {}, {"share_b": -1, "closed": False}, "\ud800", 10**30, "../x")


@pytest.fixture
def raw(state):
    process = subprocess.Popen(keeper_argv("serve"), env=state.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def send(data):
        process.stdin.write(data + b"\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield send
    process.stdin.close()
    assert process.wait(60) == 0
    process.stdout.close()


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"", "input"),
        (b"junk", "input"),
        (b"\xff\xfe", "input"),
        (b"[]", "input"),
        (b"[" * 5000, "input"),
        (b'{"keeper": 1, "id": 1}', "input"),
        (b'{"keeper": 1, "op": "heal"}', "input"),
        (b'{"keeper": 1, "op": "__init__"}', "input"),
        (b'{"keeper": 1, "op": []}', "input"),
        (b'{"keeper": 2, "op": "observed"}', "version"),
        (b'{"op": "observed"}', "version"),
    ],
)
def test_what_is_no_request_gets_an_error_and_the_next_one_its_answer(raw, line, kind):
    assert raw(line)["error"]["kind"] == kind
    assert raw(b'{"keeper": 1, "id": "next", "op": "journals"}') == {"id": "next", "ok": {"names": []}}


@pytest.mark.parametrize("size", [8 << 20, 30 << 20])
def test_a_request_that_is_too_long_gets_an_error_and_the_next_one_its_answer(state, keeper, raw, size):
    state.lease()
    request = {"keeper": 1, "id": 1, "op": "put", "key": "k", "value": "", "index": 0, "token": 1}
    room = (8 << 20) - 1 - len(json.dumps(request))
    assert raw(json.dumps(request | {"value": "x" * room}).encode()) == {"id": 1, "ok": {"index": 1}}
    error = raw(json.dumps(request | {"value": "x" * size, "index": 1}).encode())["error"]
    assert (error["kind"], error["message"]) == ("input", "a request has less than 8 MiB")
    assert raw(b'{"keeper": 1, "id": "next", "op": "journals"}') == {"id": "next", "ok": {"names": []}}
    with pytest.raises(DeployError, match="less than 8 MiB"):
        keeper.put("k", "x" * size, 1, 1)
    assert keeper.get("k").index == 1


def test_no_request_ends_the_keeper(raw, state):
    chance = random.Random(11)
    before = state.route()
    for number in range(600):
        op = chance.choice(list(GOOD))
        fields = dict(GOOD[op])
        for name in chance.sample(sorted(fields), chance.randint(0, len(fields))):
            fields[name] = chance.choice(JUNK)
        request = {"keeper": 1, "id": number, "op": op, **fields}
        if chance.random() < 0.2:
            request.pop(chance.choice(sorted(request)))
        answer = raw(json.dumps(request).encode())
        assert len(answer) == 2, answer
        if "error" in answer:
            assert "Traceback" not in answer["error"]["message"]
            assert "Error:" not in answer["error"]["message"], (request, answer)
    assert state.route() == before, "nobody held the lease"


def test_several_requests_in_one_write_are_answered_in_order(state):
    requests = [json.dumps({"keeper": 1, "id": n, "op": "journals"}) for n in range(50)]
    done = subprocess.run(
        keeper_argv("serve"),
        env=state.env,
        input="\n".join(requests) + "\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == list(range(50))
    assert done.stderr == ""


def test_without_its_folders_the_keeper_says_how_it_is_used(state):
    done = subprocess.run(keeper_argv("serve"), env={}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.partition(":")[0]) == (2, "usage")


def test_a_commit_is_compared_and_counted(state, keeper):
    assert keeper.observed().generation == 0
    state.lease(token=7)
    assert keeper.commit(whole("b"), 0, 7) == Committed(generation=1)
    assert keeper.commit(CLOSED, 0, 7) == Refused(reason="the route has generation 1, not 0")
    assert keeper.commit(CLOSED, 2, 7) == Refused(reason="the route has generation 1, not 2")
    view = keeper.observed()
    assert (view.route, view.applied, view.generation, view.token) == (whole("b"), None, 1, 7)
    assert (state.root / "route.map").read_text() == "share_b 10000\n"
    assert keeper.commit(Route(share_b=2500, closed=True), 1, 7) == Committed(generation=2)
    assert (state.root / "route.map").read_text() == "share_b -2501\n"
    for share in (-1, 10001):
        with pytest.raises(DeployError, match="share_b"):
            keeper.commit(Route(share_b=share), 2, 7)


def test_the_map_on_disk_is_mended_by_the_next_request(state, keeper):
    (state.root / "route.map").write_text("share_b 5\n")
    assert keeper.journals() == ()
    assert (state.root / "route.map").read_text() == "share_b -1\n"


def test_a_route_that_cannot_be_read_is_told(state, keeper):
    (state.root / "route.json").write_text('{"share_b": 20000}')
    with pytest.raises(DeployError, match=r"`route.json` in the state folder is damaged"):
        keeper.observed()
    (state.root / "route.json").unlink()
    with pytest.raises(DeployError, match="has not been started"):
        keeper.observed()


def test_eight_keepers_at_once_write_one_after_the_other(state):
    state.lease()
    done = {"keys": [], "generations": [], "lines": []}

    def work(keeper, name):
        for _ in range(25):
            stored = keeper.get("count")
            answer = keeper.put("count", (stored.value or 0) + 1, stored.index, 1)
            if isinstance(answer, Written):
                done["keys"].append(answer.index)
            answer = keeper.commit(Route(share_b=len(name)), state.route()["generation"], 1)
            if isinstance(answer, Committed):
                done["generations"].append(answer.generation)
            answer = keeper.append("r-1", name, len(keeper.read("r-1").lines), 1)
            if isinstance(answer, Written):
                done["lines"].append(answer.index)

    threads = [threading.Thread(target=work, args=(state.keeper(), f"k{n}")) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    keeper = state.keeper()
    for name, last in (
        ("keys", keeper.get("count").value),
        ("generations", keeper.observed().generation),
        ("lines", len(keeper.read("r-1").lines)),
    ):
        assert sorted(done[name]) == list(range(1, last + 1)), "each number has one winner"
        assert last >= 25


def test_a_stopped_keeper_blocks_nobody_for_ever(state, keeper):
    with (state.root / "lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UnreachableError, match="another keeper has held the state folder for 5 s"):
            state.lease()
        fcntl.flock(held, fcntl.LOCK_UN)
    assert isinstance(state.lease(), Written)


def test_the_keeper_is_the_standard_library_alone():
    found = subprocess.run(
        ["grep", "-rhoE", r"^(from|import) [a-z_.]+", "--include=*.py", str(KEEPER)],
        capture_output=True,
        text=True,
        check=True,
    )
    names = {line.split()[1].split(".")[0] for line in found.stdout.splitlines()}
    assert names <= set(sys.stdlib_module_names) | {"mlops_keeper"}
