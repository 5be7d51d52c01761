import json
import socket
import ssl
import threading
import time
from contextlib import suppress

import pytest

from mlops_deploy.adapters.keeper import KeeperClient, KeeperStream
from mlops_deploy.errors import DeployError, UnreachableError, UnusableInputError
from mlops_deploy.release.effects import Stored

GOOD = {"value": 1, "index": 2, "age": 3}


class Peer:
    """The other end of one stream after another: answers each request by what `says` returns for it."""

    def __init__(self, *says):
        self.says, self.opened, self.ours = list(says), 0, None

    def __call__(self):
        self.opened += 1
        self.ours, self.theirs = socket.socketpair()
        threading.Thread(target=self.serve, args=(self.theirs, self.says.pop(0)), daemon=True).start()
        return self

    def serve(self, theirs, say):
        with suppress(OSError), theirs, theirs.makefile("rb") as lines:
            for line in lines:
                answer = say(json.loads(line))
                if answer is None:
                    return
                theirs.sendall(answer)

    def send(self, data, seconds):
        self.ours.settimeout(seconds)
        self.ours.sendall(data)

    def receive(self, seconds):
        self.ours.settimeout(seconds)
        return self.ours.recv(7)  # never a whole line at once

    def close(self):
        self.ours.close()


def good(request):
    return json.dumps({"id": request["id"], "ok": GOOD}).encode() + b"\n"


@pytest.mark.parametrize(
    ("say", "reason"),
    [
        (lambda _: b"python3: not found\n", "python3: not found"),
        (lambda _: b"[" * 3000 + b"\n", "understood"),
        (lambda _: b"[1]\n", "understood"),
        (lambda _: b'{"id": 77, "ok": {}}\n', "request 77, not 1"),
        (lambda r: json.dumps({"id": r["id"], "ok": {"value": 1}}).encode() + b"\n", "missing"),
        (lambda r: json.dumps({"id": r["id"], "ok": GOOD | {"index": "1"}}).encode() + b"\n", "index"),
        (lambda r: json.dumps({"id": r["id"]}).encode() + b"\n", "understood"),
        (lambda r: json.dumps({"id": r["id"], "error": 5}).encode() + b"\n", "understood"),
    ],
)
def test_whatever_a_keeper_says_the_call_ends_and_the_next_one_works(say, reason):
    client = KeeperClient(Peer(say, good), 20)
    began = time.monotonic()
    with pytest.raises(UnreachableError, match=reason):
        client.get("x")
    assert time.monotonic() - began < 15
    client.close()
    assert client.get("x") == Stored(value=1, index=2, age=3.0)
    client.close()


@pytest.mark.parametrize("say", [lambda _: b"", lambda request: good(request)[:20]])
def test_a_keeper_that_says_nothing_or_half_is_not_waited_for_and_the_next_call_works(say):
    client = KeeperClient(Peer(say, good), 0.3)
    began = time.monotonic()
    with pytest.raises(UnreachableError, match=r"its time is over|timed out"):
        client.get("x")
    assert time.monotonic() - began < 15
    client.close()
    client._patience = 20
    assert client.get("x") == Stored(value=1, index=2, age=3.0)
    client.close()


def test_a_late_answer_is_not_taken_for_the_next_one():
    late = threading.Event()

    def say(request):
        late.wait(60)
        return good(request)

    peer = Peer(say, lambda r: json.dumps({"id": r["id"], "ok": GOOD | {"index": 9}}).encode() + b"\n")
    client = KeeperClient(peer, 0.2)
    with pytest.raises(UnreachableError):
        client.get("x")
    late.set()
    client._patience = 20
    assert client.get("x").index == 9
    assert peer.opened == 2
    client.close()


def test_a_stream_that_ended_or_spoke_unasked_meanwhile_is_opened_anew():
    peer = Peer(good, good, good)
    client = KeeperClient(peer)
    client.get("x")
    peer.theirs.sendall(b"unasked\n")
    assert client.get("x") == Stored(value=1, index=2, age=3.0)
    assert peer.opened == 2
    peer.theirs.shutdown(socket.SHUT_RDWR)
    assert client.get("x") == Stored(value=1, index=2, age=3.0)
    assert peer.opened == 3
    client.close()


def test_an_idle_stream_over_tls_is_quiet():
    peer = Peer(good, good)
    client, receive = KeeperClient(peer), peer.receive
    client.get("x")

    def over_tls(seconds):
        if seconds == 0:
            raise ssl.SSLWantReadError
        return receive(seconds)

    peer.receive = over_tls
    assert client.get("x") == Stored(value=1, index=2, age=3.0)
    assert peer.opened == 1
    client.close()


@pytest.mark.parametrize(
    ("kind", "error"), [("silent", UnreachableError), ("version", UnusableInputError), ("state", DeployError)]
)
def test_each_kind_of_error_has_its_class(kind, error):
    peer = Peer(
        lambda r: json.dumps({"id": r["id"], "error": {"kind": kind, "message": "m", "lines": ["l"]}}).encode() + b"\n"
    )
    client = KeeperClient(peer)
    with pytest.raises(error) as caught:
        client.get("x")
    assert type(caught.value) is error
    client.close()


def test_an_interrupt_in_the_middle_leaves_no_answer_behind():
    def interrupt(_request):
        time.sleep(0.2)
        return b""

    peer = Peer(interrupt, good)
    client = KeeperClient(peer)

    peer.receive = lambda _seconds: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        client.get("x")
    del peer.receive
    assert client.get("x").index == 2
    client.close()


def test_a_keeper_that_cannot_be_started_is_told():
    with pytest.raises(UnreachableError, match="cannot be run"):
        KeeperStream(("/nowhere/python3",), {}).journals()


def test_a_keeper_that_ignores_its_end_is_killed():
    client = KeeperStream(
        ("/bin/sh", "-c", "trap '' TERM HUP; echo x; while :; do sleep 0.1; done"), {"PATH": "/usr/bin:/bin"}
    )
    with pytest.raises(UnreachableError):
        client.journals()
    began = time.monotonic()
    client.close()
    assert time.monotonic() - began < 20
