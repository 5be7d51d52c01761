"""`serve` with the real server, from a model file to a prediction; its environment comes from the package index.

Where no index answers these tests are skipped, each with that reason. The environment is the user's own, so that it
is made once for all runs.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.integration.releasing import until

COMMAND = (sys.executable, "-m", "mlops_deploy", "serve")
TRAIN = """
import joblib, sys
from sklearn.datasets import load_iris
from sklearn.tree import DecisionTreeClassifier
joblib.dump(DecisionTreeClassifier(random_state=0).fit(*load_iris(return_X_y=True)), sys.argv[1])
"""
ROW = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [5.1, 3.5, 1.4, 0.2]}]}
RIGHT = {"request": ROW, "expect": [{"name": "output-0", "data": [0]}]}
WRONG = {"request": ROW, "expect": [{"name": "output-0", "data": [2]}]}
HOOK = """
def predict(model, inputs):
    return model.predict(inputs) + 40
"""
SLOW_HOOK = "import time; time.sleep(600)\n" + HOOK
PATIENCE = 120


@pytest.fixture(scope="session")
def model(programs, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "iris.joblib"
    subprocess.run([programs / "python", "-c", TRAIN, path], check=True)
    return path


@pytest.fixture
def project(model, tmp_path):
    folder = tmp_path / "a project"
    folder.mkdir()
    (tmp_path / "tmp").mkdir()
    (folder / "iris.joblib").write_bytes(model.read_bytes())
    return folder


def configure(project, *golden, **keys):
    (project / "golden.jsonl").write_text("".join(json.dumps(one) + "\n" for one in golden))
    ready = {"ready": {"golden": "golden.jsonl"}} if golden else {}
    document = {"service": "iris", "model": {"path": "iris.joblib"}} | ready | keys
    (project / "mlops.yml").write_text(json.dumps(document))


class Serve:
    """One `serve` in `project`: its lines on stderr as they come, and its one line on stdout."""

    def __init__(self, project, *arguments):
        environ = os.environ | {"TMPDIR": str(project.parent / "tmp")}
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], cwd=project, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.story = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        self.story.extend(self.process.stderr)

    def ready(self):
        line = self.process.stdout.readline()
        assert line, "".join(self.story)
        return json.loads(line)

    def said(self, text):
        end = time.monotonic() + PATIENCE
        while not any(text in line for line in self.story):
            assert time.monotonic() < end, "".join(self.story)
            time.sleep(0.05)

    def end(self, number=signal.SIGINT):
        self.process.send_signal(number)
        return self.code()

    def code(self):
        code = self.process.wait(PATIENCE)
        self.reader.join()
        return code

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(PATIENCE)
        self.reader.join()
        self.process.stdout.close()
        self.process.stderr.close()


@contextmanager
def serving(project, *arguments):
    serve = Serve(project, *arguments)
    try:
        yield serve
    finally:
        serve.close()


def refused(project, *arguments):
    with serving(project, *arguments) as serve:
        code = serve.code()
        assert serve.process.stdout.read() == ""
        return code, "".join(serve.story)


def predict(there):
    port, path = there["url"].removeprefix("http://127.0.0.1:").split("/", 1)
    with closing(HTTPConnection("127.0.0.1", int(port), timeout=30)) as connection:
        connection.request("POST", f"/{path}/infer", json.dumps(ROW))
        return json.load(connection.getresponse())


def servers_of(project):
    """Processes whose environment names a model below `project`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"MODEL_PATH={project}".encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def assert_nothing_left(project):
    assert servers_of(project) == []
    assert list((project.parent / "tmp").iterdir()) == []
    assert not (project / ".mlops" / "serve" / "carrier").exists()


def test_a_model_file_becomes_predictions_and_an_interrupt_is_a_normal_end(project):
    with serving(project, "iris.joblib", "--port", "0", "--output", "json") as serve:
        there = serve.ready()
        answer = predict(there)
        assert answer["outputs"][0]["data"] == [0]
        assert answer["model_version"] == there["content_id"][:12]
        assert there["model"] == "iris"
        assert Path(f"/proc/{there['pid']}").exists()
        assert serve.end() == 0
        assert serve.process.stdout.read() == ""
    assert any(line.startswith("copied iris") for line in serve.story)
    assert any("golden requests: not checked" in line for line in serve.story)
    assert_nothing_left(project)

    with serving(project, there["content_id"][:12], "--port", "0") as serve:
        assert serve.process.stdout.readline().startswith("http://127.0.0.1:")
        assert serve.end(signal.SIGTERM) == 0
    assert any(line.startswith("found iris") for line in serve.story)
    assert_nothing_left(project)


def test_the_configured_model_is_served_as_configured(project):
    (project / "hook.py").write_text(HOOK)
    moved = {"request": ROW, "expect": [{"name": "output-0", "data": [40]}]}
    configure(project, moved, server={"hook": "hook.py"}, env={"PREDICT_PROBA": "false"})
    with serving(project, "--port", "0", "--output", "json") as serve:
        assert predict(serve.ready())["outputs"][0]["data"] == [40]
    assert any("1 golden request" in line for line in serve.story)
    assert any(line.startswith("try: curl") and "/infer -d" in line for line in serve.story)


def test_two_at_once_in_one_project(project):
    with (
        serving(project, "iris.joblib", "--port", "0", "--output", "json") as one,
        serving(project, "iris.joblib", "--port", "0", "--output", "json") as other,
    ):
        first, second = one.ready(), other.ready()
        assert first["url"] != second["url"]
        assert predict(first)["outputs"] == predict(second)["outputs"]
    assert_nothing_left(project)


