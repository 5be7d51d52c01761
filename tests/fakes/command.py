"""The program as a user runs it: a process of its own, on a machine where no engine answers."""

import os
import subprocess
import sys
from pathlib import Path


def run(*arguments, cwd):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "MLOPS_"))}
    return subprocess.run(
        [sys.executable, "-m", "mlops_deploy", *map(str, arguments)],
        cwd=cwd,
        env=kept | {"DOCKER_HOST": "unix:///nowhere.sock", "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
