"""Who a process is: its number alone may be given to another one, its number with its start time is not."""

import os
import signal
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

_STATE: Final = 0
_STARTED: Final = 19
"""Places in /proc/PID/stat after the name; see proc(5)."""


def identify(pid: int) -> str | None:
    """The process as `PID.START.BOOT`, None when it has ended; one that nobody has waited for has ended, too.

    START is in clock ticks since BOOT, a part of the machine's boot id.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[_STATE] in {"Z", "X"} else f"{pid}.{fields[_STARTED]}.{_boot()}"


def alive(identity: str) -> bool:
    """Whether this very process runs."""
    pid = identity.partition(".")[0]
    return pid.isdigit() and identify(int(pid)) == identity


def of_this_boot(identity: str) -> bool:
    """Whether the process was started since the machine was."""
    return identity.endswith(f".{_boot()}")


def send(identity: str, number: signal.Signals) -> bool:
    """Send a signal to this very process; False when it has ended."""
    with suppress(ProcessLookupError, ValueError):
        handle = os.pidfd_open(int(identity.partition(".")[0]))
        try:
            if alive(identity):  # the handle names the process that was looked at, whatever becomes of the number
                signal.pidfd_send_signal(handle, number)
                return True
        finally:
            os.close(handle)
    return False


@cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
