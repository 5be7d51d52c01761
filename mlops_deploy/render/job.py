"""What a job is on every target: the same folders, limits and variables, and what no job can be made of."""

import math
import re
from collections.abc import Mapping
from typing import Final

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.render.health import golden_list
from mlops_deploy.spec.deploy import DeploySpec, Resources
from mlops_deploy.spec.preset import Preset
from mlops_deploy.spec.rendered import CarrierRef

VOLUME: Final = "/model"
"""Where both containers see the models: a folder of the carrier, so that a new volume takes its owner."""

BOOTSTRAP_USER: Final = "65532:65532"
"""The owner of a new volume: whoever else the server runs as, this user can write there."""

PIDS: Final = 4096
"""Processes and threads of one container: room for several per core of a large machine, but not for a fork bomb."""

BOOTSTRAP_MEMORY: Final = 512 << 20

BOOTSTRAP_TMP: Final = 64 << 20
SERVER_TMP: Final = 256 << 20
"""Room in `/tmp`, which counts as memory of the container: without a size it would be half of the machine's."""

THREADS: Final = "OMP_NUM_THREADS"
"""How many threads the numeric libraries start; they count the machine's cores, not those the container may use."""

LONGEST_VARIABLE: Final = 131_071
"""Bytes of `NAME=value` that Linux passes to a process; a longer one would keep the container from starting."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,254}")


def refuse_unsupported(preset: Preset, target: str) -> None:
    """Raise `UnusableInputError` for a preset that needs more than one container and one volume, or proves nothing."""
    needs = {"layout": preset.layout, "files": preset.files}
    if named := [name for name, value in needs.items() if value]:
        raise UnusableInputError(f"preset `{preset.name}` sets `{named[0]}`, which cannot be rendered for {target} yet")
    if not preset.ready.command:
        raise UnusableInputError(
            f"preset `{preset.name}` has no `ready.command`, without which a health check proves nothing",
            hint="give the preset a command that runs in the server image and ends with 0 when this model answers",
        )


def environment(spec: DeploySpec, carrier: CarrierRef, preset: Preset) -> dict[str, str]:
    """What the server is told, wherever it runs; raise `UnusableInputError` for a variable no process can be given."""
    ours = {
        "MODEL_NAME": spec.model.name,
        "MODEL_ID": carrier.content_id.hex,
        "MODEL_PATH": f"{VOLUME}/v/{carrier.content_id.hex}",
        "PORT": str(preset.ports.http),
    }
    if spec.ready.golden:
        ours["GOLDEN"] = golden_list(spec.ready.golden)
    _refuse_taken(spec.env, {*ours, "GOLDEN", "MODEL"})
    env = ours | _threads(spec.resources) | _sorted(preset.env) | _sorted(spec.env)
    return {name: _variable(name, value) for name, value in env.items()}


def _threads(resources: Resources) -> dict[str, str]:
    return {} if resources.cpu is None else {THREADS: str(math.ceil(resources.cpu))}


def _sorted(env: Mapping[str, str]) -> dict[str, str]:
    return dict(sorted(env.items()))


def _refuse_taken(env: Mapping[str, str], taken: set[str]) -> None:
    if both := sorted(taken & env.keys()):
        raise UnusableInputError(
            f"`env` sets `{both[0]}`, which every job sets itself", hint=f"remove `{both[0]}` from `env`"
        )


def _variable(name: str, value: str) -> str:
    if not _NAME.fullmatch(name):
        raise UnusableInputError(
            f"`{name[:80]}` cannot name a variable", hint="expected letters, digits, `_`, `.` or `-`, not a digit first"
        )
    size = len(f"{name}={value}".encode(errors="surrogatepass"))
    if size > LONGEST_VARIABLE:
        what = "the golden requests are" if name == "GOLDEN" else f"`{name}` is"
        raise UnusableInputError(
            f"{what} {size:,} bytes long; a container takes {LONGEST_VARIABLE:,} bytes in one variable",
            hint="keep fewer or smaller golden requests" if name == "GOLDEN" else "put it into the model or the image",
        )
    return value
