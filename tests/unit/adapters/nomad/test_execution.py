"""The other end of a WebSocket, played frame by frame: what a task's program says, and what else may come."""

import base64
import hashlib
import json
import socket
import struct
import threading
from contextlib import closing, contextmanager
from urllib.parse import parse_qs, urlsplit

import pytest

from mlops_deploy.adapters.nomad import execution
from mlops_deploy.adapters.nomad import rolling as rolling_module
from mlops_deploy.adapters.nomad.client import NomadClient
from mlops_deploy.adapters.nomad.execution import exec_stream
from mlops_deploy.adapters.nomad.rolling import NomadRolling
from mlops_deploy.adapters.nomad.settings import Cluster
from mlops_deploy.errors import UnreachableError, UnusableInputError
from mlops_deploy.spec.owner import Owner

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class Peer:
    """One connection of a server that speaks as much WebSocket as Nomad does."""

    def __init__(self, connection):
        self.connection = connection
        self.file = connection.makefile("rb")
        self.request = self.file.readline().decode()
        lines = iter(self.file.readline, b"\r\n")
        self.headers = {
            name.lower(): value.strip() for name, _, value in (one.decode().partition(":") for one in lines)
        }

    def accept(self):
        key = self.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accepted = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()  # noqa: S324  # the protocol says so
        self.connection.sendall(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accepted}\r\n\r\n".encode()
        )

    def send(self, opcode, data):
        size = bytes([len(data)]) if len(data) < 126 else b"\x7e" + struct.pack("!H", len(data))
        self.connection.sendall(bytes([0x80 | opcode]) + size + data)

    def say(self, **message):
        self.send(TEXT, json.dumps(message).encode())

    def out(self, data, name="stdout"):
        self.say(**{name: {"data": base64.b64encode(data).decode()}})

    def hear(self):
        first, second = self.file.read(2)
        size = second & 0x7F
        size = struct.unpack("!H", self.file.read(2))[0] if size == 126 else size
        size = struct.unpack("!Q", self.file.read(8))[0] if size == 127 else size
        mask = self.file.read(4)
        return first & 0xF, bytes(byte ^ mask[at % 4] for at, byte in enumerate(self.file.read(size)))


@contextmanager
def agent(play, **environ):
    """A client of a server whose one connection is played by `play`; what it returns is in the list."""
    heard = []

    def run():
        connection, _ = server.accept()
        with connection:
            peer = Peer(connection)
            heard.append(peer)
            play(peer)
            peer.file.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        client = NomadClient(Cluster.from_environment({"NOMAD_ADDR": address, **environ}))
        client.__dict__["_session"] = None
        try:
            yield client, heard
        finally:
            thread.join(5)


@contextmanager
def program(play):
    """A stream to a program that is played by `play`."""

    def accepted(peer):
        peer.accept()
        play(peer)

    with agent(accepted) as (client, _), closing(exec_stream(client, "id", "main", ["cat"])) as stream:
        yield stream


def test_what_is_asked_for():
    def play(peer):
        peer.accept()
        peer.hear()

    environ = {"NOMAD_NAMESPACE": "team", "NOMAD_REGION": "eu", "NOMAD_TOKEN": "t0k3n", "NOMAD_HTTP_AUTH": "me:pass"}
    argv = ["sh", "-c", 'echo "ü & ?"']
    with agent(play, **environ) as (client, heard):
        exec_stream(client, "abc", "server", argv).close()
    (peer,) = heard
    path, query = (urlsplit(peer.request.split()[1]))[2:4]
    assert path == "/v1/client/allocation/abc/exec"
    asked = {name: value for name, (value,) in parse_qs(query).items()}
    assert json.loads(asked.pop("command")) == argv
    assert asked == {"task": "server", "tty": "false", "namespace": "team", "region": "eu"}
    assert peer.headers["x-nomad-token"] == "t0k3n"
    assert peer.headers["authorization"] == "Basic " + base64.b64encode(b"me:pass").decode()


def test_bytes_go_both_ways_in_pieces():
    data = bytes(range(256)) * 1000
    got = bytearray()

    def play(peer):
        while len(got) < len(data):
            got.extend(base64.b64decode(json.loads(peer.hear()[1])["stdin"]["data"]))
        peer.out(b"first")
        peer.send(PING, b"there?")
        peer.say()
        peer.out("ü".encode())
        assert peer.hear() == (PONG, b"there?")
        peer.say(stdout={"close": True})
        peer.say(exited=True, result={})
        assert json.loads(peer.hear()[1]) == {"stdin": {"close": True}}

    with program(play) as stream:
        stream.send(data, 5)
        assert stream.receive(5) == b"first"
        assert stream.receive(5) == "ü".encode()
        assert stream.receive(5) == b""
        assert stream.receive(5) == b""
    assert bytes(got) == data


def test_nothing_yet_is_not_the_end():
    done = threading.Event()

    def play(peer):
        done.wait(5)
        peer.out(b"late")
        peer.hear()

    with program(play) as stream:
        with pytest.raises(BlockingIOError):
            stream.receive(0)
        with pytest.raises(TimeoutError):
            stream.receive(0.1)
        done.set()
        assert stream.receive(5) == b"late"


