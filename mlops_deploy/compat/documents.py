"""Files that are known by their names: what MLflow, Hugging Face and spaCy write beside the weights."""

import json
import re
from collections.abc import Callable
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement

from mlops_deploy.compat.reader import MOST, Parser
from mlops_deploy.compat.versions import at_least, same_minor
from mlops_deploy.spec.requires import Sniffed

MLFLOW: Final = "mlflow"
PINNED: Final = "mlflow-environment"
"""What stands beside an `MLmodel`; it counts only there, since other folders have files of these names too."""

_OTHERS: Final = {"mlflow", "mlflow-skinny"}
"""What MLflow's own server needs, and the model does not."""

_PICKLED: Final = {"scikit-learn", "xgboost", "lightgbm", "catboost"}
"""Packages whose objects MLflow pickles, and which promise nothing to their other versions."""

_MOST_LINES: Final = 1000
_PYTHON: Final = re.compile(rb"""^python:\s*['"]?(\d+\.\d+)""", re.MULTILINE)
_FLAVORS: Final = re.compile(rb"^flavors:\s*$", re.MULTILINE)


def document(name: str) -> Parser:
    """Read the file `name`, one of `KNOWN`, when it is not larger than such files are."""
    data = yield MOST
    return KNOWN[name](data) if len(data) < MOST else Sniffed()


def _mlmodel(data: bytes) -> Sniffed:
    return Sniffed(format=MLFLOW) if _FLAVORS.search(data) else Sniffed()


def _requirements(data: bytes) -> Sniffed:
    lines = data.decode().splitlines()[:_MOST_LINES]
    found = (one for line in lines for one in _requirement(line.partition("#")[0].strip()))
    return Sniffed(format=PINNED, requires=tuple(sorted(set(found))))


def _requirement(line: str) -> tuple[str, ...]:
    """What one line asks for; a pin records what was there, and binds as far as versions of that package do."""
    try:
        wanted = Requirement(line)
    except InvalidRequirement:
        return ()
    name = wanted.name.lower().replace("_", "-")
    if wanted.marker is not None or wanted.url is not None or name in _OTHERS:
        return ()
    pins = [one.version for one in wanted.specifier if one.operator == "=="]
    if len(pins) == 1 and "*" not in pins[0]:
        return (same_minor if name in _PICKLED else at_least)(name, pins[0])
    return (f"{name}{wanted.specifier}",)


def _python_env(data: bytes) -> Sniffed:
    match = _PYTHON.search(data)
    return Sniffed(format=PINNED, requires=at_least("python", match[1].decode())) if match else Sniffed()


def _config(data: bytes) -> Sniffed:
    said = json.loads(data)
    version = said.get("transformers_version")
    if not isinstance(version, str) or not (said.keys() & {"model_type", "architectures"}):
        return Sniffed()
    return Sniffed(format="huggingface", requires=at_least("transformers", version))


def _meta(data: bytes) -> Sniffed:
    said = json.loads(data)
    version = said.get("spacy_version")
    if not isinstance(version, str) or "lang" not in said:
        return Sniffed()
    return Sniffed(format="spacy", requires=(f"spacy{Requirement('spacy' + version).specifier}",))


KNOWN: Final[dict[str, Callable[[bytes], Sniffed]]] = {
    "MLmodel": _mlmodel,
    "requirements.txt": _requirements,
    "python_env.yaml": _python_env,
    "config.json": _config,
    "meta.json": _meta,
}
