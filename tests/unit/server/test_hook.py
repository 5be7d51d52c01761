import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlops_server.hook import Hook, HookError, load_hook


def hook(tmp_path, text, name="hook.py"):
    path = tmp_path / name
    path.write_text(text)
    return load_hook(str(path))


def refusal(tmp_path, text, name="hook.py"):
    with pytest.raises(HookError) as caught:
        hook(tmp_path, text, name)
    assert caught.value.exit_code == 78
    return str(caught.value)


@pytest.mark.parametrize("path", [None, ""])
def test_no_file_no_steps(path):
    assert load_hook(path) == Hook()


def test_the_steps_that_are_defined_are_taken(tmp_path):
    steps = hook(tmp_path, "def predict(model, inputs):\n    return [model, inputs]\n")
    assert steps.steps == ["predict"]
    assert steps.predict(1, 2) == [1, 2]


def test_a_file_without_steps(tmp_path):
    assert "defines none of" in refusal(tmp_path, "def preproces(r, h): pass")


def test_a_file_that_fails(tmp_path):
    assert "ModuleNotFoundError" in refusal(tmp_path, "import there_is_no_such_module")
    assert "SyntaxError" in refusal(tmp_path, "def predict(:")


def test_a_missing_file_and_one_that_is_not_python(tmp_path):
    with pytest.raises(HookError, match="FileNotFoundError"):
        load_hook(str(tmp_path / "none.py"))
    assert "`.py`" in refusal(tmp_path, "x", name="hook.txt")


@pytest.mark.parametrize("text", ["predict = 5", "async def predict(m, i): pass"])
def test_a_step_must_be_a_plain_function(tmp_path, text):
    assert "plain function" in refusal(tmp_path, text)


@pytest.mark.parametrize("text", ["def predict(model): pass", "def postprocess(a, b, c): pass"])
def test_a_step_must_take_two_arguments(tmp_path, text):
    assert "2 arguments" in refusal(tmp_path, text)


def test_a_file_that_ends_the_program_is_refused(tmp_path):
    assert "SystemExit: 3" in refusal(tmp_path, "import sys; sys.exit(3)")


def test_a_step_that_ends_the_program_fails_its_request_alone(tmp_path):
    steps = hook(tmp_path, "def predict(model, inputs):\n    exit(3)\n")
    with pytest.raises(RuntimeError, match="`predict` of the hook called `exit`"):
        steps.predict(1, 2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_file_runs_is_no_fault_of_it(tmp_path, number):
    (tmp_path / "hook.py").write_text(f"import os; os.kill(os.getpid(), {int(number)})\ndef predict(m, i): pass\n")
    code = "import sys; from mlops_server.ending import *; from mlops_server.hook import *; end_on_signals()\n"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "images" / "server")}
    command = [sys.executable, "-c", f"{code}load_hook(sys.argv[1]); sys.exit(5)", str(tmp_path / "hook.py")]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
