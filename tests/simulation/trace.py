"""Real traces, and whether the model accepts them: `MLOPS_DEPLOY_TRACE=FILE mlops-deploy …` writes one."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from mlops_deploy.api.trace import VARIABLE
from mlops_deploy.release.codec import decode_any
from mlops_deploy.release.effects import Answer, Effect
from tests.simulation.oracle import accept

Pair = tuple[Effect, Answer]


def read_traces(path: Path) -> dict[str, list[Pair]]:
    """Every run of a trace file by its name, in order."""
    runs: dict[str, list[Pair]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        entry = json.loads(line)
        effect = cast("Effect", decode_any(Effect, entry["effect"], f"line {number}.effect"))
        answer = cast("Answer", decode_any(Answer, entry["answer"], f"line {number}.answer"))
        runs.setdefault(entry["run"], []).append((effect, answer))
    return runs


def accept_file(path: Path) -> int:
    """The number of runs in a trace file; raise `RejectedError` when the model rejects one."""
    runs = read_traces(path) if path.exists() else {}
    for pairs in runs.values():
        accept(pairs)
    return len(runs)


@contextmanager
def traced(path: Path, patch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Trace every command that runs meanwhile, here and in child processes; afterwards the model has accepted all."""
    patch.setenv(VARIABLE, str(path))
    yield path
    patch.delenv(VARIABLE)
    accept_file(path)
