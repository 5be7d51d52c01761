"""Closed streams, full disks, colours and Ctrl-C, as a user meets them: real processes and real file descriptors."""

import os
import pty
import subprocess
import sys
from hashlib import sha256

import pytest

CONFIGURATION = '{"service": "digits", "model": {"path": "model.bin"}}'
GUARDED = """
import signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            signal.raise_signal(signal.{name})
sys.meta_path.insert(0, Interrupt())
sys.argv = ["mlops-deploy", *{arguments}]
from mlops_deploy.__main__ import main
main()
"""


def shell(line, folder, **environment):
    command = f"{sys.executable} -m mlops_deploy {line}"
    env = {**os.environ, **environment}
    return subprocess.run(
        ["sh", "-c", command], cwd=folder, capture_output=True, text=True, timeout=60, check=False, env=env
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mlops.yml").write_text(CONFIGURATION)
    (tmp_path / "model.bin").write_bytes(b"weights")
    return tmp_path


@pytest.mark.parametrize("command", ["--help", "--version", "docs port", "docs --schema", "docs --example", "check"])
@pytest.mark.parametrize(("where", "why"), [(">/dev/full", "no space left on device"), (">&-", "it is closed")])
def test_a_result_that_cannot_be_written_is_one_clear_error(folder, command, where, why):
    done = shell(f"{command} {where}", folder)
    assert done.returncode == 1
    assert f"error: the result cannot be written to stdout: {why}\nhint: " in done.stderr
    assert done.stderr.count("error:") == 1
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full", "<&-"])
@pytest.mark.parametrize(("command", "code"), [("docs port", 0), ("check", 0), ("docs prt", 2), ("no-such", 2)])
def test_a_story_that_nobody_hears_changes_nothing(folder, command, code, where):
    done = shell(f"{command} {where}", folder)
    assert done.returncode == code
    assert done.stdout == shell(command, folder).stdout


@pytest.mark.parametrize(("where", "code"), [("2>&-", 0), (">&-", 1), ("<&- >&- 2>&-", 1)])
def test_no_file_gets_the_number_of_a_closed_stream(folder, where, code):
    assert shell(f"build-model --store out {where}", folder).returncode == code
    blobs = [path for path in (folder / "out").rglob("sha256/*") if path.is_file()]
    assert blobs
    assert [path.name for path in blobs] == [sha256(path.read_bytes()).hexdigest() for path in blobs]


@pytest.mark.parametrize("settings", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {}], ids=str)
def test_colours_are_for_terminals_that_want_them(folder, settings):
    code, shown = on_a_terminal(["docs", "prt"], folder, {"NO_COLOR": "", "TERM": "xterm", **settings})
    assert code == 2
    assert "there is no section `prt`" in shown
    assert ("\x1b[" in shown) == (not settings)


def on_a_terminal(arguments, folder, settings):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "mlops_deploy", *arguments],
        cwd=folder, env={**os.environ, **settings}, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        while block := os.read(ours, 4096):
            shown += block
    except OSError:
        pass  # what Linux says at the end of a terminal
    os.close(ours)
    return process.wait(60), shown.decode()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("module", ["mlops_deploy.cli", "click", "mlops_deploy.cli.docs", "mlops_deploy.config.keys"])
def test_an_interrupt_while_modules_are_loaded_is_an_interrupt(name, module):
    run = GUARDED.format(module=module, name=name, arguments=["docs", "port"])
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.lstrip("\n") == "error: interrupted; nothing half-written was left\n"


def test_a_ctrl_c_that_the_parent_ignores_stays_ignored():
    run = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)" + GUARDED.format(
        module="mlops_deploy.config.keys", name="SIGINT", arguments=["docs", "port"]
    )
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", ["check", "render", "docs port", "build-model x", "build-server", "serve"])
def test_a_folder_that_has_been_removed_is_one_clear_error(tmp_path, command):
    gone = tmp_path / "gone"
    gone.mkdir()
    line = f"cd {gone} && rmdir {gone} && exec {sys.executable} -P -m mlops_deploy {command}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: the working folder has been removed\nhint: `cd` to one that is there\n"
