"""The router's first process: lays out the folders, starts HAProxy with the committed route, and ends with it."""

import ctypes
import fcntl
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from types import FrameType

from mlops_keeper import configuration, routes
from mlops_keeper.folder import Folder
from mlops_keeper.proxy import MASTER, Proxy, SilentError
from mlops_keeper.view import in_flight
from mlops_keeper.wrong import WrongError

GRACE = 30
"""Seconds that requests may take after the signal to end, where `ROUTER_GRACE` does not say otherwise."""

PATH_LIMIT = 80
"""Bytes of the folder for sockets: a socket's path has room for 107, and HAProxy binds it under a longer name first."""

CLUSTER = "ROUTER_VARIABLE"
"""Set where a cluster tells what the route is; see `following`."""

_AT_PARENTS_DEATH = 1  # prctl's PR_SET_PDEATHSIG
_AGAIN = 1.0
"""Seconds until one of the processes beside HAProxy is started again."""

_LOOK = 0.25
_QUIET_LOOKS = 4

Beside = Callable[[], None]


def init(state: str, run: str) -> int:
    """Run the router to its end; its exit code."""
    os.umask(0o077)
    signal.signal(signal.SIGTERM, _leave)
    try:
        folder = lay_out(state, run)
        beside = begin(folder, os.path.abspath(run))
        program = configuration.haproxy()
    except WrongError as wrong:
        return _say("\n".join((wrong.message, *wrong.lines)), 2)
    except OSError as error:
        return _say(f"`{error.filename}`: {(error.strerror or str(error)).lower()}", 2)
    alone = os.open(folder.path("router.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return _say(f"another router runs on `{state}`", 3)
    return _attend(_start(program, folder, run), {_beside(body): body for body in beside}, Proxy(run))


def lay_out(state: str, run: str) -> Folder:
    """Make what is missing of both folders."""
    if len(os.fsencode(run)) > PATH_LIMIT:
        raise WrongError("state", f"`{run}` is too long for a folder of sockets: at most {PATH_LIMIT} bytes")
    for place in (os.path.join(state, "keys"), os.path.join(state, "journals"), run):
        os.makedirs(place, exist_ok=True)
    if not os.access(run, os.W_OK):
        raise WrongError("state", f"`{run}` cannot be written by user {os.getuid()}")
    return Folder(os.path.abspath(state))


def begin(folder: Folder, run: str) -> tuple[Beside, ...]:
    """Make route, map and configuration what they are to start with; what is to be done beside HAProxy from then on."""
    beside: tuple[Beside, ...] = ()
    if os.environ.get(CLUSTER):
        from mlops_keeper import following  # noqa: PLC0415 - a router that no cluster runs needs none of it

        told = following.Source(os.environ)
        following.begin(told, folder, run)
        beside = following.steps(told, folder, run)
    with folder:
        if folder.read(routes.FILE) is None:
            routes.write(folder, routes.NEW)
        routes.write_map(folder, routes.map_value(routes.read(folder)))
        if not beside:
            configuration.adopt(folder, run, os.environ.get("ROUTER_CONFIG"))
    return beside


def _start(program: str, folder: Folder, run: str) -> int:
    parent, run = os.getpid(), os.path.abspath(run)
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()  # the terminal's Ctrl-C is ours, to be turned into a soft stop
        _end_with(parent, signal.SIGTERM)
        os.chdir(folder.root)
        master = f"{os.path.join(run, MASTER)},mode,600"
        arguments = (program, "-W", "-S", master, *configuration.files(folder))
        os.execve(program, arguments, configuration.environment(run))
    finally:
        os._exit(2)


def _beside(body: Beside, wait: float = 0.0) -> int:
    """Start a process that does `body` after `wait` seconds and ends with us."""
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        _end_with(parent, signal.SIGKILL)
        time.sleep(wait)
        body()
    except BaseException:  # noqa: BLE001 - a fault of ours ends this process alone
        traceback.print_exc()
    finally:
        os._exit(2)


def _end_with(parent: int, number: int) -> None:
    """Get the signal `number` when the process `parent` ends, also when that was long ago."""
    ctypes.CDLL(None).prctl(_AT_PARENTS_DEATH, number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(2)


def _attend(child: int, beside: dict[int, Beside], proxy: Proxy) -> int:
    """Turn our signals into HAProxy's own, and reap: the first process of a container inherits all orphans."""
    end = _End(child, proxy)
    signal.signal(signal.SIGTERM, end.begin)
    signal.signal(signal.SIGINT, end.begin)
    signal.signal(signal.SIGALRM, end.look)
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        body = beside.pop(pid, None)
        if body is not None:
            beside[_beside(body, _AGAIN)] = body


class _End:
    """A soft stop: HAProxy listens no more, and ends once there has been no request for a moment.

    Clients that only keep a connection open are not waited for: nobody can come in meanwhile.
    """

    def __init__(self, child: int, proxy: Proxy) -> None:
        self._child = child
        self._proxy = proxy
        self._quiet = 0
        self._until = 0.0

    def begin(self, _number: int, _frame: FrameType | None) -> None:
        """Stop listening."""
        self._tell(signal.SIGUSR1)
        self._until = self._until or time.monotonic() + int(os.environ.get("ROUTER_GRACE") or GRACE)
        signal.setitimer(signal.ITIMER_REAL, _LOOK, _LOOK)

    def look(self, _number: int, _frame: FrameType | None) -> None:
        """End it when it is time."""
        try:
            self._quiet = 0 if in_flight(self._proxy) else self._quiet + 1
        except SilentError:
            self._quiet = 0
        if self._quiet >= _QUIET_LOOKS or time.monotonic() >= self._until:
            self._tell(signal.SIGTERM)

    def _tell(self, number: int) -> None:
        try:
            os.kill(self._child, number)
        except ProcessLookupError:  # it has ended, and we are about to
            pass


def _leave(number: int, _frame: FrameType | None) -> None:
    """End while there is nothing to end softly: the first process of a container is deaf to signals otherwise."""
    os._exit(128 + number)


def _say(message: str, code: int) -> int:
    sys.stderr.write(f"router: {message}\n")
    return code