def test_a_frame_that_comes_in_pieces_is_not_lost_by_a_timeout():
    done = threading.Event()
    frame = json.dumps({"stdout": {"data": base64.b64encode(b"whole").decode()}}).encode()

    def play(peer):
        whole = bytes([0x80 | TEXT, len(frame)]) + frame
        peer.connection.sendall(whole[:20])
        done.wait(5)
        peer.connection.sendall(whole[20:])
        peer.hear()

    with program(play) as stream:
        with pytest.raises(TimeoutError):
            stream.receive(0.2)
        done.set()
        assert stream.receive(5) == b"whole"


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        ([{"stderr": "T3"}, {"stderr": "ops"}, {"exited": True, "result": {"exit_code": 3}}], "T3ops"),
        ([{"stderr": "still running"}], "still running"),
        ([{"stderr": "x" * 500}, {"exited": True, "result": {"exit_code": 1}}], "x" * 300),
        ([{"exited": True, "result": {"exit_code": 137}}], "it has ended with exit code 137"),
        (["no json"], "cannot be understood: b'no json'"),
        (["[]", {"exited": True, "result": {"exit_code": 2}}], "it has ended with exit code 2"),
    ],
)
def test_an_end_by_an_error_tells_why(frames, why, monkeypatch):
    all_is_said = len(frames) > 1  # what goes on running may say more, and is waited for
    monkeypatch.setattr(execution, "_LAST_WORDS", 5 if all_is_said else 0.2)

    def play(peer):
        for one in frames:
            match one:
                case str(text):
                    peer.send(TEXT, text.encode())
                case {"stderr": text}:
                    peer.out(text.encode(), "stderr")
                case _:
                    peer.say(**one)
        peer.hear()

    with program(play) as stream, pytest.raises(ConnectionError) as ended:
        stream.receive(5)
    assert str(ended.value) == why


def test_a_server_that_closes_tells_why():
    with program(lambda peer: peer.send(CLOSE, struct.pack("!H", 1011) + b"task not found")) as stream:
        with pytest.raises(ConnectionError, match="task not found"):
            stream.receive(5)
        assert stream.receive(5) == b""


def test_a_connection_that_breaks_is_an_error():
    with program(lambda peer: None) as stream, pytest.raises(OSError, match=r"lost|reset"):
        stream.receive(5)


def test_who_may_not_is_told_which_right_is_missing():
    denied = struct.pack("!H", 1008) + b"rpc error: Permission denied"
    told = pytest.raises(UnusableInputError, match="`alloc-exec` in namespace `default`")
    with program(lambda peer: peer.send(CLOSE, denied)) as stream, told as refused:
        stream.receive(5)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("status", ["200 OK", "302 Found", "400 Bad Request", "404 Not Found", "502 Bad Gateway"])
def test_a_proxy_that_lets_no_websocket_pass(status):
    answer = f"HTTP/1.1 {status}\r\nLocation: ws://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    told = pytest.raises(UnreachableError, match="no program can be spoken with through")
    with agent(lambda peer: peer.connection.sendall(answer.encode())) as (client, _), told as refused:
        exec_stream(client, "id", "main", ["cat"])
    assert "WebSocket" in refused.value.hint


def test_nobody_is_there():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
    client = NomadClient(Cluster.from_environment({"NOMAD_ADDR": address}))
    client.__dict__["_session"] = None
    with pytest.raises(UnreachableError, match="nothing listens there"):
        exec_stream(client, "id", "main", ["cat"])


def ended(code):
    return lambda peer: (peer.say(exited=True, result={"exit_code": code} if code else {}), peer.hear())


@pytest.mark.parametrize(
    ("play", "why"),
    [
        (lambda peer: (peer.out(b"ready\n"), ended(0)(peer)), None),
        (ended(3), "it has ended with exit code 3"),
        (lambda peer: peer.send(CLOSE, struct.pack("!H", 1000)), "the connection ended before its proof did"),
        (lambda peer: (peer.out(b"ready\n"), peer.send(CLOSE, b"")), "the connection ended before its proof did"),
        (lambda peer: (peer.out(b"a warning", "stderr"), ended(0)(peer)), None),
        (lambda peer: (peer.out(b"no model", "stderr"), ended(1)(peer)), "no model"),
        (lambda peer: (peer.out(b"half a wo", "stderr"), peer.send(CLOSE, b"")), "half a wo"),
    ],
)
def test_only_a_word_and_exit_code_zero_are_a_proof(play, why):
    def accepted(peer):
        peer.accept()
        play(peer)

    with agent(accepted) as (client, _):
        rolling = NomadRolling(Owner(service="toy", environment=None), 1, client)
        assert rolling.prove("id", ["prove"], 5) == why


class Said:
    """A program that has said `words` and ended with 0."""

    code = 0

    def __init__(self, *words):
        self.words = [*words, b""]

    def receive(self, _seconds):
        return self.words.pop(0)

    def close(self):
        """Nothing is open."""


@pytest.mark.parametrize(
    ("began", "tries", "why"),
    [((b"ready",), 1, None), ((), 5, "its proof has said nothing, as one that never ran"), (None, 3, None)],
    ids=["at once", "never", "at the third time"],
)
def test_a_proof_that_seems_never_to_have_begun_is_begun_again(monkeypatch, began, tries, why):
    streams = [Said(), Said(), Said(b"ready")] if began is None else [Said(*began) for _ in range(9)]
    left = list(streams)
    monkeypatch.setattr(rolling_module, "exec_stream", lambda *_: left.pop(0))
    assert NomadRolling(Owner(service="toy", environment=None), 1, None).prove("id", ["prove"], 5) == why
    assert len(streams) - len(left) == tries
