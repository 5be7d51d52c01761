"""Serving with real processes: a small v2 server of the standard library, checked by the real readiness check."""

import json
import os
import signal
import socket
import sys
import time
from contextlib import closing
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

import pytest

from mlops_deploy.adapters.process import LocalRunner
from mlops_deploy.api import serve as api
from mlops_deploy.api.server_inputs import known_preset
from mlops_deploy.errors import DeployError, NeverReadyError, UnusableInputError
from mlops_deploy.resources import IMAGES
from mlops_deploy.spec.deploy import GoldenRequest
from mlops_deploy.spec.preset import Ports, Preset, Readiness
from mlops_deploy.spec.refs import ContentId
from tests.fakes.ports import free_port

TINY = Path(__file__).parents[2] / "fakes" / "tiny_v2" / "server.py"
CONTENT = ContentId("ab" * 32)
REQUEST = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}]}
RIGHT = GoldenRequest(request=REQUEST, expect=({"name": "predict", "data": [8.0]},))
WRONG = GoldenRequest(request=REQUEST, expect=({"name": "predict", "data": [9.0]},))


def preset(*command):
    check = (sys.executable, "-m", "mlops_server.ready")
    return Preset(
        name="tiny", doc="", ports=Ports(http=8080), ready=Readiness(path="/", command=check), build="server",
        command=command or (sys.executable, str(TINY)),
    )  # fmt: skip


@pytest.fixture(autouse=True)
def short_grace(monkeypatch):
    monkeypatch.setattr(api, "GRACE", 1.0)  # the small server does not end while it loads


@pytest.fixture
def served(tmp_path):
    path = tmp_path / "v" / CONTENT.hex
    path.mkdir(parents=True)
    (path / "model.json").write_text('{"weights": [1, 3], "bias": 1}')
    return api.Served(model="tiny", content_id=CONTENT, path=path, port=free_port(), deadline=30, golden=(RIGHT,))


def serving(served, preset, runner=None):
    env = api.environment(served, preset, served.path.parent / "bin", os.environ)
    return api.Serving(served=served, preset=preset, env=env, launcher=LocalRunner(), runner=runner or LocalRunner())


class Watcher:
    """Hears the log, asks the server when it is ready, then does what it is told to."""

    def __init__(self, then=lambda: signal.raise_signal(signal.SIGINT)):
        self.lines, self.then, self.pid, self.verdict, self.answer = [], then, None, None, None

    def log(self, line):
        self.lines.append(line)

    def ready(self, process, verdict):
        self.pid, self.verdict = process.pid, verdict
        self.then()


def post(port, path, body):
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("POST", path, body)
        return json.load(connection.getresponse())


def gone(pid):
    return not Path(f"/proc/{pid}").exists()


def pids_of(text):
    return [path.parent.name for path in Path("/proc").glob("[0-9]*/environ") if text in read(path)]


def read(path):
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


def test_it_is_ready_when_this_very_model_answers_and_an_interrupt_is_its_normal_end(served):
    watcher = Watcher()

    def ask_then_interrupt():
        body = json.dumps(REQUEST).encode()
        watcher.answer = post(served.port, "/v2/models/tiny/infer", body)
        signal.raise_signal(signal.SIGINT)

    watcher.then = ask_then_interrupt
    serving(served, preset()).run(watcher.log, watcher.ready)
    assert watcher.verdict == "ready: tiny@abababababab, 1 golden request"
    assert watcher.answer["outputs"][0]["data"] == [8.0]
    assert watcher.answer["model_version"] == CONTENT.short
    assert gone(watcher.pid)
    assert watcher.lines[-1].startswith("ending")


def test_a_wrong_golden_answer_is_final_long_before_the_deadline(served):
    started = time.monotonic()
    with pytest.raises(NeverReadyError, match=r"not ready \(golden\): request 1: .*is 8\.0, expected 9\.0") as refused:
        serving(replace(served, golden=(WRONG,)), preset()).run(print, Watcher().ready)
    assert time.monotonic() - started < served.deadline / 2
    assert refused.value.exit_code == 4
    assert "ready.golden" in refused.value.hint
    assert not pids_of(str(served.path))


def test_a_server_that_ends_before_it_is_ready_fails_at_once_with_its_words(served):
    (served.path / "model.json").write_text("not json")
    watcher = Watcher()
    with pytest.raises(NeverReadyError, match="ended before it was ready: the model cannot be loaded") as refused:
        serving(served, preset()).run(watcher.log, watcher.ready)
    assert refused.value.hint
    assert not [line for line in (*watcher.lines, *refused.value.detail) if "cannot be loaded" in line], "said once"


def test_a_server_that_says_no_error_ends_with_its_exit_code_and_last_words(served):
    silent = preset(sys.executable, "-c", "print('half a word'); raise SystemExit(9)")
    watcher = Watcher()
    with pytest.raises(NeverReadyError, match="ended before it was ready: exit code 9") as refused:
        serving(served, silent).run(watcher.log, watcher.ready)
    assert refused.value.detail == ("half a word",)
    assert watcher.lines == []


def test_what_a_server_says_before_it_is_ready_comes_first_when_it_is(served):
    code = f"import runpy; print('before', flush=True); runpy.run_path({str(TINY)!r}, run_name='__main__')"
    watcher = Watcher()
    serving(served, preset(sys.executable, "-c", code)).run(watcher.log, watcher.ready)
    assert watcher.lines[0] == "before"


