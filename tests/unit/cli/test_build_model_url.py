"""`build-model URL`: one file behind a URL, streamed, checked, pinned; against a real server on loopback."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

DATA = os.urandom(3_000_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        found = self.server
        found.asked += 1
        start = int(self.headers["Range"][6:-1]) if self.headers.get("Range") else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(found.data) - 1}/{len(found.data)}")
        self.send_header("Content-Length", str(len(found.data) - start))
        if found.etag:
            self.send_header("ETag", found.etag)
        self.end_headers()
        end = start + 1_000_000 if found.cuts else None
        self.close_connection = bool(found.cuts)
        found.cuts = max(0, found.cuts - 1)
        sent = self.wfile.write(found.data[start:end])
        found.sent += sent

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    data, etag, asked, sent, cuts = DATA, '"1"', 0, 0, 0

    def handle_error(self, *_):
        """A client that closes early is no news."""


@pytest.fixture
def server():
    found = Server(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{found.server_address[1]}/models/My%20Net.onnx"
    thread = threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()


@pytest.fixture
def project(tmp_path, server):
    (tmp_path / "mlops.yml").write_text(f"service: net\nmodel:\n  path: {server.url}\n")
    return tmp_path


def build(folder, *arguments):
    command = [sys.executable, "-m", "mlops_deploy", "build-model", *arguments, "--store", "store", "--output", "json"]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def built(folder, *arguments):
    done = build(folder, *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_file_is_streamed_and_not_kept(tmp_path, server):
    found = built(tmp_path, server.url)
    assert found["bytes_read"] == len(DATA)
    assert found["name"].startswith("my-net@") or found["name"] == "my-net"
    local = tmp_path / "local"
    local.mkdir()
    (local / "My Net.onnx").write_bytes(DATA)
    assert built(tmp_path, str(local / "My Net.onnx"), "--name", "my-net")["digest"] == found["digest"]
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size == len(DATA)]
    assert kept == [local / "My Net.onnx"]


def test_the_first_build_pins_what_it_finds_and_the_next_reads_nothing(project, server):
    first = build(project)
    assert first.returncode == 0, first.stderr
    assert "what is found there is believed" in first.stderr
    assert json.loads((project / "mlops.lock").read_text())["sources"] == {server.url: {"sha256": SHA256}}
    server.sent = 0
    again = built(project)
    assert again["bytes_read"] == 0
    assert again["digest"] == json.loads(first.stdout)["digest"]


def test_another_file_than_the_pinned_one_is_refused_and_named(project, server):
    built(project)
    server.data, server.etag = os.urandom(3_000_000), '"2"'
    done = build(project)
    assert done.returncode == 12
    assert f"expected sha256: {SHA256}" in done.stderr
    assert "Traceback" not in done.stderr
    there = json.loads((project / "store" / "index.json").read_text())["manifests"]
    server.data, server.etag = DATA, '"3"'
    assert built(project)
    assert json.loads((project / "store" / "index.json").read_text())["manifests"] == there


def test_a_hash_that_is_given_counts_more_than_the_pinned_one(project, server):
    built(project)
    other = os.urandom(3_000_000)
    server.data, server.etag = other, '"2"'
    given = hashlib.sha256(other).hexdigest()
    assert built(project, server.url, "--sha256", given)
    assert json.loads((project / "mlops.lock").read_text())["sources"][server.url]["sha256"] == given


def test_the_hint_for_a_new_file_works_also_for_the_configured_url(project, server):
    built(project)
    other = os.urandom(3_000_000)
    server.data, server.etag = other, '"2"'
    done = build(project)
    assert done.returncode == 12
    assert "--sha256" in done.stderr
    assert built(project, "--sha256", hashlib.sha256(other).hexdigest())["bytes_read"] == len(other)


@pytest.mark.parametrize("etag", ["", 'W/"1"'])
def test_without_an_exact_version_the_file_is_read_again(tmp_path, server, etag):
    server.etag = etag
    first = built(tmp_path, server.url)
    server.data = os.urandom(3_000_000)
    second = built(tmp_path, server.url)
    assert second["bytes_read"] == 3_000_000
    assert second["content_id"] != first["content_id"]


def test_a_given_hash_is_checked(tmp_path, server):
    assert build(tmp_path, server.url, "--sha256", "0" * 64).returncode == 12
    assert built(tmp_path, server.url, "--sha256", SHA256)


def test_a_connection_that_breaks_is_taken_up(tmp_path, server):
    server.cuts = 3
    assert built(tmp_path, server.url, "--sha256", SHA256)["bytes_read"] == len(DATA)
    assert server.asked >= 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["http://example.com/x.onnx"], "only `https://`"),
        (["https:///x"], "leads nowhere"),
        (["--sha256", "0" * 64], "name that too"),
        (["m", "--sha256", "0" * 64], "name that too"),
        (["https://example.com/x", "--sha256", "0"], "64 lower-case hex digits"),
        (["https://example.com/"], "names no file"),
    ],
)
def test_wrong_inputs(tmp_path, arguments, words):
    (tmp_path / "m").write_bytes(b"x")
    done = build(tmp_path, *arguments)
    assert done.returncode == 2
    assert words in done.stderr


def test_what_may_be_a_secret_in_a_url_is_neither_told_nor_kept(project, server):
    secret = server.url.replace("127.0.0.1", "ann:hunter2@127.0.0.1") + "?sig=SECRETSIG"
    first = build(project, secret)
    assert first.returncode == 0, first.stderr
    server.data, server.etag = os.urandom(3_000_000), '"2"'
    second = build(project, secret)
    assert second.returncode == 12
    port = server.server_address[1]
    third = build(project, f"https://ann:hunter2@127.0.0.1:{port}/x.onnx?sig=SECRETSIG")
    assert third.returncode == 8
    fourth = build(project, "https://ann:hunter2@127.0.0.1:1/x.onnx?sig=SECRETSIG")
    assert fourth.returncode == 8
    told = "".join(done.stdout + done.stderr for done in (first, second, third, fourth))
    kept = b"".join(path.read_bytes() for path in project.rglob("*") if path.is_file())
    for word in ("hunter2", "SECRETSIG"):
        assert word not in told
        assert word.encode() not in kept
    assert server.url in json.loads((project / "mlops.lock").read_text())["sources"]
