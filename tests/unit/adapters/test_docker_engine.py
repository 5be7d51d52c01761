"""The adapter against a server that speaks the engine's protocol on a real socket."""

import gc
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingMixIn, UnixStreamServer

import pytest
from docker.context import Context

from mlops_deploy.adapters import docker_engine
from mlops_deploy.adapters.docker_engine import DockerEngine
from mlops_deploy.errors import DeployError, UnreachableError, UnusableInputError
from mlops_deploy.spec.refs import Digest

# The SDK leaves the socket of a failed connection to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

ID = f"sha256:{'a' * 64}"


class Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    taken, tagged, on_load = [], [], "take"
    on_pull = (200, {"status": "Pull complete"})

    def address_string(self):
        return "socket"

    def log_message(self, *_):
        pass

    def answer(self, code, body, kind="application/json"):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        path = self.path.partition("?")[0]
        if path.endswith("/version"):
            self.answer(200, {"ApiVersion": "1.45", "MinAPIVersion": "1.24"})
        elif path.endswith("/_ping"):
            self.answer(200, b"OK", "text/plain")
        elif path.endswith("/images/digits:1.0/json"):
            self.answer(200, {"Id": ID})
        elif path.endswith("/images/broken/json"):
            self.answer(500, {"message": "database is corrupt"})
        else:
            self.answer(404, {"message": "No such image"})

    def chunks(self):
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def do_POST(self):
        if "/images/create" in self.path:
            self.answer(*self.on_pull)
            return
        if "/tag" in self.path:
            self.tagged.append(self.path)
            self.answer(201, b"")
            return
        for chunk in self.chunks():
            self.taken.append(chunk)
            if self.on_load == "refuse half way":
                self.close_connection = True
                self.answer(500, {"message": "no space left on device"})
                return
            if self.on_load == "go away":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
        if self.on_load == "fail at the end":
            self.answer(200, json.dumps({"error": "unexpected EOF", "errorDetail": {"message": "x"}}).encode())
        else:
            self.answer(200, json.dumps({"stream": "Loaded image: digits:1.0"}).encode())


@pytest.fixture
def api(tmp_path, monkeypatch):
    class Own(Api):
        taken, tagged, on_load = [], [], "take"

    with Server(str(tmp_path / "engine.sock"), Own) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/engine.sock")
        yield Own
        server.shutdown()
        thread.join()


@pytest.fixture
def engine():
    """The adapter; what the SDK keeps open is closed."""
    found = DockerEngine()
    yield found
    if "_client" in vars(found):
        found._client.close()
    gc.collect()


def test_an_engine_that_answers(api, engine):
    assert engine.ping()


def test_the_id_behind_a_name(api, engine):
    assert engine.image_id("digits:1.0") == Digest.parse(ID)
    assert engine.image_id("nothing:1") is None


def test_what_the_engine_says_of_its_own_trouble_is_passed_on(api, engine):
    with pytest.raises(DeployError, match="database is corrupt"):
        engine.image_id("broken")


def test_an_archive_is_sent_while_it_is_made_block_by_block(api, engine):
    def archive():
        for number in range(5):
            until = time.monotonic() + 20
            while len(api.taken) < number:  # each block arrives before the next is made
                assert time.monotonic() < until, "what was made is not sent"
                time.sleep(0.01)
            yield memoryview(bytes([number]) * 1000)

    engine.load(archive())
    assert api.taken == [bytes([number]) * 1000 for number in range(5)]


@pytest.mark.parametrize("on_load", ["refuse half way", "fail at the end"])
def test_an_engine_that_refuses_is_quoted(api, on_load, engine):
    api.on_load = on_load
    with pytest.raises(DeployError, match=r"no space left on device|unexpected EOF") as caught:
        engine.load(bytes(1000) for _ in range(100))
    assert caught.value.exit_code == 1


REFUSED = 'Get "http://127.0.0.1:5000/v2/": dial tcp 127.0.0.1:5000: connect: connection refused'


