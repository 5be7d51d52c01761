"""The router's first process: lays out the folders, starts HAProxy with the committed route, and ends with it."""

import ctypes
import fcntl
import os
import signal
import sys
from types import FrameType

from mlops_keeper import configuration, routes
from mlops_keeper.folder import Folder
from mlops_keeper.proxy import MASTER
from mlops_keeper.wrong import WrongError

GRACE = 30
"""Seconds that requests may take after the signal to end."""

PATH_LIMIT = 80
"""Bytes of the folder for sockets: a socket's path has room for 107, and HAProxy binds it under a longer name first."""

_AT_PARENTS_DEATH = 1  # prctl's PR_SET_PDEATHSIG


def init(state: str, run: str) -> int:
    """Run the router to its end; its exit code."""
    os.umask(0o077)
    try:
        folder = prepare(state, run)
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
    return _attend(_start(program, folder, run))


def prepare(state: str, run: str) -> Folder:
    """Make what is missing in both folders, and the map say what is committed."""
    if len(os.fsencode(run)) > PATH_LIMIT:
        raise WrongError("state", f"`{run}` is too long for a folder of sockets: at most {PATH_LIMIT} bytes")
    for place in (os.path.join(state, "keys"), os.path.join(state, "journals"), run):
        os.makedirs(place, exist_ok=True)
    if not os.access(run, os.W_OK):
        raise WrongError("state", f"`{run}` cannot be written by user {os.getuid()}")
    folder = Folder(os.path.abspath(state))
    with folder:
        if folder.read(routes.FILE) is None:
            routes.write(folder, routes.NEW)
        routes.write_map(folder, routes.map_value(routes.read(folder)))
        configuration.adopt(folder, os.path.abspath(run), os.environ.get("ROUTER_CONFIG"))
    return folder


def _start(program: str, folder: Folder, run: str) -> int:
    parent, run = os.getpid(), os.path.abspath(run)
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()  # the terminal's Ctrl-C is ours, to be turned into a soft stop
        ctypes.CDLL(None).prctl(_AT_PARENTS_DEATH, signal.SIGTERM, 0, 0, 0)
        if os.getppid() == parent:
            os.chdir(folder.root)
            master = f"{os.path.join(run, MASTER)},mode,600"
            arguments = (program, "-W", "-S", master, "-f", configuration.FILE)
            os.execve(program, arguments, configuration.environment(run))
    finally:
        os._exit(2)


def _attend(child: int) -> int:
    """Turn our signals into HAProxy's own, and reap: the first process of a container inherits all orphans."""

    def soft(_number: int, _frame: FrameType | None) -> None:
        os.kill(child, signal.SIGUSR1)
        signal.alarm(GRACE)

    def hard(_number: int, _frame: FrameType | None) -> None:
        os.kill(child, signal.SIGTERM)

    signal.signal(signal.SIGTERM, soft)
    signal.signal(signal.SIGINT, soft)
    signal.signal(signal.SIGALRM, hard)
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _say(message: str, code: int) -> int:
    sys.stderr.write(f"router: {message}\n")
    return code
