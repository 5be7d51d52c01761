import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mlops_server.ready import NotReadyError, check

PACKAGE = Path(__file__).parents[3] / "images" / "server"
ID = "1a" * 32
VERSION = ID[:12]
REQUEST = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [2.0]}]}
GOLDEN = {"request": REQUEST, "expect": [{"name": "output-0", "data": [4.0]}], "tolerance": 0.5}


class Handler(BaseHTTPRequestHandler):
    """A server that says what its test lets it say, and doubles."""

    def do_GET(self):
        said = self.server.said
        if self.path == "/v2/models/digits/ready":
            self.answer(said["ready"], {"ready": said["ready"] == 200})
        elif self.path == "/v2/models/digits":
            self.answer(200, {"name": "digits", "versions": [said["version"]]})
        else:
            self.answer(404, {})

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        data = [value * 2 for value in request["inputs"][0]["data"]]
        answer = {"model_version": self.server.said["answers"], "outputs": [{"name": "output-0", "data": data}]}
        self.answer(self.server.said["infer"], answer)

    def answer(self, status, document):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.said = {"ready": 200, "version": VERSION, "answers": VERSION, "infer": 200}
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def environ(server, **more):
    return {"PORT": str(server.server_port), "MODEL_NAME": "digits", "MODEL_ID": ID, **more}


def golden(*requests):
    return json.dumps(list(requests))


def level(environment):
    with pytest.raises(NotReadyError) as caught:
        check(environment)
    return str(caught.value).partition("(")[2].partition(")")[0]


def test_without_golden_requests_that_level_is_not_checked(server):
    assert check(environ(server)) == f"ready: digits@{VERSION}, golden requests: not checked"


def test_golden_requests_are_counted(server):
    assert check(environ(server, GOLDEN=golden(GOLDEN))).endswith("1 golden request")
    assert check(environ(server, GOLDEN=golden(GOLDEN, GOLDEN))).endswith("2 golden requests")


def test_a_port_that_nobody_listens_on(server):
    assert level(environ(server, PORT="1")) == "process"


def test_a_model_that_is_being_loaded(server):
    server.said["ready"] = 503
    assert level(environ(server)) == "endpoint"


def test_another_name_is_not_ready(server):
    assert level(environ(server, MODEL_NAME="wine")) == "endpoint"


def test_another_version_is_not_this_model(server):
    server.said["version"] = "0" * 12
    assert level(environ(server)) == "identity"


def test_another_version_in_the_answer_is_not_this_model(server):
    server.said["answers"] = "0" * 12
    assert level(environ(server, GOLDEN=golden(GOLDEN))) == "identity"


def test_another_answer_fails_its_golden_request(server):
    other = {**GOLDEN, "expect": [{"name": "output-0", "data": [5.0]}]}
    assert level(environ(server, GOLDEN=golden(GOLDEN, other))) == "golden"


def test_an_error_fails_its_golden_request(server):
    server.said["infer"] = 500
    assert level(environ(server, GOLDEN=golden(GOLDEN))) == "golden"


@pytest.mark.parametrize("text", ["{", "5", "[5]", '[{"request": {}}]'])
def test_unreadable_golden_requests_are_never_passed(server, text):
    assert level(environ(server, GOLDEN=text)) == "golden"


def test_the_model_is_found_as_the_server_finds_it(server, tmp_path):
    (tmp_path / "v" / ID).mkdir(parents=True)
    (tmp_path / "digits").symlink_to(f"v/{ID}")
    volume = {"PORT": str(server.server_port), "MODEL_VOLUME": str(tmp_path)}
    assert VERSION in check({**volume, "MODEL": "digits"})
    assert VERSION in check({**volume, "MODEL_PATH": str(tmp_path / "v" / ID)})
    assert level({**volume, "MODEL": "wine"}) == "identity"


def run(server, **more):
    environment = {**os.environ, **environ(server, **more), "PYTHONPATH": str(PACKAGE)}
    command = [sys.executable, "-m", "mlops_server.ready"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_as_a_program_it_says_one_line_and_ends_with_0_or_1(server):
    ready = run(server)
    assert (ready.returncode, ready.stdout.count("\n"), ready.stderr) == (0, 1, "")
    server.said["ready"] = 503
    busy = run(server)
    assert (busy.returncode, busy.stdout.count("\n"), busy.stderr) == (1, 1, "")


def test_it_loads_the_standard_library_alone():
    code = "import sys, mlops_server.ready; print({'numpy', 'kserve', 'http.client', 'ssl'} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def given_up(port):
    begun = time.monotonic()
    assert level({"PORT": str(port), "MODEL_NAME": "digits", "MODEL_ID": ID, "READY_TIMEOUT": "0.3"}) == "process"
    return time.monotonic() - begun


def test_a_server_that_says_nothing_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert given_up(silent.getsockname()[1]) < 10


def test_a_server_that_drips_is_given_up_as_soon():
    def drip(listening):
        connection, _ = listening.accept()
        with connection, suppress(OSError):
            for _ in range(1000):
                connection.sendall(b"x")
                time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as dripping:
        thread = threading.Thread(target=drip, args=(dripping,))
        thread.start()
        seconds = given_up(dripping.getsockname()[1])
        thread.join()
    assert seconds < 10


@pytest.mark.parametrize("name", ["READY_TIMEOUT", "PORT"])
@pytest.mark.parametrize("text", ["x", "-1", "0", "nan", "inf", "1e9"])
def test_what_is_no_number_is_told(server, name, text):
    assert level(environ(server, **{name: text})) == "environment"
