"""The proxy's configuration: checked, written, taken over without losing a connection."""

import hashlib
import os
import shutil
import subprocess
import time

from mlops_keeper.folder import Folder
from mlops_keeper.proxy import Proxy, SilentError, value_of
from mlops_keeper.wrong import WrongError

FILE = "haproxy.cfg"
GIVEN = "haproxy.given"
TAKEOVER = 4.0
"""Seconds in which a new worker must answer."""

_PLACES = "/usr/local/sbin:/usr/sbin:/sbin"


def haproxy() -> str:
    """The program; raise `WrongError` when this machine has none."""
    found = shutil.which("haproxy", path=f"{os.environ.get('PATH', os.defpath)}:{_PLACES}")
    if found is None:
        raise WrongError("state", "there is no `haproxy` on this machine")
    return found


def stamped(config: str) -> tuple[str, str]:
    """The text with a last section by which the running process tells what it was started with; and that mark."""
    mark = hashlib.sha256(config.encode()).hexdigest()[:16]
    return f"{config.rstrip()}\n\nglobal\n    set-var proc.config str({mark})\n", mark


def adopt(folder: Folder, run: str, given: str | None) -> None:
    """Before the start, under the lock: the configuration that was given, unless it was so at an earlier start.

    What `configure` has put in force since then outlives restarts that bring the old one again.
    """
    if not given:
        if folder.read(FILE) is None:
            raise WrongError("state", "there is no configuration: set `ROUTER_CONFIG`")
        return
    text, mark = stamped(given)
    if folder.read(GIVEN) == mark.encode() and folder.read(FILE) is not None:
        return
    _check(folder, run, text)
    folder.write(FILE, text.encode())
    folder.write(GIVEN, mark.encode())


def configure(folder: Folder, proxy: Proxy, config: str) -> bool:
    """Put `config` in force, under the lock that the caller has; False when it is already."""
    text, mark = stamped(config)
    before = folder.read(FILE)
    if before == text.encode() and _in_force(proxy) == mark:
        return False
    _check(folder, proxy.run, text)
    folder.write(FILE, text.encode())
    if _reload(proxy, mark):
        return True
    if before is not None:
        folder.write(FILE, before)
        _reload(proxy, None)
    raise WrongError("config", "HAProxy did not take the configuration over; the one before is in force again")


def _check(folder: Folder, run: str, text: str) -> None:
    name = f".{FILE}.checked"
    folder.write(name, text.encode(), durable=False)
    try:
        done = subprocess.run(
            (haproxy(), "-c", "-f", name),
            cwd=folder.root, env=environment(run), capture_output=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WrongError("state", f"HAProxy cannot check the configuration: {error}") from error
    finally:
        os.unlink(folder.path(name))
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").replace(f"{name}:", "line ").splitlines()
        raise WrongError(
            "config", "HAProxy refuses the configuration", tuple(line for line in lines if "[ALERT]" in line)
        )


def environment(run: str) -> dict[str, str]:
    """What HAProxy sees: the configuration names its sockets by `RUN`; `RUN_ID` tells its own runs apart."""
    path = os.environ.get("PATH", os.defpath)
    return {"PATH": path, "RUN": run, "RUN_ID": f"{time.clock_gettime_ns(time.CLOCK_BOOTTIME):x}"}


def _in_force(proxy: Proxy) -> str | None:
    try:
        return value_of(proxy.tell("get var proc.config")[0])
    except SilentError:
        return None


def _reload(proxy: Proxy, mark: str | None) -> bool:
    """Replace the worker; whether the new one answers with `mark`. One that does not run reads it when it starts."""
    try:
        proxy.tell_master("reload")
    except SilentError:
        return _in_force(proxy) is None
    until = time.monotonic() + TAKEOVER
    while mark is not None and _in_force(proxy) != mark:
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True
