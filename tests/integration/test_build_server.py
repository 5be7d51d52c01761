"""`build-server` with the real engine and a package index of the test's own: what goes in, what stays out."""

import base64
import contextlib
import hashlib
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
import uuid
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pytest

pytestmark = pytest.mark.docker

PASSWORD = "s3cr3t-of-the-index"
PACKAGES = {"kserve": "0.21.99", "scikit-learn": "99.1", "joblib": "99.2", "skops": "99.3"}
HOOK = "def predict(model, inputs):\n    return inputs\n"


def docker(*argv):
    return subprocess.run(["docker", *argv], capture_output=True, text=True, check=True).stdout.strip()


def wheel(name, version):
    """A package with nothing in it but its name and version."""
    module, data = name.replace("-", "_"), BytesIO()
    info = f"{module}-{version}.dist-info"
    files = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": f"{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n",
    }
    with zipfile.ZipFile(data, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return f"{module}-{version}-py3-none-any.whl", data.getvalue()


WHEELS = {name: wheel(name, version) for name, version in PACKAGES.items()}


class Index(BaseHTTPRequestHandler):
    """A package index that gives nothing to those who do not know the password."""

    def do_GET(self):
        self.server.asked.set()
        self.server.open.wait(60)
        expected = "Basic " + base64.b64encode(f"robot:{PASSWORD}".encode()).decode()
        name = self.path.strip("/").split("/")[-1]
        if self.headers.get("Authorization") != expected:
            self.answer(401, b"")
        elif name in WHEELS:
            file, data = WHEELS[name]
            link = f'<a href="/files/{file}#sha256={hashlib.sha256(data).hexdigest()}">{file}</a>'
            self.answer(200, f"<!DOCTYPE html><html><body>{link}</body></html>".encode())
        else:
            files = dict(WHEELS.values())
            self.answer(200 if name in files else 404, files.get(name, b""))

    def answer(self, status, body):
        with contextlib.suppress(OSError):
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="packages"')
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate, with its key, for the address at which containers see this machine."""
    folder = tmp_path_factory.mktemp("certificate")
    gateway = docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test index"]
    command += ["-addext", f"subjectAltName=IP:{gateway}", "-keyout", folder / "key.pem", "-out", folder / "ca,1.pem"]
    subprocess.run(command, capture_output=True, check=True)
    return gateway, folder / "ca,1.pem", folder / "key.pem"


@pytest.fixture(scope="module")
def index(certificate):
    gateway, chain, key = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    with ThreadingHTTPServer((gateway, 0), Index) as server:
        server.daemon_threads = True
        server.asked, server.open = threading.Event(), threading.Event()
        server.open.set()
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.url = f"https://robot:{PASSWORD}@{gateway}:{server.server_port}/simple"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


PINS = "".join(f"{name}=={version}\n" for name, version in PACKAGES.items())
SESSION = uuid.uuid4()


@pytest.fixture
def constraints(tmp_path):
    """The packages of our index; the first build of a session installs them, the others find that step done."""
    path = tmp_path / "constraints.txt"
    path.write_text(f"# {SESSION}\n{PINS}")
    return path


@pytest.fixture
def new_constraints(tmp_path):
    """The same in a file that no build had before: packages must be installed again."""
    path = tmp_path / "constraints.txt"
    path.write_text(f"# {uuid.uuid4()}\n{PINS}")
    return path


@pytest.fixture
def tag():
    name = f"mlops-test-build:{uuid.uuid4().hex[:12]}"
    yield name
    subprocess.run(["docker", "image", "rm", "-f", name], capture_output=True, check=False)


class Shell:
    """`mlops-deploy build-server` in a folder of its own, with the index and its certificate in the environment."""

    def __init__(self, folder, index, certificate):
        self.folder = folder
        self.environment = {**os.environ, "PIP_INDEX_URL": index.url, "PIP_CERT": str(certificate[1])}
        self.command = [sys.executable, "-m", "mlops_deploy", "build-server"]

    def __call__(self, *options, code=0, **environment):
        done = subprocess.run(
            [*self.command, *map(str, options)],
            cwd=self.folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
        assert PASSWORD not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def start(self, *options):
        command = [*self.command, *map(str, options)]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )


@pytest.fixture
def build_server(tmp_path, index, certificate, server_base):
    return Shell(tmp_path, index, certificate)


def has_image(name):
    return subprocess.run(["docker", "image", "inspect", name], capture_output=True, check=False).returncode == 0


def images():
    return set(docker("image", "ls", "--all", "--quiet", "--no-trunc").split())


class Witness:
    """Looks at every command line of this machine, all the time, for a few words."""

    def __init__(self, *words):
        self.words, self.seen, self._over = words, set(), threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _look(self):
        while not self._over.wait(0.02):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    line = path.read_bytes()
                    self.seen |= {word for word in self.words if word.encode() in line}


def found_in_image(tag, *words):
    """Those of the words that stand anywhere in the saved image: layers, configuration, history."""
    found, rest = set(), b""
    with subprocess.Popen(["docker", "save", tag], stdout=subprocess.PIPE) as saved:
        while block := saved.stdout.read(1 << 20):
            found |= {word for word in words if word.encode() in rest + block}
            rest = block[-200:]
    assert saved.returncode == 0
    return found


def test_packages_come_from_the_index_and_its_password_goes_nowhere(build_server, new_constraints, tag, certificate):
    with Witness(PASSWORD, "--iidfile") as witness:
        done = build_server("-t", tag, "--constraints", new_constraints, "--output", "json")
    assert witness.seen == {"--iidfile"}
    result = json.loads(done.stdout)
    assert result["tag"] == tag
    assert result["provides"]["packages"] == PACKAGES
    line, installed = certificate[1].read_text().splitlines()[5], f"kserve-{PACKAGES['kserve']}.dist-info"
    assert found_in_image(tag, PASSWORD, line, installed) == {installed}
    assert PASSWORD not in docker("history", "--no-trunc", tag)
    assert PASSWORD not in docker("image", "inspect", tag)


def test_the_second_time_nothing_is_done(build_server, constraints, tag):
    build_server("-t", tag, "--constraints", constraints)
    before = docker("image", "inspect", "--format", "{{.Id}} {{.Metadata.LastTagTime}}", tag)
    begun = time.monotonic()
    again = build_server("-t", tag, "--constraints", constraints)
    assert (again.stdout, "nothing has changed" in again.stderr) == (f"{tag}\n", True)
    assert time.monotonic() - begun < 30
    assert docker("image", "inspect", "--format", "{{.Id}} {{.Metadata.LastTagTime}}", tag) == before


def test_a_changed_hook_installs_nothing_again(build_server, constraints, tag, index):
    build_server("-t", tag, "--constraints", constraints)
    hook = constraints.parent / "steps.py"
    hook.write_text(HOOK)
    index.asked.clear()
    result = json.loads(
        build_server("-t", tag, "--constraints", constraints, "--hook", hook, "--output", "json").stdout
    )
    assert (result["built"], result["provides"]["hook"]) == (True, ["predict"])
    assert not index.asked.is_set()
    assert docker("run", "--rm", tag, "cat", "/opt/hook/hook.py") == HOOK.strip()


def test_inputs_come_from_the_configuration(build_server, constraints, tag):
    (constraints.parent / "steps.py").write_text(HOOK)
    (constraints.parent / "mlops.yml").write_text(
        "service: digits\nmodel: {path: model.joblib}\nserver: {hook: steps.py, constraints: constraints.txt}\n"
    )
    result = json.loads(build_server("-t", tag, "--output", "json").stdout)
    assert result["provides"]["hook"] == ["predict"]
    assert result["provides"]["packages"] == PACKAGES


def test_a_wrong_password_is_an_index_that_cannot_be_used(build_server, new_constraints, tag, index):
    before = images()
    url = index.url.replace(PASSWORD, "another-one")
    done = build_server("-t", tag, "--constraints", new_constraints, code=8, PIP_INDEX_URL=url)
    assert done.stderr.count("error: ") >= 1
    assert "`--index-url` names another package index" in done.stderr
    assert "another-one" not in done.stderr
    assert images() == before


def test_without_its_certificate_the_index_is_not_trusted(build_server, new_constraints, tag):
    done = build_server("-t", tag, "--constraints", new_constraints, code=8, PIP_CERT="")
    assert "`--ca-bundle`" in done.stderr
    assert not has_image(tag)


def test_packages_that_are_not_there_are_told(build_server, new_constraints, tag):
    new_constraints.write_text(new_constraints.read_text().replace("99.1", "99.7"))
    done = build_server("-t", tag, "--constraints", new_constraints, code=2)
    assert "error: these packages cannot be installed together" in done.stderr
    assert "scikit-learn" in done.stderr
    assert not has_image(tag)


def test_a_hook_that_does_not_load_leaves_no_image(build_server, constraints, tag):
    hook = constraints.parent / "steps.py"
    hook.write_text("import there_is_no_such_module\n" + HOOK)
    before = images()
    done = build_server("-t", tag, "--constraints", constraints, "--hook", hook, code=2)
    assert "there_is_no_such_module" in done.stderr
    assert not has_image(tag)
    assert images() == before


def test_a_base_that_is_not_there(build_server, tag):
    done = build_server("-t", tag, "--base", "localhost:1/nosuch:1", code=8)
    assert "base image `localhost:1/nosuch:1` is not in the engine and cannot be pulled" in done.stderr
    assert "images/base/build.sh" in done.stderr
    assert not has_image(tag)


def test_an_engine_that_is_not_there(build_server, tag):
    done = build_server("-t", tag, code=8, DOCKER_HOST="unix:///nonexistent.sock")
    assert "error: no Docker Engine answers" in done.stderr


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--hook", "none.py"], "none.py"),
        (["--base", "Not A Name"], "is not an image reference"),
        (["-t", "a:b:c"], "is not an image reference"),
        (["--index-url", "ftp://x"], "the index URL is not one"),
        (["--ca-bundle", __file__.replace("test_build_server.py", "conftest.py")], "holds no certificate"),
    ],
    ids=str,
)
def test_unusable_options_are_refused_before_anything_is_built(build_server, options, expected):
    assert expected in build_server(*options, code=2).stderr


def test_a_ready_image_leaves_nothing_to_build(build_server):
    text = "service: digits\nmodel: {path: model.joblib}\nserver: {image: 'registry.example.com/server:1'}\n"
    (build_server.folder / "mlops.yml").write_text(text)
    assert "nothing to build" in build_server(code=2).stderr


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_leaves_no_image(build_server, new_constraints, tag, index, sent):
    before = images()
    index.asked.clear()
    index.open.clear()
    try:
        building = build_server.start("-t", tag, "--constraints", new_constraints)
        assert index.asked.wait(180)
        building.send_signal(sent)
        _, words = building.communicate(timeout=60)
    finally:
        index.open.set()
    assert building.returncode == 130
    assert b"Traceback" not in words
    assert not has_image(tag)
    assert images() == before