def test_a_busy_port_is_refused_before_anything_is_done(project):
    with serving(project, "iris.joblib", "--port", "0", "--output", "json") as serve:
        port = serve.ready()["url"].removeprefix("http://127.0.0.1:").split("/")[0]
        (project / "other").mkdir()
        code, story = refused(project / "other", "../iris.joblib", "--port", port)
    assert code == 2
    assert f"cannot listen on port {port}: address already in use" in story
    assert list((project / "other").iterdir()) == []


def test_a_wrong_answer_is_never_ready(project):
    configure(project, WRONG)
    started = time.monotonic()
    code, story = refused(project, "--port", "0")
    assert code == 4
    assert "not ready (golden): request 1: `output-0` [0] is 0, expected 2" in story
    assert time.monotonic() - started < PATIENCE  # the configured deadline, which it does not wait for
    assert_nothing_left(project)


def test_a_broken_model_is_never_ready_and_the_server_says_why(project):
    (project / "iris.joblib").write_bytes(b"\x80\x04not a pickle")
    code, story = refused(project, "iris.joblib", "--port", "0")
    assert code == 4
    assert "error: the server ended before it was ready: `iris.joblib`" in story
    assert story.count("error:") == 1
    # Once where its bytes were looked at, once where it could not be loaded.
    named = [line.partition(":")[0] for line in story.splitlines() if "iris.joblib" in line]
    assert named == ["warning", "error"]
    assert_nothing_left(project)


def test_a_deadline_that_passes_ends_the_server(project):
    (project / "slow.py").write_text(SLOW_HOOK)
    configure(project, ready={"deadline": "3s"})
    code, story = refused(project, "--port", "0", "--hook", "slow.py")
    assert code == 4
    assert "the server was not ready within 3 s" in story
    assert_nothing_left(project)


def test_an_interrupt_before_it_is_ready_is_an_interrupt(project):
    (project / "slow.py").write_text(SLOW_HOOK)
    with serving(project, "iris.joblib", "--port", "0", "--hook", "slow.py") as serve:
        serve.said("starting the server")
        assert serve.end() == 130
    assert_nothing_left(project)


def test_a_killed_serve_leaves_no_server(project):
    with serving(project, "iris.joblib", "--port", "0", "--output", "json") as serve:
        there = serve.ready()
        assert servers_of(project) == [str(there["pid"])]
        assert serve.end(signal.SIGKILL) == -signal.SIGKILL
        until(lambda: not servers_of(project), PATIENCE, "the server has ended")
    assert_nothing_left(project)


def test_what_is_neither_here_nor_in_the_store_is_refused(project):
    code, story = refused(project, "iris:1.0")
    assert code == 2
    assert "`iris:1.0` is neither a file or folder here nor a carrier in the store" in story
    assert refused(project)[0] == 2
    assert sorted(path.name for path in project.iterdir()) == ["iris.joblib"]


MAKE = """
import os, sys, time
from pathlib import Path
from mlops_deploy.adapters.process import LocalRunner
from mlops_deploy.api.server_env import Packages, find_or_make, server_cache
from mlops_deploy.cli.console import PlainStory
here = Path(sys.argv[1])
packages = Packages(requirements=here / "requirements.txt", constraints=here / "constraints.txt")

class Held(LocalRunner):
    def start(self, argv, **named):
        while "pip" in argv and not (here / "go").exists():
            time.sleep(0.02)
        return super().start(argv, **named)

print(find_or_make(packages, here / "cache", os.environ, Held(), PlainStory()))
"""
WAITING = "waiting: another process is making the server environment"


@pytest.fixture
def tiny_packages(tmp_path):
    """Requirements that need no index: one wheel, made here; installed once the file `go` is beside them."""
    wheel = tmp_path / "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny.py", "")
        archive.writestr("tiny-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n")
        archive.writestr("tiny-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny-1.dist-info/RECORD", "")
    (tmp_path / "requirements.txt").write_text(f"{wheel}\n")
    (tmp_path / "constraints.txt").write_text("")
    (tmp_path / "story").touch()
    return tmp_path


def making(folder):
    """A process that makes the environment; what it says is added to the file `story`."""
    with (folder / "story").open("ab") as story:
        return subprocess.Popen([sys.executable, "-c", MAKE, folder], text=True, stdout=subprocess.PIPE, stderr=story)


def test_two_at_once_make_the_environment_once(tiny_packages):
    story = tiny_packages / "story"
    both = [making(tiny_packages) for _ in range(2)]
    try:
        until(lambda: WAITING in story.read_text(), PATIENCE, "one of them waits for the other")
    finally:
        (tiny_packages / "go").touch()
    (one, _), (other, _) = (process.communicate(timeout=PATIENCE) for process in both)
    assert one == other
    assert story.read_text().count("this happens once") == 1
    assert story.read_text().count(WAITING) == 1
    subprocess.run([Path(one.strip()) / "python", "-c", "import tiny"], check=True)


def test_an_environment_whose_maker_was_killed_is_made_again(tiny_packages):
    with making(tiny_packages) as process:
        try:
            until(lambda: list(tiny_packages.glob("cache/*/pyvenv.cfg")), PATIENCE, "it has begun")
        finally:
            process.kill()
    (tiny_packages / "go").touch()
    out, _ = making(tiny_packages).communicate(timeout=PATIENCE)
    assert (tiny_packages / "story").read_text().count("this happens once") == 2
    subprocess.run([Path(out.strip()) / "python", "-c", "import tiny"], check=True)
