"""One service as one stand-alone Compose file: a bootstrap that ends, a server that starts when the model is there."""

from typing import Final, cast

from mlops_deploy.render.health import rhythm
from mlops_deploy.render.job import (
    BOOTSTRAP_MEMORY,
    BOOTSTRAP_TMP,
    BOOTSTRAP_USER,
    PIDS,
    SERVER_TMP,
    VOLUME,
    environment,
    refuse_unsupported,
)
from mlops_deploy.render.layout import Document, Value, lay_out
from mlops_deploy.render.pulling import files_on_node, in_container
from mlops_deploy.spec.deploy import DeploySpec, Resources
from mlops_deploy.spec.owner import LABEL
from mlops_deploy.spec.preset import Preset, fill_preset, filling
from mlops_deploy.spec.rendered import CarrierRef, JobImage, Rendered

TEMPLATE: Final = "compose/compose.yml.j2"
LOOPBACK: Final = "127.0.0.1"
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
