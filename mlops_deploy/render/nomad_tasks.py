"""The two tasks of a job on Nomad: the bootstrap that brings the model, and the server that reads it."""

from typing import Final

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.render.job import BOOTSTRAP_MEMORY, BOOTSTRAP_TMP, BOOTSTRAP_USER, PIDS, SERVER_TMP, VOLUME
from mlops_deploy.render.job import environment as server_environment
from mlops_deploy.render.layout import Document, Value
from mlops_deploy.render.nomad_text import in_config, in_environment, nanoseconds
from mlops_deploy.render.pulling import files_on_node, in_container
from mlops_deploy.spec.deploy import DeploySpec, Ready
from mlops_deploy.spec.nomad import NomadSpec
from mlops_deploy.spec.preset import Preset, fill_preset, filling
from mlops_deploy.spec.rendered import CarrierRef, JobImage
from mlops_deploy.spec.units import show_duration

MODELS: Final = "models"
"""What the volume of the model is called inside the job."""

COPY: Final = "/alloc/data/model"
"""Where the bootstrap copies to when the model lives in the allocation's own directory."""

MHZ: Final = 1000
"""What `resources.cpu` counts as one core.

Nomad shares a node by MHz and reserves whole cores; a fraction of a core it does not know, and which clock a node has
is known there alone. So a core is a nominal 1,000 MHz of the node's sum, a weight and no limit; `nomad.cores` reserves
whole ones.
"""

SHARE: Final = 100
"""MHz of a server without `resources.cpu`: Nomad's own default."""

MEMORY: Final = 1 << 30
"""Bytes for a server without `resources.memory`: a job on Nomad always has a limit, by default 300 MB."""

LEAST: Final = 10
"""Megabytes below which Nomad takes no task."""

BOOTSTRAP_LOGS: Final[Document] = {"MaxFiles": 2, "MaxFileSizeMB": 1}
SERVER_LOGS: Final[Document] = {"MaxFiles": 3, "MaxFileSizeMB": 10}

_FAILURES: Final = 3
_ATTEMPTS: Final = 3
_PAUSE: Final = 5.0
_STICKY: Final = 0o1777


def bootstrap(spec: DeploySpec, carrier: CarrierRef) -> Document:
    """The task that runs before the server and ends: the server starts when it has ended well, and only then."""
    locked = _locked(carrier.bootstrap, BOOTSTRAP_TMP, spec.nomad)
    if carrier.puller is None:
        variables = {"MODEL_ID": carrier.content_id.hex, "MODEL_VOLUME": _copied_to(spec.nomad)}
        config: Document = {**locked, "network_mode": "none"}
    else:
        variables = in_container(spec, carrier, volume=_copied_to(spec.nomad))
        files = [_read_only(outside, inside) for inside, outside in files_on_node(spec.registry).items()]
        config = {**locked, "mount": [*_list(locked["mount"]), *files]}
    env, meta = in_environment(variables)
    return {
        "Name": "bootstrap",
        "Driver": "docker",
        "User": BOOTSTRAP_USER,
        "Lifecycle": {"Hook": "prestart", "Sidecar": False},
        "Config": in_config(config),
        "Env": env,
        **({"Meta": meta} if meta else {}),
        **_mounted(spec.nomad, read_only=False),
        "Resources": {"CPU": _mhz(spec), "MemoryMB": min(_megabytes(BOOTSTRAP_MEMORY), memory(spec))},
        "RestartPolicy": _restart(1, 300.0, _PAUSE),
        "LogConfig": dict(BOOTSTRAP_LOGS),
    }


def server(spec: DeploySpec, carrier: CarrierRef, image: JobImage, preset: Preset) -> Document:
    """The task that serves the model, filled from `preset`; or that runs `nomad.command` to its end."""
    _refuse_unsupported(preset)
    _refuse_little(spec)
    path = f"{VOLUME}/v/{carrier.content_id.hex}"
    preset = fill_preset(preset, filling(preset, name=spec.model.name, content=carrier.content_id, path=path))
    env, meta = in_environment(server_environment(spec, carrier, preset))
    serves = spec.nomad.type == "service"
    config: Document = {
        **_locked(image, SERVER_TMP, spec.nomad),
        **(_serving(preset) if serves else _running(spec.nomad)),
    }
    return {
        "Name": "server",
        "Driver": "docker",
        "User": spec.user or f"{preset.uid}:{preset.uid}",
        "Config": in_config(config | {"mount": [*_list(config["mount"]), *_model(spec.nomad)]}),
        "Env": env,
        **({"Meta": meta} if meta else {}),
        **_mounted(spec.nomad, read_only=True),
        **({"Services": [_service(spec, preset)]} if serves else {}),
        "Resources": _resources(spec),
        "RestartPolicy": _restarts(spec.ready, preset) if serves else _restart(1, 300.0, _PAUSE),
        "KillTimeout": nanoseconds(spec.release.drain),
        "KillSignal": preset.drain_signal,
        **({"ShutdownDelay": nanoseconds(spec.nomad.shutdown_delay)} if serves else {}),
        "LogConfig": dict(SERVER_LOGS),
    }


def spent(logs: Document) -> int:
    """Megabytes that a task's two logs, one for each stream, can take."""
    return 2 * int(str(logs["MaxFiles"])) * int(str(logs["MaxFileSizeMB"]))


