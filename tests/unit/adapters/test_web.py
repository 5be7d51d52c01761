"""Files behind a URL, against a real server on loopback that breaks in every way."""

import os
import socket
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mlops_deploy.adapters import web
from mlops_deploy.adapters.web import HttpWeb
from mlops_deploy.errors import UnreachableError, UnusableInputError
from mlops_deploy.oci.inventory import Remote

DATA = os.urandom(3_000_000)


class Server(ThreadingHTTPServer):
    """Serves DATA; `faults` are taken one for each request, `asked` keeps the ranges."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults, self.asked, self.etag, self.ranges = [], [], '"1"', True
        self.url = f"http://127.0.0.1:{self.server_address[1]}/models/net.onnx"

    def handle_error(self, *_):
        """A client that closes early is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append(self.headers.get("Range"))
        fault = self.server.faults.pop(0) if self.server.faults else None
        match fault:
            case int(status) if status < 600:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            case ("to", place):
                self.send_response(302)
                self.send_header("Location", place)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        start = int(self.headers["Range"][6:-1]) if self.headers.get("Range") and self.server.ranges else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
        if fault != "no size":
            self.send_header("Content-Length", str(len(DATA) - start))
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        self.end_headers()
        body = DATA[start:]
        if isinstance(fault, tuple) and fault[0] == "cut":
            self.wfile.write(body[: fault[1]])
            self.close_connection = True
            return
        self.wfile.write(body)
        self.close_connection = fault == "no size"

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(web, "_PAUSES", (0.0, 0.0, 0.0, 0.0))
    found = Server()
    thread = threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()


def test_it_is_looked_at_and_read(server):
    remote = HttpWeb().look(server.url)
    assert remote == Remote(url=server.url, size=len(DATA), version='"1"', exact=True)
    assert b"".join(HttpWeb().read(remote)) == DATA
    assert b"".join(HttpWeb().read(remote, 1_234_567)) == DATA[1_234_567:]
    assert server.asked == [None, None, "bytes=1234567-"]


def test_what_breaks_is_taken_up_where_it_broke(server):
    remote = HttpWeb().look(server.url)
    server.faults = [("cut", 1_500_000), 503, ("cut", 700_000), 429, ("cut", 0)]
    server.asked.clear()
    assert b"".join(HttpWeb().read(remote)) == DATA
    begun = [int(asked[6:-1]) if asked else 0 for asked in server.asked]
    assert begun[0] == 0
    assert begun == sorted(begun)
    assert begun[-1] >= 2_000_000
    assert len(begun) == 6


def test_where_ranges_are_not_known_it_is_read_anew_and_what_is_there_skipped(server):
    remote = HttpWeb().look(server.url)
    server.ranges = False
    server.faults = [("cut", 2_000_000)]
    assert b"".join(HttpWeb().read(remote)) == DATA


def test_five_tries_without_progress_are_the_end(server):
    remote = HttpWeb().look(server.url)
    server.faults, server.asked = [500] * 50, []
    with pytest.raises(UnreachableError, match="answers 500"):
        list(HttpWeb().read(remote))
    assert len(server.asked) == 5


def test_a_file_that_changes_meanwhile_is_refused(server):
    remote = HttpWeb().look(server.url)
    reading = HttpWeb().read(remote)
    server.faults = [("cut", 1_500_000)]
    next(reading)
    server.etag = '"2"'
    with pytest.raises(UnusableInputError, match="changed while it was read"):
        list(reading)


def test_more_bytes_than_it_said_are_refused(server):
    short = Remote(url=server.url, size=1000, version='"1"')
    with pytest.raises(UnusableInputError, match="changed"):
        list(HttpWeb().read(short))


@pytest.mark.parametrize(("status", "words"), [(404, "404"), (403, "403"), (204, "204")])
def test_what_is_not_there_is_told_at_once(server, status, words):
    server.faults = [status]
    with pytest.raises(UnusableInputError, match=words):
        HttpWeb().look(server.url)
    assert len(server.asked) == 1


def test_a_file_without_a_size_is_refused(server):
    server.faults = ["no size"]
    with pytest.raises(UnusableInputError, match="does not say how many bytes"):
        HttpWeb().look(server.url)


@pytest.mark.parametrize(
    "url", ["http://example.com/x", "http:///x", "ftp://example.com/x", "file:///etc/passwd", "https://"]
)
def test_only_https_is_fetched(url):
    with pytest.raises(UnusableInputError):
        HttpWeb().look(url)


def test_this_machine_is_asked_by_http_by_any_of_its_names(server):
    assert HttpWeb().look(server.url.replace("127.0.0.1", "LOCALHOST")).size == len(DATA)
    with pytest.raises(UnreachableError, match="connection refused"):
        HttpWeb().look("http://127.0.0.2:1/x")


@pytest.mark.parametrize("host", ["localhost.example.com", "127.0.0.1.example.com", "0.0.0.1"])
def test_what_only_looks_like_this_machine_is_not(host):
    with pytest.raises(UnusableInputError, match="only `https://` is"):
        HttpWeb().look(f"http://{host}:1/x")


def test_a_redirection_is_followed_but_not_in_a_circle(server):
    server.faults = [("to", "/elsewhere")]
    assert HttpWeb().look(server.url).size == len(DATA)
    server.faults = [("to", "/elsewhere")] * 10
    with pytest.raises(UnusableInputError, match="leads nowhere") as caught:
        HttpWeb().look(server.url)
    assert "download it" in caught.value.hint


@pytest.mark.parametrize(
    "place",
    [
        "http://127.0.0.2:1/x",
        "http://169.254.169.254/latest",
        "http://[::1]:1/x",
        "http://0x7f.1/x",
        "http://2130706433/x",
    ],
)
def test_no_redirection_leads_to_what_is_near(server, place):
    server.faults = [("to", place)]
    with pytest.raises(UnusableInputError, match="which is not public"):
        HttpWeb().look(server.url)


def test_no_secret_of_the_address_is_told(server):
    server.faults = [404]
    with pytest.raises(UnusableInputError) as raised:
        HttpWeb().look(server.url.replace("127", "me:secret@127") + "?token=secret")
    assert "secret" not in f"{raised.value} {raised.value.hint} {raised.value.detail}"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # what is left behind is not closed
@pytest.mark.parametrize("part", ["head", "body"])
def test_what_drips_is_not_waited_for(monkeypatch, part):
    """A byte now and then, for ever: each is in time, all together are not."""
    monkeypatch.setattr(web, "_TIMEOUTS", (0.3, 0.3))
    monkeypatch.setattr(web, "_PAUSES", (0.0,))
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def drip(connection):
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n"
        with suppress(OSError), connection:
            connection.sendall(head if part == "head" else head + b"\r\n")
            while not over.wait(0.05):
                connection.sendall(b"X-Y: z\r\n" if part == "head" else b"x")

    def serve():
        with suppress(OSError):
            while True:
                threading.Thread(target=drip, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    url, started = f"http://127.0.0.1:{listener.getsockname()[1]}/x", time.monotonic()
    try:
        with pytest.raises(UnreachableError):
            list(HttpWeb().read(Remote(url=url, size=1_000_000)))
        assert time.monotonic() - started < 30
    finally:
        over.set()
        listener.close()


def test_nobody_there_is_unreachable(monkeypatch):
    monkeypatch.setattr(web, "_PAUSES", (0.0,))
    with pytest.raises(UnreachableError):
        HttpWeb().look("http://127.0.0.1:1/x")
