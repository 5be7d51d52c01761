"""Programs on this machine: ended in time, with their children, and out of reach of the terminal's Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlops_deploy.adapters import process
from mlops_deploy.adapters.process import LocalRunner
from mlops_deploy.errors import UnreachableError

# Starts a child that ignores what it can, writes the child's id, and waits.
FAMILY = "(trap '' TERM; exec sleep 60) & echo $! > {file}; wait"


def running(pid):
    """Whether the process is there and no zombie, which an absent init would leave."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def await_text(file):
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if file.exists() and (text := file.read_text()).endswith("\n"):
            return text.strip()
        time.sleep(0.02)
    raise AssertionError(f"{file} was not written")


def await_end(pid):
    """Until the process has ended: one that was killed may need a moment for that."""
    until = time.monotonic() + 20
    while running(pid):
        assert time.monotonic() < until
        time.sleep(0.02)


def await_waiting(pid):
    """Until the process waits for its child, whose output two threads read: an interrupt is one of that wait then."""
    until = time.monotonic() + 20
    while not waits(Path("/proc", str(pid))):
        assert time.monotonic() < until
        time.sleep(0.02)


def waits(process):
    where = (process / "wchan").read_text()  # nothing where a kernel does not say
    sleeps = (process / "stat").read_text().rpartition(")")[2].split()[0] == "S"
    return sleeps and where in {"do_wait", "0", ""} and len(list((process / "task").iterdir())) == 3


def test_output_and_exit_code_come_back():
    done = LocalRunner().run(("sh", "-c", "echo out; echo err >&2; exit 3"))
    assert (done.code, done.out, done.err) == (3, "out\n", "err\n")


def test_a_program_that_is_too_slow_is_ended_with_its_children(tmp_path):
    file = tmp_path / "child"
    with pytest.raises(UnreachableError, match=r"`sh` did not end within 3 s"):
        LocalRunner().run(("sh", "-c", FAMILY.format(file=file)), timeout=3)
    await_end(await_text(file))


def test_a_child_that_outlives_its_program_does_not_hold_us(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "_DRAIN", 0.3)
    file = tmp_path / "child"
    started = time.monotonic()
    assert LocalRunner().run(("sh", "-c", f"sleep 60 & echo $! > {file}")).code == 0
    took = time.monotonic() - started
    os.kill(int(await_text(file)), signal.SIGKILL)
    assert took < 30


def test_a_ctrl_c_at_the_terminal_reaches_a_program_through_us_alone(tmp_path):
    """A terminal sends SIGINT to its whole foreground group: the program is not in it, and gets one SIGTERM from us."""
    notes, ready = tmp_path / "notes", tmp_path / "ready"
    noting = f"trap 'echo INT >> {notes}' INT; trap 'echo TERM >> {notes}; exit' TERM; echo > {ready}; "
    script = noting + "while :; do sleep 0.05; done"
    # Whoever runs the tests in the background may have SIGINT ignored.
    hearing = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    running = f"from mlops_deploy.adapters.process import LocalRunner; LocalRunner().run(('sh', '-c', {script!r}))"
    command = subprocess.Popen([sys.executable, "-c", hearing + running], stderr=subprocess.DEVNULL, process_group=0)
    try:
        await_text(ready)
        await_waiting(command.pid)
        os.killpg(command.pid, signal.SIGINT)
        command.wait(20)
    finally:
        command.kill()
        command.wait()
    assert notes.read_text() == "TERM\n"
