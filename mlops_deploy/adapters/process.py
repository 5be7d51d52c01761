"""Programs on this machine: the only module that starts processes."""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mlops_deploy.errors import UnreachableError
from mlops_deploy.ports import LineSink


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a program left when it ended."""

    code: int
    out: str
    err: str


class LocalRunner:
    """Runs programs to their end, each in a process group of its own, which an interrupt ends as a whole."""

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
        process = _start(argv, cwd=cwd, env=env, feeds=stdin is not None)
        err: list[str] = []
        threads = [threading.Thread(target=_collect, args=(process.stderr, err, on_line), daemon=True)]
        out: list[str] = []
        threads.append(threading.Thread(target=_collect, args=(process.stdout, out, None), daemon=True))
        for thread in threads:
            thread.start()
        try:
            if stdin is not None and process.stdin is not None:
                _feed(process.stdin, stdin)
            code = process.wait(timeout)
        except subprocess.TimeoutExpired as late:
            raise UnreachableError(f"`{argv[0]}` did not end within {timeout:g} s") from late
        finally:
            _end_group(process)
            for thread in threads:
                thread.join()
        return Finished(code=code, out="".join(out), err="".join(err))


def _start(
    argv: Sequence[str], *, cwd: Path | None, env: Mapping[str, str] | None, feeds: bool
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603 - argv is a tuple built by us, never a shell line
            list(argv),
            cwd=cwd,
            env=None if env is None else dict(env),
            stdin=subprocess.PIPE if feeds else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as absent:
        raise UnreachableError(f"`{argv[0]}` cannot be run: {absent.strerror}") from absent


def _feed(pipe: IO[bytes], blocks: Iterable[bytes | memoryview]) -> None:
    # A program that ends early closes its pipe; its exit code says why, so the broken pipe itself says nothing.
    with contextlib.suppress(BrokenPipeError):
        for block in blocks:
            pipe.write(block)
    with contextlib.suppress(BrokenPipeError):
        pipe.close()


def _collect(pipe: IO[bytes] | None, into: list[str], on_line: LineSink | None) -> None:
    if pipe is None:
        return
    for raw in pipe:
        line = raw.decode(errors="replace")
        into.append(line)
        if on_line is not None:
            on_line(line.rstrip("\r\n"))


def _end_group(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
