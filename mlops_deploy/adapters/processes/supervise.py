"""The supervisor of one slot without a container engine: `python -m mlops_deploy.adapters.processes.supervise FOLDER`.

It makes the slot hold what its folder says (`job.json`): the bootstrap first, then the server; and writes what it sees
(`state.json`). SIGHUP tells it that the folder says something else now, SIGTERM to end both. A task that ends is not
started again: whether a slot that has failed is tried again is decided by a release, not here.

Its tasks get SIGTERM when it is killed; the next supervisor of the slot ends what outlived that.
"""

import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final, Literal

from mlops_deploy.adapters.process import LocalProcess, LocalRunner
from mlops_deploy.adapters.processes.identity import alive, identify, send
from mlops_deploy.adapters.processes.log import BoundedLog
from mlops_deploy.adapters.processes.service import is_free
from mlops_deploy.adapters.processes.slot import Failure, Held, SlotFolder, Wanted
from mlops_deploy.spec.process_job import ProcessTask
from mlops_deploy.store.files import locked, unheard

GRACE: Final = 10.0
"""Seconds to finish for what is replaced, or ended by SIGTERM: a slot is drained before."""

_ALONE: Final = "supervisor.lock"
_ORPHAN: Final = 3.0
"""Seconds to finish for a task whose supervisor was killed: it got SIGTERM at that moment."""

_PATIENCE: Final = 5.0
_PAUSE: Final = 0.05
_LONGEST_LINE: Final = 500

Event = Literal["told", "end", "ended"]
Outcome = Failure | Literal["finished", "told"]
"""Of a task: it failed (a server also by ending well), has done its work, or was ended because we were told so."""

_FROM_OUTSIDE: Final = Failure(what="crash", message="the slot was ended from outside, by SIGTERM to its supervisor")


class Supervisor:
    """Holds one slot until it is told to let go or its task has ended."""

    def __init__(self, folder: SlotFolder) -> None:
        self._folder: Final = folder
        self._events: Final[SimpleQueue[Event]] = SimpleQueue()
        self._runner: Final = LocalRunner()
        self._me: Final = identify(os.getpid()) or ""
        self._ending = False

    def run(self) -> None:
        """End what a supervisor that was killed has left, then do what the folder says until nothing is left to do."""
        signal.signal(signal.SIGHUP, lambda *_: self._events.put("told"))
        signal.signal(signal.SIGTERM, lambda *_: self._events.put("end"))
        before, wanted = self._folder.held(), self._folder.wanted()
        orphan = before.process if before else ""
        while wanted is not None:
            held = Held(supervisor=self._me, key=wanted.key, content=wanted.content, process=orphan)
            self._folder.note(held)
            _end_orphan(orphan)
            outcome: Outcome = self._hold(wanted, held) if wanted.grace is None else "told"
            wanted, orphan = self._next(wanted, outcome), ""

    def _hold(self, wanted: Wanted, held: Held) -> Outcome:
        self._folder.keep_only(wanted.content)
        copied = self._task("bootstrap", wanted, held)
        if copied != "finished":
            return copied
        if not is_free(wanted.port):
            message = f"port {wanted.port} of slot {wanted.slot} is taken by another program"
            return Failure(what="start", message=message)
        return self._task("server", wanted, held)

    def _task(self, task: ProcessTask, wanted: Wanted, held: Held) -> Outcome:
        program = self._folder.program(wanted, task, sys.executable)
        with closing(BoundedLog(self._folder.log(task))) as log:
            env = {**os.environ, **program.env}
            process = self._runner.start(program.argv, cwd=Path("/"), env=env, on_line=log)
            self._folder.note(replace(held, phase=task, process=identify(process.pid) or ""))
            code = self._until_over(process, wanted)
            if code is None:
                return "told"
            well = task == "bootstrap" and code == 0
            return "finished" if well else _failure(task, code, process.last_lines)

    def _until_over(self, process: LocalProcess, wanted: Wanted) -> int | None:
        """The exit code; None when it ended because we were told so."""
        Thread(target=self._wait, args=(process,), daemon=True).start()
        until: float | None = None
        while (event := self._event(until)) != "ended":
            if event is None:
                process.end(0)
            self._ending = self._ending or event == "end"
            if event is not None and (grace := self._grace(wanted)) is not None:
                _ask(process)
                until = min(until or float("inf"), time.monotonic() + grace)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its children, should it have left any
        return process.wait(None) if until is None else None

    def _wait(self, process: LocalProcess) -> None:
        process.wait(None)
        self._events.put("ended")

    def _event(self, until: float | None) -> Event | None:
        try:
            return self._events.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
        except Empty:
            return None

    def _grace(self, wanted: Wanted) -> float | None:
        """How many seconds the running task still has, None when it is to go on."""
        now = self._folder.wanted()
        if now is not None and now.grace is not None:
            return now.grace
        return GRACE if self._ending or now is None or now.key != wanted.key else None

    def _next(self, wanted: Wanted, outcome: Outcome) -> Wanted | None:
        """What is to be done now; None, after the end is written, when the folder says nothing more."""
        with self._folder.taken("ending a slot"):
            now = self._folder.wanted()
            again = outcome == "told" and now is not None and now.grace is None and not self._ending
            if now != wanted or again:
                self._ending = False
                return now
            failure = _FROM_OUTSIDE if self._ending else None if isinstance(outcome, str) else outcome
            last = self._folder.held()
            process = last.process if last else ""
            end = Held(supervisor=self._me, key=wanted.key, content=wanted.content, process=process)
            self._folder.note(replace(end, phase="ended", failure=failure))
            return None


def main(folder: str) -> None:
    """Supervise the slot of `folder`, unless another process does."""
    slot = SlotFolder(Path(folder))
    with locked(slot.path / _ALONE, "supervising this slot", deadline=_PATIENCE, tell=unheard):
        Supervisor(slot).run()


def _failure(task: ProcessTask, code: int, lines: Sequence[str]) -> Failure:
    how = f"with exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
    kept = tuple(line[:_LONGEST_LINE] for line in lines)
    return Failure(what="bootstrap" if task == "bootstrap" else "crash", message=f"the {task} ended {how}", lines=kept)


def _ask(process: LocalProcess) -> None:
    if identity := identify(process.pid):
        send(identity, signal.SIGTERM)


def _end_orphan(identity: str) -> None:
    """What outlived its supervisor got SIGTERM when that was killed: what is left after a while is killed."""
    started = time.monotonic()
    while alive(identity) and (waited := time.monotonic() - started) < _ORPHAN + _PATIENCE:
        send(identity, signal.SIGKILL if waited > _ORPHAN else signal.SIGTERM)
        time.sleep(_PAUSE)


if __name__ == "__main__":
    main(sys.argv[1])
