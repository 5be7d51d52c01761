"""One service as one stand-alone Compose file: a bootstrap that ends, a server that starts when the model is there."""

import math
import re
from collections.abc import Mapping
from typing import Final, cast

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.render.health import golden_list, rhythm
from mlops_deploy.render.layout import Document, Value, lay_out
from mlops_deploy.render.pulling import files_on_node, in_container
from mlops_deploy.spec.deploy import DeploySpec, Resources
from mlops_deploy.spec.owner import LABEL
from mlops_deploy.spec.preset import Preset, fill_preset, filling
from mlops_deploy.spec.rendered import CarrierRef, JobImage, Rendered

TEMPLATE: Final = "compose/compose.yml.j2"
VOLUME: Final = "/model"
"""Where both containers see the models: a folder of the carrier, so that a new volume takes its owner."""

BOOTSTRAP_USER: Final = "65532:65532"
"""The owner of a new volume: whoever else the server runs as, this user can write there."""

LOOPBACK: Final = "127.0.0.1"
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
_UNITS = ((1 << 30, "g"), (1 << 20, "m"), (1 << 10, "k"), (1, "b"))


def render_compose(spec: DeploySpec, carrier: CarrierRef, image: JobImage, preset: Preset) -> Rendered:
    """Write the file that plain `docker compose up --wait` runs: the server `image` as `preset` says it is run.

    Raises `UnusableInputError` for a preset that needs more than one container and one volume, and for a variable that
    no container can be given.
    """
    text = lay_out(TEMPLATE, document(spec, carrier, image, preset))
    return Rendered(target="docker", project=spec.project, text=text)


def document(spec: DeploySpec, carrier: CarrierRef, image: JobImage, preset: Preset) -> Document:
    """The Compose file as data: what the text must say, before Compose's own quoting of `$`."""
    labels: Document = dict(spec.owner.labels())
    with_content = labels | {f"{LABEL}content": carrier.content_id.hex}
    ports: Document = {"ports": [f"{LOOPBACK}:{spec.port}:{preset.ports.http}"]}
    return {
        "name": spec.project,
        "services": {
            "bootstrap": bootstrap(spec, carrier) | {"labels": with_content},
            "server": server(spec, carrier, image, preset) | ports | {"labels": with_content},
        },
        "volumes": {"models": {"name": f"{spec.project}-models", "labels": labels}},
    }


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


def bootstrap(spec: DeploySpec, carrier: CarrierRef) -> Document:
    """The task that brings the model into the volume and ends; one that copies it has no network."""
    return {
        **image_of(carrier.bootstrap),
        **hardened(BOOTSTRAP_USER, BOOTSTRAP_TMP),
        **(_copying(carrier) if carrier.puller is None else _pulling(spec, carrier)),
        "deploy": {"resources": {"limits": {"memory": in_units(BOOTSTRAP_MEMORY), "pids": PIDS}}},
        "restart": "no",
        "logging": bounded_log(),
    }


def _copying(carrier: CarrierRef) -> Document:
    return {
        "network_mode": "none",
        "environment": {"MODEL_ID": carrier.content_id.hex},
        "volumes": [_volume()],
    }


def _pulling(spec: DeploySpec, carrier: CarrierRef) -> Document:
    # Without this a file that is missing becomes an empty folder of root's.
    there: Document = {"create_host_path": False}
    files: list[Value] = [
        {"type": "bind", "source": outside, "target": inside, "read_only": True, "bind": there}
        for inside, outside in files_on_node(spec.registry).items()
    ]
    told = in_container(spec, carrier, volume=VOLUME)
    return {"environment": cast("Document", told), "volumes": [_volume(), *files]}


def _volume() -> Document:
    return {"type": "volume", "source": "models", "target": VOLUME}


def server(spec: DeploySpec, carrier: CarrierRef, image: JobImage, preset: Preset) -> Document:
    """The task that serves the model, filled from `preset`; how it is reached is not said."""
    refuse_unsupported(preset, "docker")
    path = f"{VOLUME}/v/{carrier.content_id.hex}"
    preset = fill_preset(preset, filling(preset, name=spec.model.name, content=carrier.content_id, path=path))
    return {
        **image_of(image),
        **({"entrypoint": list(preset.command)} if preset.command else {}),
        **({"command": list(preset.args)} if preset.args else {}),
        **hardened(spec.user or f"{preset.uid}:{preset.uid}", SERVER_TMP),
        "depends_on": {"bootstrap": {"condition": "service_completed_successfully"}},
        "environment": cast("Document", environment(spec, carrier, preset)),
        "volumes": [_read_only_volume()],
        "healthcheck": _healthcheck(preset.ready.command, spec.ready.deadline),
        "deploy": {"resources": {"limits": _limits(spec.resources)}},
        "restart": preset.restart,
        "stop_signal": preset.drain_signal,
        "stop_grace_period": _seconds(spec.release.drain),
        "logging": bounded_log(),
    }


def image_of(image: JobImage) -> Document:
    """Which image a container is made of, and whether it may be pulled."""
    return {"image": image.ref, "pull_policy": "never" if image.local else "missing"}


def hardened(user: str, room: int) -> Document:
    """No rights beyond the user's, nothing to write to but `room` bytes of `/tmp`."""
    return {
        "user": user,
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "tmpfs": [f"/tmp:size={in_units(room)},mode=1777"],  # noqa: S108 - a folder inside the container
    }


def _read_only_volume() -> Document:
    return {"type": "volume", "source": "models", "target": VOLUME, "read_only": True, "volume": {"nocopy": True}}


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


def _healthcheck(ready: tuple[str, ...], deadline: float) -> Document:
    beat = rhythm(deadline)
    return {
        "test": ["CMD", *ready],
        "start_period": _seconds(beat.start_period),
        "start_interval": _seconds(beat.start_interval),
        "interval": _seconds(beat.interval),
        "timeout": _seconds(beat.timeout),
        "retries": beat.retries,
    }


def _limits(resources: Resources) -> Document:
    cpus: Document = {} if resources.cpu is None else {"cpus": f"{resources.cpu:.3f}".rstrip("0").rstrip(".")}
    memory: Document = {} if resources.memory is None else {"memory": in_units(resources.memory)}
    return cpus | memory | {"pids": PIDS}


def bounded_log() -> Document:
    """A log that never fills the disk."""
    return {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}}


def in_units(count: int) -> str:
    """`count` bytes in the largest unit that divides them."""
    size, unit = next((size, unit) for size, unit in _UNITS if count % size == 0)
    return f"{count // size}{unit}"


def _seconds(value: float) -> str:
    return f"{round(value * 1000)}ms" if value % 1 else f"{value:.0f}s"
