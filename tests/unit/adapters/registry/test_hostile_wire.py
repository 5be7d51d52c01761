"""Peers that speak no HTTP, or so little of it that no timeout of a socket would end it."""

import re
import socket
import ssl
import subprocess
import time
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import replace
from threading import Event, Thread

import pytest

from mlops_deploy.adapters.registry.connections import TlsPool
from mlops_deploy.adapters.registry.pace import Pace
from mlops_deploy.adapters.registry.streaming import AnsweredError, Outgoing
from mlops_deploy.errors import ContentMismatchError, UnreachableError
from mlops_deploy.spec.refs import Digest
from tests.unit.adapters.registry.clients import QUICK, repository

PACE = replace(QUICK, tries=2, connects=2, silence=0.3, commit=0.3, token=0.5, farewell=0.3)
DIGEST = Digest("a" * 64)
STARTED = b"HTTP/1.1 202 Accepted\r\nLocation: /v2/team/digits/blobs/uploads/1\r\nContent-Length: 0\r\n\r\n"


@contextmanager
def peer(talk, wrap=lambda sock: sock):
    """A server that gives each connection to `talk`, and ends them all in the end."""
    listener, open_ = socket.create_server(("127.0.0.1", 0)), []

    def serve():
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                open_.append(connection)
                Thread(target=attend, args=(connection,)).start()

    def attend(connection):
        with suppress(OSError), wrap(connection) as wrapped:
            talk(wrapped)

    thread = Thread(target=serve)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()
        for connection in open_:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def head(connection):
    """The head of a request."""
    got = b""
    while b"\r\n\r\n" not in got and (piece := connection.recv(65536)):
        got += piece
    return got


def repeating(first, again, every=0.02):
    def talk(connection):
        head(connection)
        connection.sendall(first)
        while True:
            time.sleep(every)
            connection.sendall(again)

    return talk


BLOB = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"a"),
        (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"),
        (CHUNKS, b"0"),
        (CHUNKS + b"0\r\n", b"A: b\r\n"),
        (BLOB, b"x"),
    ],
)
def test_a_trickle_ends(first, again):
    begun = time.monotonic()
    with peer(repeating(first, again)) as host, pytest.raises((UnreachableError, ContentMismatchError)):
        b"".join(repository(host, pace=replace(PACE, tries=1)).read(DIGEST, size=100_000))
    assert time.monotonic() - begun < 30


UNAUTHORIZED = b'HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer realm="/token"\r\nContent-Length: 0\r\n\r\n'
TOKEN = b'HTTP/1.1 200 OK\r\nContent-Length: 16\r\nConnection: close\r\n\r\n{"token": "abc"}'


def tokens(*answers):
    """A registry that wants tokens, and gives a tag to who has one; each answer of its token server is one of these."""
    left = list(answers)

    def talk(connection):
        while asked := head(connection):
            if asked.startswith(b"GET /token"):
                left.pop(0)(connection)
                return
            connection.sendall(MANIFEST if b"Bearer abc" in asked else UNAUTHORIZED)

    return talk


def dripping(first, again):
    def answer(connection):
        connection.sendall(first)
        while True:
            time.sleep(0.02)
            connection.sendall(again)

    return answer


MANIFEST = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\nContent-Length: 2\r\n"
    b"Docker-Content-Digest: sha256:" + b"a" * 64 + b"\r\n\r\n"
)
DRIPS = [
    dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b" "),
    dripping(CHUNKS, b"1\r\n \r\n"),
]


@pytest.mark.parametrize("drip", DRIPS, ids=["sized", "chunked"])
def test_a_token_server_that_drips_is_not_waited_for(drip):
    """Others wait for the same token, so the whole answer has an end."""
    begun = time.monotonic()
    with peer(tokens(drip, drip)) as host, pytest.raises(UnreachableError, match=f"registry `{host}`"):
        repository(host, pace=PACE).resolve("1")
    assert time.monotonic() - begun < 30