def _refuse_unsupported(preset: Preset) -> None:
    needs = {"layout": preset.layout, "files": preset.files}
    if named := [name for name, value in needs.items() if value]:
        raise UnusableInputError(f"preset `{preset.name}` sets `{named[0]}`, which cannot be rendered for nomad yet")


def _list(value: Value) -> list[Value]:
    return value if isinstance(value, list) else [value]


def _locked(image: JobImage, room: int, nomad: NomadSpec) -> Document:
    """The image, no rights beyond the user's, and nothing to write to but `room` bytes of `/tmp`."""
    tmp: Document = {"type": "tmpfs", "target": "/tmp", "tmpfs_options": [{"size": room, "mode": _STICKY}]}  # noqa: S108
    return {
        "image": image.ref,
        "image_pull_timeout": show_duration(nomad.pull_timeout),
        "readonly_rootfs": True,
        "cap_drop": ["all"],
        "security_opt": ["no-new-privileges"],
        "pids_limit": PIDS,
        "mount": [tmp],
    }


def _serving(preset: Preset) -> Document:
    command: Document = {"entrypoint": list(preset.command)} if preset.command else {}
    return command | ({"args": list(preset.args)} if preset.args else {}) | {"ports": ["http"]}


def _running(nomad: NomadSpec) -> Document:
    if not nomad.command:
        raise UnusableInputError(
            "`nomad.type` is `batch`, and `nomad.command` does not say what to run",
            hint="name a program of the server image and its arguments",
        )
    return {"entrypoint": list(nomad.command)}


def _copied_to(nomad: NomadSpec) -> str:
    return COPY if nomad.volume.kind == "alloc" else VOLUME


def _model(nomad: NomadSpec) -> list[Value]:
    """What the server sees of the allocation's directory: the copy, and nothing of it that it could change."""
    if nomad.volume.kind != "alloc":
        return []
    places = {"../alloc/data": "/alloc/data", "../alloc/data/model": VOLUME}
    return [_read_only(source, target) for source, target in places.items()]


def _read_only(source: str, target: str) -> Document:
    return {"type": "bind", "source": source, "target": target, "readonly": True}


def _mounted(nomad: NomadSpec, *, read_only: bool) -> Document:
    if nomad.volume.kind == "alloc":
        return {}
    return {"VolumeMounts": [{"Volume": MODELS, "Destination": VOLUME, "ReadOnly": read_only}]}


def _service(spec: DeploySpec, preset: Preset) -> Document:
    """In the server's task: one of the group would be registered while the model is still copied."""
    if preset.ready.endpoint is None:
        raise UnusableInputError(
            f"preset `{preset.name}` has no `ready.endpoint`, without which Nomad cannot check a server",
            hint="give the preset a path that answers once a model is loaded, whichever version it is",
        )
    beat = min(5.0, max(1.0, round(spec.ready.deadline / 24, 1)))
    check: Document = {
        "Name": "ready",
        "Type": "http",
        "Path": preset.ready.endpoint,
        "Interval": nanoseconds(beat),
        "Timeout": nanoseconds(5.0),
        "CheckRestart": {"Limit": _FAILURES, "Grace": nanoseconds(spec.ready.deadline)},
    }
    return {"Provider": spec.nomad.provider, "PortLabel": "http", "Checks": [check]}


def _resources(spec: DeploySpec) -> Document:
    nomad, cores = spec.nomad, spec.nomad.cores
    cpu: Document = {"CPU": _mhz(spec)} if cores is None else {"Cores": cores}
    most: Document = {} if nomad.memory_max is None else {"MemoryMaxMB": _megabytes(nomad.memory_max)}
    devices: list[Value] = [{"Name": device.name, "Count": device.count} for device in nomad.devices]
    return cpu | {"MemoryMB": memory(spec)} | most | ({"Devices": devices} if devices else {})


def _mhz(spec: DeploySpec) -> int:
    return SHARE if spec.resources.cpu is None else max(1, round(spec.resources.cpu * MHZ))


def memory(spec: DeploySpec) -> int:
    """Megabytes that are reserved for the server, which are its limit too unless `nomad.memory_max` is more."""
    return _megabytes(spec.resources.memory or min(MEMORY, spec.nomad.memory_max or MEMORY))


def _refuse_little(spec: DeploySpec) -> None:
    if memory(spec) < LEAST:
        raise UnusableInputError(
            f"`resources.memory` is less than {LEAST} MiB, which Nomad gives a task at least",
            hint="ask for what the server needs, such as `512Mi`",
        )


def _megabytes(count: int) -> int:
    return -(-count >> 20)


def _restarts(ready: Ready, preset: Preset) -> Document:
    """In place a few times, then elsewhere; the interval covers as many starts of a server that takes its time."""
    attempts = 0 if preset.restart == "no" else _ATTEMPTS
    return _restart(attempts, max(300.0, (_ATTEMPTS + 1) * (ready.deadline + _PAUSE)), _PAUSE)


def _restart(attempts: int, interval: float, delay: float) -> Document:
    times: Document = {"Interval": nanoseconds(interval), "Delay": nanoseconds(delay)}
    return {"Attempts": attempts, **times, "Mode": "fail"}
