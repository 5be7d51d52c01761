"""The clock of a release: waits that a signal ends, and a second signal that ends the process."""

import os
import signal
import subprocess
import sys
import time

import pytest

from mlops_deploy.adapters.clock import SystemClock

SCRIPT = """
import os, signal, sys, time
from mlops_deploy.adapters import clock as module
from mlops_deploy.adapters.clock import SystemClock
module._ONE_ASK = float(os.environ.get("ONE_ASK", module._ONE_ASK))

clock = SystemClock(" -e prod")
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.default_int_handler)
with clock.listening():
    for pause in map(float, sys.argv[2:]):
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
        time.sleep(pause)
    print(clock.pause(60))
"""


def asked(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | environ,
    )


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_wait_and_is_named(name: str) -> None:
    done = asked(name, "0")
    assert (done.returncode, done.stdout) == (0, f"{name}\n")


def test_two_at_once_are_one_request() -> None:
    done = asked("SIGTERM", "0.05", "0", ONE_ASK="20")  # no pause of the machine is longer
    assert (done.returncode, done.stdout, done.stderr) == (0, "SIGTERM\n", "")


def test_a_second_one_later_ends_it_at_once() -> None:
    done = asked("SIGINT", "0.5", "0.5")
    assert done.returncode in {130, -signal.SIGINT}
    assert "interrupted again" in done.stderr
    assert "hint: `mlops-deploy resume -e prod` goes on, `mlops-deploy abort -e prod` turns back" in done.stderr


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="this system has no clock that goes on in sleep")
def test_the_clock_goes_on_while_the_machine_sleeps(monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    assert abs(SystemClock().elapsed() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 10.0
