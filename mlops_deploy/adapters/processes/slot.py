"""One slot without a container engine, as files: what it is to hold, and what its supervisor says that it holds."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, TypeVar

from mlops_deploy.adapters.processes.service import foreign, strangers
from mlops_deploy.errors import UnusableInputError
from mlops_deploy.oci.partial import reporting
from mlops_deploy.release.codec import decode, encode
from mlops_deploy.release.state import CauseKind, Slot
from mlops_deploy.spec.process_job import FOLDER, PORT, PYTHON, ProcessJob, ProcessTask, Program
from mlops_deploy.store.files import locked, replace_file, unheard

T = TypeVar("T")

_JOB: Final = "job.json"
_STATE: Final = "state.json"
_LOCK: Final = "slot.lock"
_PATIENCE: Final = 20.0
_LAST: Final = 20

Phase = Literal["begun", "bootstrap", "server", "ended"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the slot is to hold; nothing any more, after `grace` seconds to finish, once that is set."""

    project: str
    slot: Slot
    key: str
    content: str
    port: int
    job: ProcessJob
    grace: float | None = None

    def within(self, grace: float) -> "Wanted":
        """The same, to be ended."""
        return replace(self, grace=grace)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a task failed, with its last lines."""

    what: CauseKind
    message: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What the slot holds, as its supervisor has last seen it; `process` is the last task's identity.

    After the end, `failure` says why, unless it was asked to end or ended well by itself.
    """

    supervisor: str
    key: str
    content: str
    phase: Phase = "begun"
    process: str = ""
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class SlotFolder:
    """The folder of one slot: the two documents, the volume `models`, and the tasks' logs."""

    path: Path
    volume: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "volume", self.path / "models")

    def wanted(self) -> Wanted | None:
        """What the slot is to hold; None before the first time."""
        return self._read(Wanted, _JOB)

    def held(self) -> Held | None:
        """What the supervisor last wrote; None before the first time."""
        return self._read(Held, _STATE)

    def want(self, wanted: Wanted) -> None:
        """Write what the slot is to hold."""
        self._write(_JOB, wanted)

    def note(self, held: Held) -> None:
        """Write what the slot holds."""
        self._write(_STATE, held)

    def program(self, wanted: Wanted, task: ProcessTask, python: str) -> Program:
        """The program of a task, for this slot."""
        words = {PORT: str(wanted.port), FOLDER: str(self.path), PYTHON: python}
        return wanted.job.program(task).filled(words)

    def log(self, task: ProcessTask) -> Path:
        """The file that a task's output is written to."""
        return self.path / f"{task}.log"

    @property
    def supervisor_log(self) -> Path:
        """What the supervisor itself said: nothing, unless it failed."""
        return self.path / "supervisor.log"

    def supervisor_said(self) -> tuple[str, ...]:
        """The last lines of that."""
        with suppress(FileNotFoundError):
            return tuple(self.supervisor_log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST:])
        return ()

    @contextmanager
    def taken(self, doing: str) -> Iterator[None]:
        """Hold the slot, so that nobody else changes what it is to hold; the folder is made when it is missing."""
        with reporting(f"`{self.path}`"):
            self.path.mkdir(parents=True, exist_ok=True)
            with locked(self.path / _LOCK, doing, deadline=_PATIENCE, tell=unheard):
                yield

    def keep_only(self, content: str) -> None:
        """Remove the volume unless it holds the model `content` and no other."""
        with suppress(FileNotFoundError):
            if any(entry.name != content and not entry.name.startswith(".") for entry in (self.volume / "v").iterdir()):
                shutil.rmtree(self.volume)

    def forget(self, *, volume: bool) -> None:
        """Remove what is known of the slot, and with `volume` its models too."""
        for path in tuple(self.path.iterdir()) if self.path.exists() else ():
            if path != self.volume or volume:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def require_ours(self, project: str, slot: Slot) -> Wanted | None:
        """What the slot is to hold; raise `UnusableInputError` for a folder that belongs to something else."""
        wanted = self.wanted()
        if wanted is None and (strange := strangers(self.path, _LOCK, self.volume.name)):
            wanted = self.wanted()  # what is strange may have been written since the first look
            if wanted is None:
                raise foreign(self.path, f"it holds `{strange[0]}` and no `{_JOB}`")
        if wanted is not None and (wanted.project, wanted.slot) != (project, slot):
            raise foreign(self.path, f"it belongs to slot {wanted.slot} of `{wanted.project}`")
        return wanted

    def _read(self, kind: type[T], name: str) -> T | None:
        try:
            return decode(kind, json.loads((self.path / name).read_bytes()))
        except FileNotFoundError:
            return None
        except NotADirectoryError as error:
            raise foreign(self.path, "it is no folder") from error
        except (ValueError, RecursionError, UnusableInputError) as error:
            raise foreign(self.path, f"`{name}` is none of ours: {str(error)[:200]}") from error

    def _write(self, name: str, value: object) -> None:
        replace_file(self.path / name, json.dumps(encode(value), ensure_ascii=False).encode())
