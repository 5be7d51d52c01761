"""The trace of a run: every effect of a release with its answer, as JSON lines, for tests and reports of mistakes."""

import json
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Final

from mlops_deploy.release.codec import encode
from mlops_deploy.release.effects import Answer, Effect

VARIABLE: Final = "MLOPS_DEPLOY_TRACE"
"""Names the file that traces are appended to; none is written without it."""

_runs = count(1)


def tracer() -> Callable[[Effect, Answer], None] | None:
    """Appends to the file that the environment names, one line for each effect; None when it names none.

    `run` tells the runs of all processes apart that write to the same file.
    """
    name = os.environ.get(VARIABLE)
    if not name:
        return None
    path, run = Path(name), f"{os.getpid()}.{next(_runs)}"

    def trace(effect: Effect, answer: Answer) -> None:
        line = json.dumps({"run": run, "effect": encode(effect), "answer": encode(answer)}, separators=(",", ":"))
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    return trace