def test_a_server_that_loads_for_too_long_is_ended_at_the_deadline(served):
    slow = replace(served, deadline=6, env={"LOAD_SECONDS": "60"})
    with pytest.raises(NeverReadyError, match=r"not ready within 6 s: not ready \((endpoint|process)\)") as refused:
        serving(slow, preset()).run(Watcher().log, Watcher().ready)
    assert "ready.deadline" in refused.value.hint
    assert not pids_of(str(served.path))


def test_a_check_that_hangs_does_not_outlast_the_deadline(served):
    hanging = preset()
    hanging = replace(
        hanging, ready=replace(hanging.ready, command=(sys.executable, "-c", "import time; time.sleep(60)"))
    )
    started = time.monotonic()
    with pytest.raises(NeverReadyError, match="the check did not end"):
        serving(replace(served, deadline=1.5), hanging).run(Watcher().log, Watcher().ready)
    assert time.monotonic() - started < 40


def test_an_interrupt_before_it_is_ready_is_an_interrupt_and_leaves_no_server(served):
    class Interrupting(LocalRunner):
        def run(self, argv, **how):
            signal.raise_signal(signal.SIGINT)
            return super().run(argv, **how)

    with pytest.raises(KeyboardInterrupt):
        serving(replace(served, env={"LOAD_SECONDS": "60"}), preset(), Interrupting()).run(print, Watcher().ready)
    assert not pids_of(str(served.path))


def test_a_server_that_dies_later_is_an_error_that_says_how(served):
    watcher = Watcher()
    watcher.then = lambda: os.kill(watcher.pid, signal.SIGKILL)
    with pytest.raises(DeployError, match="ended by itself: killed by SIGKILL"):
        serving(served, preset()).run(watcher.log, watcher.ready)


def test_a_server_that_somebody_else_ends_well_is_no_error(served):
    watcher = Watcher()
    watcher.then = lambda: os.kill(watcher.pid, signal.SIGTERM)
    serving(served, preset()).run(watcher.log, watcher.ready)
    assert gone(watcher.pid)


def test_a_reader_that_has_gone_ends_the_server(served):
    watcher = Watcher()

    def nobody_reads():
        raise BrokenPipeError

    watcher.then = nobody_reads
    with pytest.raises(BrokenPipeError):
        serving(served, preset()).run(watcher.log, watcher.ready)
    assert gone(watcher.pid)


@pytest.mark.parametrize("address", ["127.0.0.1", ""])
def test_a_port_in_use_is_refused_with_a_way_out(address):
    with socket.create_server((address, 0)) as other, pytest.raises(UnusableInputError, match="in use") as refused:
        api.choose_port(other.getsockname()[1])
    assert refused.value.hint == "`--port 0` takes a free one"


def test_a_port_that_was_in_use_a_moment_ago_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            accepted.close()  # this side waits in TIME_WAIT
            client.recv(1)
    assert api.choose_port(port) == port


def test_the_server_sees_what_its_container_would_see_and_nothing_of_the_users_shell(served, tmp_path):
    shell = {"PATH": "/usr/bin", "HOME": "/home/me", "MODEL": "other", "HOOK": "/x.py", "PYTHONHOME": "/y", "PORT": "1"}
    hooked = replace(served, hook=Path("hook.py"), env={"PREDICT_PROBA": "true"})
    env = api.environment(hooked, replace(preset(), env={"FROM_PRESET": "1"}), tmp_path / "bin", shell)
    assert env == {
        "HOME": "/home/me",
        "HOST": "127.0.0.1",
        "FROM_PRESET": "1",
        "PREDICT_PROBA": "true",
        "MODEL_NAME": "tiny",
        "MODEL_ID": CONTENT.hex,
        "MODEL_PATH": str(served.path),
        "PORT": str(served.port),
        "GRPC_PORT": "0",
        "PATH": f"{tmp_path}/bin:/usr/bin",
        "PYTHONPATH": str(IMAGES / "server"),
        "PYTHONPYCACHEPREFIX": f"{tmp_path}/pycache",
        "PYTHONUNBUFFERED": "1",
        "HOOK": str(Path("hook.py").absolute()),
        "GOLDEN": json.dumps([{"expect": [{"data": [8.0], "name": "predict"}], "request": REQUEST, "tolerance": 0.0}],
                             sort_keys=True, separators=(",", ":")),
    }  # fmt: skip


def test_golden_requests_that_no_environment_can_hold_are_refused(served, tmp_path):
    long = replace(RIGHT, expect=({"name": "predict", "data": [1.5] * 40_000},))
    with pytest.raises(UnusableInputError, match="`GOLDEN` is too long") as refused:
        api.environment(replace(served, golden=(long,)), preset(), tmp_path, {})
    assert "fewer or smaller golden requests" in refused.value.hint


def test_the_shipped_preset_can_be_served_and_one_that_is_only_an_image_cannot():
    api.check_preset(known_preset("kserve-sklearn"))
    image = replace(preset(), build=None, image="server:1")
    with pytest.raises(UnusableInputError, match="needs a container engine"):
        api.check_preset(image)