@pytest.mark.parametrize(
    ("said", "kind", "message"),
    [
        (REFUSED, UnreachableError, "the registry of `{}` does not answer: Get"),
        ("received unexpected HTTP status: 503 Service Unavailable", UnreachableError, "does not answer"),
        ("net/http: request canceled (Client.Timeout exceeded)", UnreachableError, "does not answer"),
        ("unauthorized: authentication required", UnusableInputError, "the registry does not show `{}`: unauth"),
        ("no space left on device", DeployError, "`{}` cannot be pulled: no space"),
    ],
)
def test_why_an_image_cannot_be_pulled(api, engine, said, kind, message):
    ref = f"127.0.0.1:5000/digits@{ID}"
    for answer in ((500, {"message": said}), (200, {"error": said})):
        api.on_pull = answer
        with pytest.raises(DeployError) as refused:
            engine.pull(ref)
        assert type(refused.value) is kind
        assert refused.value.hint
        assert message.format(ref) in refused.value.message


def test_an_engine_that_goes_away_is_unreachable(api, engine):
    api.on_load = "go away"
    with pytest.raises(UnreachableError, match="went away"):
        engine.load(bytes(2**20) for _ in range(100))


def test_what_the_archive_raises_comes_through(api, engine):
    def broken():
        yield b"x"
        raise DeployError("the model changed")

    with pytest.raises(DeployError, match="the model changed"):
        engine.load(broken())


def test_a_tag_with_a_registry_that_has_a_port(api, engine):
    engine.tag(ID, "registry.example:5000/digits:1.0")
    assert "repo=registry.example%3A5000%2Fdigits" in api.tagged[0]
    assert "tag=1.0" in api.tagged[0]


@pytest.mark.parametrize(
    "host", ["unix:///nowhere.sock", "tcp://127.0.0.1:1", "nonsense://x", "tcp://", "garbage", "\n"]
)
def test_an_engine_that_is_nowhere_does_not_answer(monkeypatch, host, engine):
    monkeypatch.setenv("DOCKER_HOST", host)
    assert not engine.ping()
    with pytest.raises(UnreachableError, match="no Docker Engine answers") as caught:
        engine.image_id("digits")
    assert caught.value.exit_code == 8
    assert caught.value.hint


def test_an_engine_that_takes_the_connection_and_says_nothing(tmp_path, monkeypatch, engine):
    monkeypatch.setattr(docker_engine, "_SOON", 0.2)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/mute.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/mute.sock")
        listener.listen()
        started = time.monotonic()
        assert not engine.ping()
        assert time.monotonic() - started < 20


@pytest.mark.parametrize("context", ["nothing", "../x"])
def test_a_context_that_is_not_there(monkeypatch, tmp_path, context, engine):
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("DOCKER_CONTEXT", context)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert not engine.ping()


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("DOCKER_HOST", "unix:///run/nobody.sock", "no such file or directory"),
        ("DOCKER_HOST", "npipe:////x", "The npipe:// protocol is only supported on Windows"),
        ("DOCKER_HOST", "tcp://127.0.0.1:1", "connection refused"),
    ],
)
def test_an_engine_that_was_named_and_does_not_answer_says_why(monkeypatch, engine, name, value, why):
    monkeypatch.setenv(name, value)
    assert engine.trouble() == f"no Docker Engine answers at `{value}`, which `{name}` names: {why}"
    assert not engine.ping()


def test_a_context_that_is_not_there_is_the_trouble(monkeypatch, engine):
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("DOCKER_CONTEXT", "nope")
    assert engine.trouble() == "there is no docker context `nope`"


@pytest.mark.parametrize("named", ["host", "context"])
def test_an_engine_behind_ssh_is_refused_with_a_way_to_reach_it(monkeypatch, tmp_path, engine, named):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    if named == "host":
        monkeypatch.setenv("DOCKER_HOST", "ssh://anna@build7")
    else:
        monkeypatch.setattr(docker_engine, "_context", lambda: Context("far", host="ssh://anna@build7"))
    with pytest.raises(UnreachableError, match=r"`ssh://anna@build7(:22)?` cannot be used") as caught:
        engine.image_id("digits")
    assert "`ssh -NL /tmp/engine.sock:/var/run/docker.sock ssh://anna@build7" in caught.value.message
    assert "unix:///tmp/engine.sock" in caught.value.hint