def test_a_token_server_that_dripped_once_is_asked_again():
    pace = replace(PACE, silence=10, token=1)  # the second answer has no third after it
    with peer(tokens(DRIPS[0], lambda connection: connection.sendall(TOKEN))) as host:
        assert repository(host, pace=pace).resolve("1").digest == DIGEST


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00\x01\x02\xff" * 100,
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nDocker-Content-Digest: sha256:0",
        b"HTTP/1.1 404 Not Found\r\nContent-Le",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: " + b"b" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 300 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\nDocker-Content-Digest: \xff\xfe\r\nContent-Type: a/b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 307 Moved\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\n\r\n",
        b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 9-1/0\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_what_is_no_answer_is_one_clear_error(answer):
    def talk(connection):
        head(connection)
        connection.sendall(answer)

    with peer(talk) as host:
        ours = repository(host, pace=PACE)
        for deed in (
            lambda: ours.resolve("v1"),
            lambda: ours.document(DIGEST),
            lambda: b"".join(ours.read(DIGEST, size=10)),
            lambda: ours.upload(4, lambda: [b"data"]).write(memoryview(b"data")),
        ):
            with pytest.raises(Exception, match=re.escape(f"registry `{host}`")) as caught:
                deed()
            assert not isinstance(caught.value, FileNotFoundError)
            assert caught.type.__module__ == "mlops_deploy.errors"
            assert caught.value.message.isprintable()


@pytest.fixture
def over():
    """Set at the end: what a peer waits for that does nothing more."""
    over = Event()
    yield over
    over.set()


def test_a_registry_that_stops_reading_does_not_hang_a_write(over):
    def talk(connection):
        if head(connection).startswith(b"POST"):
            connection.sendall(STARTED)
            head(connection)
        over.wait(60)

    data = bytes(16 * 2**20)
    begun = time.monotonic()
    with peer(talk) as host:
        upload = repository(host, pace=replace(PACE, tries=1, silence=1)).upload(len(data), lambda: [data])
        with pytest.raises(UnreachableError, match=r"it has taken nothing for 1 s"):
            upload.write(memoryview(data))
        assert time.monotonic() - begun < 30
        upload.abort()


def test_a_refusal_is_heard_although_nobody_reads(over):
    def talk(connection):
        if head(connection).startswith(b"POST"):
            connection.sendall(STARTED)
            head(connection)
            connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\n\r\nno room")
            over.wait(60)

    data = bytes(64 * 2**20)
    begun = time.monotonic()
    with peer(talk) as host:
        upload = repository(host, pace=replace(PACE, silence=60)).upload(len(data), lambda: [data])
        with pytest.raises(Exception, match="no room"):
            upload.write(memoryview(data))
        assert time.monotonic() - begun < 30


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", folder / "key", "-out", folder / "crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder


def test_over_tls_tickets_are_no_answer_and_an_answer_is_one(certificate, over):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate / "crt", certificate / "key")
    got = []

    def talk(connection):
        if head(connection).startswith(b"PATCH /whole"):
            left = 2 * 2**20
            while left and (piece := connection.recv(min(left, 65536))):
                left -= len(piece)
            got.append("whole")
            connection.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
            head(connection)
            connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        over.wait(60)

    with peer(talk, lambda sock: server.wrap_socket(sock, server_side=True)) as host:
        name, _, port = host.partition(":")
        pool = TlsPool(name, int(port), ssl_context=ssl.create_default_context(cafile=str(certificate / "crt")))
        first = Outgoing(pool, "PATCH", f"https://{host}/whole", {"Content-Length": str(2 * 2**20)}, Pace())
        time.sleep(0.1)
        for _ in range(4):
            first.send(memoryview(bytes(2**19)))
        assert first.answer().status == 202
        second = Outgoing(pool, "PATCH", f"https://{host}/early", {"Content-Length": str(2**40)}, Pace())
        with pytest.raises(AnsweredError):
            deque((second.send(memoryview(bytes(2**19))) for _ in range(2000)), maxlen=0)  # far more than buffers take
        assert second.answer().status == 413
        assert pool.num_connections == 1
        pool.close()
    assert got == ["whole"]
