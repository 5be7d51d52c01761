"""The Python environment of a server without a container engine: made once per set of inputs, kept, found again."""

import json
import os
import re
import shutil
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, NoReturn

from mlops_deploy.api.turn import taking_turns
from mlops_deploy.errors import DeployError, UnreachableError
from mlops_deploy.oci.partial import reporting
from mlops_deploy.ports import Launcher, Story
from mlops_deploy.spec.refs import SHORT

DEADLINE: Final = 1800.0
"""Seconds that making an environment may take."""

_COMPLETE: Final = "complete"
_LARGE: Final = re.compile(r"\s*(?:Downloading|Using cached) \S*?([^/\s]+?)-\S+ \(([0-9.]+ [MG]B)\)")
_RETRY: Final = "Retrying (Retry("  # what pip says of an index that does not answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Packages:
    """What goes into an environment: a requirements file, and a constraints file that freezes it."""

    requirements: Path
    constraints: Path


def find_or_make(packages: Packages, cache: Path, environ: Mapping[str, str], launcher: Launcher, story: Story) -> Path:
    """The folder with the environment's programs, below `cache`.

    Made with the Python that runs us, only when no complete one is there; of several at once one makes it. `environ`
    is what pip sees, with its index and certificates. Raises `DeployError` with pip's own words.
    """
    programs = programs_of(packages, cache)
    folder = programs.parent
    if not _complete(folder):
        with (
            reporting(f"`{cache}`"),
            taking_turns(cache / f".{folder.name}.lock", story, "making the server environment", deadline=DEADLINE),
        ):
            if not _complete(folder):
                _make_or_leave_nothing(folder, packages, environ, launcher, story)
    return programs


def server_cache(environ: Mapping[str, str]) -> Path:
    """`$XDG_CACHE_HOME/mlops-deploy/servers`; a relative one does not count, says the base directory specification."""
    configured = Path(environ.get("XDG_CACHE_HOME") or ".")
    return (configured if configured.is_absolute() else Path.home() / ".cache") / "mlops-deploy" / "servers"


def programs_of(packages: Packages, cache: Path) -> Path:
    """Where `find_or_make` finds or makes the environment's programs."""
    return cache / _key(packages) / "bin"


def _key(packages: Packages) -> str:
    inputs = {
        "requirements": packages.requirements.read_text(encoding="utf-8"),
        "constraints": packages.constraints.read_text(encoding="utf-8"),
        "python": [sys.base_prefix, sys.implementation.cache_tag, sysconfig.get_platform()],
    }
    return sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:SHORT]


def _complete(folder: Path) -> bool:
    # `bin/python` is a link to the Python it was made with, which may have been removed since.
    return (folder / _COMPLETE).exists() and (folder / "bin" / "python").exists()


def _make_or_leave_nothing(
    folder: Path, packages: Packages, environ: Mapping[str, str], launcher: Launcher, story: Story
) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _make(folder, packages, environ, launcher, story)
        os.sync()
        (folder / _COMPLETE).touch()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _make(folder: Path, packages: Packages, environ: Mapping[str, str], launcher: Launcher, story: Story) -> None:
    story.say(f"making the server environment in `{folder}`: this happens once")
    started = time.monotonic()
    tool = _Tool(launcher, {name: value for name, value in environ.items() if not name.startswith("PYTHON")}, story)
    tool.run((sys.executable, "-I", "-m", "venv", str(folder)), "on Debian, `apt install python3-venv`")
    pip = (str(folder / "bin" / "python"), "-I", "-m", "pip", "install", "--no-input", "--disable-pip-version-check")
    options = ("--no-compile", "--progress-bar=off")
    files = ("--requirement", str(packages.requirements), "--constraint", str(packages.constraints))
    tool.run(
        (*pip, *options, *files),
        "pip's settings count: `PIP_INDEX_URL` names another index, `PIP_CERT` its certificates",
    )
    story.say(f"made in {time.monotonic() - started:.0f} s")


@dataclass(frozen=True, slots=True)
class _Tool:
    """Runs venv and pip; tells which large packages come, and what went wrong in their own words."""

    launcher: Launcher
    env: Mapping[str, str]
    story: Story

    def run(self, argv: tuple[str, ...], hint: str) -> None:
        process = self.launcher.start(argv, cwd=Path("/"), env=self.env, on_line=self._tell)
        try:
            code = process.wait(DEADLINE)
        finally:
            process.end(0)
        if code is None:
            raise UnreachableError(f"the server environment was not made within {DEADLINE:g} s", hint=hint)
        if code != 0:
            self._fail(process.last_lines, hint)

    def _fail(self, lines: Sequence[str], hint: str) -> NoReturn:
        if any(_RETRY in line for line in lines):
            raise UnreachableError("the package index does not answer, and the server needs its packages", hint=hint)
        raise DeployError("the server environment cannot be made", detail=tuple(_causes(lines)), hint=hint)

    def _tell(self, line: str) -> None:
        if large := _LARGE.match(line):
            self.story.say(f"  {large[1]}: {large[2]}")
        elif _RETRY in line:
            self.story.say(line.strip())


def _causes(lines: Sequence[str]) -> Iterator[str]:
    """From the first line that says `ERROR`, where there is one."""
    told = [line for line in lines if line.strip()]
    begun = next((number for number, line in enumerate(told) if line.startswith("ERROR")), 0)
    yield from told[begun:]
