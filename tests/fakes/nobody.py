"""The command line as a user who may read and not write, wherever the checkout is and whoever may read that."""

import shutil
import sys
from pathlib import Path

import mlops_deploy

_START = """
import importlib, os, pkgutil, sys
import mlops_deploy
for module in pkgutil.walk_packages(mlops_deploy.__path__, "mlops_deploy."):
    importlib.import_module(module.name)
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
mlops_deploy.__main__.main()
"""


def as_nobody(*arguments: object) -> list[str]:
    """A command that root starts: it gives its rights up when everything is imported."""
    return [sys.executable, "-c", _START, *map(str, arguments)]


def readable_copy(folder: Path) -> Path:
    """The package and its images where everybody can read them: what `PYTHONPATH` names."""
    checkout = Path(mlops_deploy.__file__).parent.parent
    for part in ("mlops_deploy", "images", "jobs"):
        shutil.copytree(checkout / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder
