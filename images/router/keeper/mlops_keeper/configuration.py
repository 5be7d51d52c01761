"""The proxy's configuration: checked, written, taken over without losing a connection."""

import hashlib
import os
import re
import shutil
import socket
import subprocess
import time

from mlops_keeper.addresses import FILES as ADDRESSES
from mlops_keeper.folder import Folder
from mlops_keeper.proxy import Proxy, SilentError, value_of
from mlops_keeper.wrong import WrongError

FILE = "haproxy.cfg"
GIVEN = "haproxy.given"
ENTRY = "ROUTER_ADDRESS"
TAKEOVER = 4.0
"""Seconds in which a new worker must answer."""

_PAUSE = 0.005
_BIND = re.compile(r"^\s*bind (\S+):(\d+)$", re.MULTILINE)
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
    before, running = folder.read(FILE), _worker(proxy)
    if before == text.encode() and running is not None and running[1] == mark:
        return False
    _check(folder, proxy.run, text)
    _require_addresses(text, (before or b"").decode())
    folder.write(FILE, text.encode())
    if running is None or _reload(proxy, running[0], mark):
        return True
    if before is not None:
        folder.write(FILE, before)
        _reload(proxy, running[0], running[1])
    raise WrongError("config", "HAProxy did not take the configuration over; the one before is in force again")


def take_over(folder: Folder, proxy: Proxy, given: str) -> bool:
    """While HAProxy runs, under the lock: `given` as `adopt` takes it, by a reload; whether it is in force by that."""
    mark = stamped(given)[1]
    if folder.read(GIVEN) == mark.encode():
        return False
    changed = configure(folder, proxy, given)
    folder.write(GIVEN, mark.encode())
    return changed


def _require_addresses(text: str, before: str) -> None:
    """Refuse an address that another program listens at: HAProxy would notice it with its own listeners paused."""
    for host, port in set(_BIND.findall(text)) - set(_BIND.findall(before)):
        _require_address(host, port)


def await_address(address: str, seconds: float) -> bool:
    """Wait at most `seconds` until `address` (`HOST:PORT`) is free: the router before this one may still have it.

    Whether there was anything to wait for.
    """
    until, waited = time.monotonic() + seconds, False
    while True:
        try:
            _require_address(*address.rsplit(":", 1))
        except WrongError:
            if time.monotonic() > until:
                raise
            waited = True
            time.sleep(_PAUSE)
        else:
            return waited


def _require_address(host: str, port: str) -> None:
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(kind) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("" if host == "*" else host.strip("[]"), int(port)))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise WrongError("config", f"HAProxy cannot listen at {host}:{port}: {reason}") from error


def _check(folder: Folder, run: str, text: str) -> None:
    name = f".{FILE}.checked"
    folder.write(name, text.encode(), durable=False)
    try:
        done = subprocess.run(
            (haproxy(), "-c", *files(folder, name)),
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


def files(folder: Folder, name: str = FILE) -> list[str]:
    """The arguments by which HAProxy reads `name`, and before it where the slots are, if a cluster tells that."""
    return [part for file in (*ADDRESSES, name) if file == name or folder.read(file) for part in ("-f", file)]


def environment(run: str) -> dict[str, str]:
    """What HAProxy sees: the configuration names its sockets by `RUN`; `RUN_ID` tells its own runs apart.

    In a cluster the address to listen at is one that only the node knows.
    """
    path = os.environ.get("PATH", os.defpath)
    given = {ENTRY: os.environ[ENTRY]} if ENTRY in os.environ else {}
    return {"PATH": path, "RUN": run, "RUN_ID": f"{time.clock_gettime_ns(time.CLOCK_BOOTTIME):x}", **given}


def _worker(proxy: Proxy) -> tuple[str, str] | None:
    """Process number and mark of the worker that answers; None when none does."""
    try:
        info, said = proxy.tell("show info", "get var proc.config")
    except SilentError:
        return None
    return next((line for line in info.splitlines() if line.startswith("Pid: ")), ""), value_of(said)


def _reload(proxy: Proxy, old: str, mark: str) -> bool:
    """Replace the worker `old`; whether a new one answers with `mark` in time, and its master again too."""
    until = time.monotonic() + TAKEOVER
    while not _told(proxy, "reload"):
        if time.monotonic() > until:
            return False
        time.sleep(_PAUSE)
    while time.monotonic() < until:
        running = _worker(proxy)
        if running is not None and running[0] != old and running[1] == mark and _told(proxy, "show proc", "# workers"):
            return True
        time.sleep(_PAUSE)
    return False


def _told(proxy: Proxy, command: str, expected: str = "") -> bool:
    try:
        return expected in proxy.tell_master(command)
    except SilentError:
        return False
