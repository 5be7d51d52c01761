"""Programs on this machine: the only module that starts processes."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from mlops_deploy.errors import UnreachableError
from mlops_deploy.ports import LineSink


class OverdueError(UnreachableError):
    """A program did not end within its time; it has been ended, with its children."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a program left when it ended."""

    code: int
    out: str
    err: str


# Only the child itself can ask for a signal at its parent's death (prctl 1): this asks, then becomes the program.
_TIED: Final = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit(143)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as absent:
    sys.exit(f"`{sys.argv[2]}` cannot be run: {absent.strerror}")
"""
# What is to outlive us is not our child: whoever adopts it also waits for it. Who it is (see processes/identity.py) is
# noted by a process that does not die with us, so that it is never lost.
_DETACHED: Final = """
import os, sys
note, *argv = sys.argv[1:]
pid = os.fork()
if pid == 0:
    try:
        os.execv(argv[0], argv)
    except OSError as absent:
        os.write(2, f"`{argv[0]}` cannot be run: {absent.strerror}\\n".encode())
        os._exit(127)
started = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[19]
boot = open("/proc/sys/kernel/random/boot_id").read()[:8]
with open(note + ".new", "w") as file:
    file.write(f"{pid}.{started}.{boot}")
os.replace(note + ".new", note)
"""
_LAST: Final = 20
_DRAIN: Final = 5.0
"""Seconds in which the last output of a program that has ended is read; a grandchild may hold the pipe open."""


class LocalRunner:
    """Runs programs, each in a process group of its own, which an interrupt ends as a whole."""

    def run(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: Iterable[bytes | memoryview] | None = None,
        timeout: float | None = None,
        on_line: LineSink | None = None,
    ) -> Finished:
        """Run `argv`; see `ports.Runner`."""
        out: list[str] = []
        err: list[str] = []
        threads: list[threading.Thread] = []
        process = _start(argv, cwd=cwd, env=env, source=subprocess.PIPE if stdin is not None else subprocess.DEVNULL)
        try:
            for pipe, into, tell in ((process.stderr, err, on_line), (process.stdout, out, None)):
                thread = threading.Thread(target=_collect, args=(pipe, into, tell), daemon=True)
                thread.start()
                threads.append(thread)
            if stdin is not None and process.stdin is not None:
                _feed(process.stdin, stdin)
            code = process.wait(timeout)
        except subprocess.TimeoutExpired as late:
            raise OverdueError(f"`{argv[0]}` did not end within {timeout:g} s") from late
        finally:
            _end_group(process)
            for thread in threads:
                thread.join(_DRAIN)
        return Finished(code=code, out="".join(out), err="".join(err))

    def start(
        self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], on_line: LineSink, stdin: bytes = b""
    ) -> "LocalProcess":
        """Start `argv`; see `ports.Launcher`."""
        tied = (sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *argv)
        # A file, unlike a pipe, takes any amount at once.
        with tempfile.TemporaryFile() as source:
            source.write(stdin)
            source.seek(0)
            return LocalProcess(_start(tied, cwd=cwd, env=env, source=source, one_output=True), on_line)

    def converse(self, argv: Sequence[str], *, env: Mapping[str, str]) -> "Conversation":
        """Start `argv` with a socket as its standard input and output; it hears of our end by that."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = subprocess.Popen(  # noqa: S603 - argv is a tuple built by us, never a shell line
                    list(argv), env=dict(env), stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )  # fmt: skip
            except OSError as absent:
                ours.close()
                raise _cannot_be_run(argv[0], absent) from absent
        return Conversation(process, ours)

    def detach(self, argv: Sequence[str], *, env: Mapping[str, str], output: Path, note: Path) -> None:
        """Start `argv` in a session of its own, to go on after our end; the file `note` says who it is.

        All that it says is appended to the file `output`, also that it cannot be run; `argv[0]` is a path.
        """
        with output.open("ab") as file:
            started = subprocess.run(  # noqa: S603 - argv is a tuple built by us, never a shell line
                (sys.executable, "-I", "-S", "-c", _DETACHED, str(note), *argv),
                cwd="/",
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
                check=False,
            )
        if started.returncode != 0:
            raise UnreachableError(f"`{argv[0]}` cannot be started: see `{output}`")


class Conversation:
    """A program that is spoken with over `socket`."""

    def __init__(self, process: subprocess.Popen[bytes], ours: socket.socket) -> None:
        self._process = process
        self.socket: Final = ours

    def end(self) -> None:
        """Hang up, and kill what does not end by that within a second."""
        self.socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        _end_group(self._process, 0)


class LocalProcess:
    """A program beside us; see `ports.Running`."""

    def __init__(self, process: subprocess.Popen[bytes], on_line: LineSink) -> None:
        self._process = process
        self._lines: deque[str] = deque(maxlen=_LAST)
        self._reader = threading.Thread(target=self._read, args=(on_line,), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The last lines it wrote."""
        return tuple(self._lines)

    def wait(self, seconds: float | None) -> int | None:
        """See `ports.Running`."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        self._reader.join(1)  # a grandchild may hold the pipe open
        return code

    def end(self, grace: float) -> None:
        """See `ports.Running`."""
        _end_group(self._process, grace)
        self._reader.join(1)

    def _read(self, on_line: LineSink) -> None:
        sink: LineSink | None = on_line
        for line in _lines(self._process.stdout):
            self._lines.append(line.rstrip("\r\n"))
            try:
                if sink is not None:
                    sink(self._lines[-1])
            except OSError:
                sink = None  # nobody listens any more; a pipe that is not emptied would stop the program


def _start(
    argv: Sequence[str],
    *,
    cwd: Path | None,
    env: Mapping[str, str] | None,
    source: int | IO[bytes],
    one_output: bool = False,
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603 - argv is a tuple built by us, never a shell line
            list(argv),
            cwd=cwd,
            env=None if env is None else dict(env),
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if one_output else subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as absent:
        raise _cannot_be_run(argv[0], absent) from absent


def _cannot_be_run(program: str, absent: OSError) -> UnreachableError:
    return UnreachableError(
        f"`{program}` cannot be run: {absent.strerror}",
        hint=f"install it, or mend `PATH`: `command -v {program}` must find it",
    )


def _feed(pipe: IO[bytes], blocks: Iterable[bytes | memoryview]) -> None:
    # A program that ends early closes its pipe; its exit code says why, so the broken pipe itself says nothing.
    with contextlib.suppress(BrokenPipeError):
        for block in blocks:
            pipe.write(block)
    with contextlib.suppress(BrokenPipeError):
        pipe.close()


def _collect(pipe: IO[bytes] | None, into: list[str], on_line: LineSink | None) -> None:
    for line in _lines(pipe):
        into.append(line)
        if on_line is not None:
            on_line(line.rstrip("\r\n"))


def _lines(pipe: IO[bytes] | None) -> Iterator[str]:
    if pipe is not None:
        with pipe:
            for raw in pipe:
                yield raw.decode(errors="replace")


def _end_group(process: subprocess.Popen[bytes], grace: float = 5) -> None:
    """End the program with its children; one that has ended by itself may have left children on purpose."""
    if process.poll() is not None:
        return
    try:
        _signal_group(process, signal.SIGTERM)
        process.wait(grace)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        pass
    finally:
        # Also after a quiet end: its children may have outlived it.
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
