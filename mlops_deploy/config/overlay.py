"""Which overlay belongs to an environment, and what it makes of the file below it."""

import re
from glob import escape
from pathlib import Path
from typing import Final

from mlops_deploy.config.keys import SERVICE_PATTERN
from mlops_deploy.config.marks import Mapping, Node, Scalar
from mlops_deploy.config.read import is_there
from mlops_deploy.errors import ConfigError

# `<service>-a`, `-b` and `-router` name the parts of the service without an environment.
RESERVED: Final = ("a", "b", "router")


def overlay_path(base: Path, environment: str) -> Path:
    """The overlay beside `base`; raise `ConfigError` for a bad name, and for a missing overlay say what is there."""
    if not re.fullmatch(SERVICE_PATTERN, environment) or environment in RESERVED:
        allowed = "use lower-case letters, digits and `-`, a letter first, at most 32; not `a`, `b` or `router`"
        raise ConfigError(f"`{environment[:80]}` cannot name an environment", hint=allowed)
    path = base.with_name(f"{base.stem}.{environment}{base.suffix}")
    if not is_there(path):
        raise ConfigError(f"there is no `{path}` for the environment `{environment}`", hint=_there(base))
    return path


def lay_over(below: Mapping, above: Mapping) -> Mapping:
    """Maps merge; lists and scalars replace. Every node keeps its own place."""
    merged: dict[str, tuple[Scalar, Node]] = {key.text: (key, value) for key, value in below.entries}
    for key, value in above.entries:
        _, old = merged.get(key.text, (key, None))
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key.text] = (key, lay_over(old, value) if both else value)  # type: ignore[arg-type]
    return Mapping(tuple(merged.values()), below.mark)


def _there(base: Path) -> str:
    found = sorted(base.parent.glob(f"{escape(base.stem)}.*{escape(base.suffix)}"))
    names = [path.name[len(base.stem) + 1 : -len(base.suffix) or None] for path in found]
    known = [name for name in names if re.fullmatch(SERVICE_PATTERN, name)]
    if not known:
        return "no overlay is there; write one, or leave out `-e`"
    return "there are overlays for " + ", ".join(f"`{name}`" for name in known)
