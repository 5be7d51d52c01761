"""One service as Kubernetes objects: a Deployment whose init container brings the model, and a Service."""

import math
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.render.health import RETRIES, rhythm
from mlops_deploy.render.job import (
    BOOTSTRAP_MEMORY,
    BOOTSTRAP_USER,
    SERVER_TMP,
    VOLUME,
    environment,
    refuse_unsupported,
)
from mlops_deploy.render.layout import Document, Value, lay_out_objects
from mlops_deploy.render.pulling import CA, CREDENTIALS, in_container, refuse_paths
from mlops_deploy.spec.deploy import DeploySpec, Resources
from mlops_deploy.spec.kubernetes import KubernetesVolume
from mlops_deploy.spec.owner import LABEL
from mlops_deploy.spec.preset import Preset, fill_preset, filling
from mlops_deploy.spec.registry import RegistrySpec
from mlops_deploy.spec.rendered import CarrierRef, JobImage, Rendered

ALONE: Final = "kubernetes/kubernetes.yml.j2"
SLOT: Final = "kubernetes/slot.yml.j2"
SERVICE: Final = "kubernetes/service.yml.j2"

FIRST: Final = "a"
"""The slot that the Service selects until somebody changes it."""

LEAST_MEMORY: Final = 64 << 20
"""What the bootstrap asks of the node: its limit is for the page cache of what it copies, which can be taken back."""

WITHDRAWN: Final = 5
"""Seconds that a pod still serves after it was told to end: until every node knows that it is no endpoint any more."""

LIVE_PERIOD: Final = 10
LIVE_FAILURES: Final = 6
"""A server that does not answer for a minute is started anew; one that is only busy is left alone."""

_MIB: Final = 1 << 20
_UNITS: Final = ((1 << 40, "Ti"), (1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki"))


def render_kubernetes(spec: DeploySpec, carrier: CarrierRef, image: JobImage, preset: Preset) -> Rendered:
    """Write the file that `kubectl apply --server-side -f FILE` takes: the server `image` as `preset` says it is run.

    Raises `UnusableInputError` for a preset that needs more than one container and one volume, for a variable that no
    container can be given, and for what Kubernetes cannot be told.
    """
    objects: Document = {
        "deployment": deployment(spec, carrier, image, preset, slot=None),
        "service": service(spec, slot=None),
    }
    return _rendered(spec.project, lay_out_objects(ALONE, objects))


def render_slots(spec: DeploySpec, carrier: CarrierRef, image: JobImage, preset: Preset) -> dict[str, Rendered]:
    """Write both slots, and the Service that selects the first of them, each into its own file. Raises as above."""
    texts = {
        name: lay_out_objects(SLOT, {"deployment": deployment(spec, carrier, image, preset, slot=name)})
        for name in ("a", "b")
    }
    texts["service"] = lay_out_objects(SERVICE, {"service": service(spec, slot=FIRST)})
    return {f"{name}.yml": _rendered(f"{spec.project}-{name}", text) for name, text in texts.items()}


def _rendered(project: str, text: str) -> Rendered:
    return Rendered(target="kubernetes", project=project, text=text)


def deployment(spec: DeploySpec, carrier: CarrierRef, image: JobImage, preset: Preset, *, slot: str | None) -> Document:
    """The Deployment of the service, or of one of its slots, as Kubernetes takes it."""
    _refuse(spec, preset)
    labels = _labels(spec, slot) | {"app.kubernetes.io/version": carrier.content_id.short}
    content: Document = {"annotations": {f"{LABEL}content": carrier.content_id.hex}}
    rolling: Document = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(spec, slot) | {"labels": labels} | content,
        "spec": {
            "replicas": 1,
            # A slot never runs two models at once.
            "strategy": {"type": "Recreate"} if slot else rolling,
            "progressDeadlineSeconds": math.ceil(spec.release.deadline),
            "selector": {"matchLabels": _selector(spec, slot)},
            "template": {
                "metadata": {"labels": labels, **content},
                "spec": _pod(spec, carrier, image, preset),
            },
        },
    }


def service(spec: DeploySpec, *, slot: str | None) -> Document:
    """The Service through which the pods are reached; with slots it selects one of them."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(spec, None) | {"labels": _labels(spec, None)},
        "spec": {
            "type": "ClusterIP",
            "selector": _selector(spec, slot),
            "ports": [{"name": "http", "port": spec.port, "targetPort": "http"}],
        },
    }


def _refuse(spec: DeploySpec, preset: Preset) -> None:
    refuse_unsupported(preset, "kubernetes")
    volume = spec.kubernetes.volume
    if volume.kind == "image" and volume.size is not None:
        raise UnusableInputError(
            "`kubernetes.volume.size` is the room for a copy, and an image volume is none", hint="remove it"
        )
    if volume.kind == "image" and spec.bootstrap == "pull":
        raise UnusableInputError(
            "`bootstrap: pull` fills a volume, and with `kubernetes.volume.kind: image` the carrier is mounted itself",
            hint="remove one of them: an image volume needs no bootstrap, and `emptyDir` can be filled",
        )
    if preset.drain_signal != "SIGTERM":
        raise UnusableInputError(
            f"preset `{preset.name}` ends by {preset.drain_signal}; Kubernetes sends SIGTERM",
            hint="set `STOPSIGNAL` in the server image, and `drain_signal: SIGTERM` in the preset",
        )


def _metadata(spec: DeploySpec, slot: str | None) -> Document:
    place: Document = {"namespace": spec.kubernetes.namespace} if spec.kubernetes.namespace else {}
    return {"name": _name(spec, slot), **place}


def _name(spec: DeploySpec, slot: str | None) -> str:
    return f"{spec.project}-{slot}" if slot else spec.project


def _selector(spec: DeploySpec, slot: str | None) -> Document:
    return {"app.kubernetes.io/name": spec.service, "app.kubernetes.io/instance": _name(spec, slot)}


def _labels(spec: DeploySpec, slot: str | None) -> Document:
    common: Document = {"app.kubernetes.io/part-of": spec.project, "app.kubernetes.io/managed-by": "mlops-deploy"}
    return _selector(spec, slot) | common | dict(spec.owner.labels(slot))


def _pod(spec: DeploySpec, carrier: CarrierRef, image: JobImage, preset: Preset) -> Document:
    copied = spec.kubernetes.volume.kind == "emptyDir"
    memory: Document = {"medium": "Memory", "sizeLimit": in_units(SERVER_TMP)}
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": WITHDRAWN + max(1, math.ceil(spec.release.drain)),
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        **({"initContainers": [_bootstrap(spec, carrier)]} if copied else {}),
        "containers": [_server(spec, carrier, image, preset)],
        "volumes": [
            _volume(spec.kubernetes.volume, carrier),
            {"name": "tmp", "emptyDir": memory},
            *(_files(spec.registry) if carrier.puller else []),
        ],
    }


def _volume(volume: KubernetesVolume, carrier: CarrierRef) -> Document:
    if volume.kind == "image":
        image = carrier.image
        return {"name": "model", "image": {"reference": image.ref, "pullPolicy": _pull_policy(image)}}
    limit: Document = {} if volume.size is None else {"sizeLimit": in_units(volume.size)}
    return {"name": "model", "emptyDir": limit}


def _room(volume: KubernetesVolume, carrier: CarrierRef) -> int | None:
    """What the copy takes of the node's disk: as the user says, else the model's size and a little for its folders."""
    if volume.kind == "image":
        return None
    if volume.size is not None or carrier.size is None:
        return volume.size
    return (carrier.size + carrier.size // 20 + _MIB) // _MIB * _MIB


def _files(registry: RegistrySpec) -> list[Value]:
    """What a bootstrap that pulls may read: one key of a secret, and of a config map."""
    files: list[Value] = []
    if registry.credentials is not None:
        items: list[Value] = [{"key": ".dockerconfigjson", "path": PurePosixPath(CREDENTIALS).name}]
        files.append({"name": "credentials", "secret": {"secretName": registry.credentials, "items": items}})
    if registry.ca is not None:
        items = [{"key": "ca.crt", "path": PurePosixPath(CA).name}]
        files.append({"name": "ca", "configMap": {"name": registry.ca, "items": items}})
    return files


def _bootstrap(spec: DeploySpec, carrier: CarrierRef) -> Document:
    variables, mounts = {"MODEL_ID": carrier.content_id.hex}, list[Value]()
    if carrier.puller is not None:
        refuse_paths(spec.registry)
        variables = in_container(spec, carrier, volume=VOLUME)
        places = {"credentials": variables.get("REGISTRY_AUTH_FILE"), "ca": variables.get("SSL_CERT_FILE")}
        mounts = [
            {"name": name, "mountPath": place, "subPath": PurePosixPath(place).name, "readOnly": True}
            for name, place in places.items()
            if place
        ]
    return {
        "name": "bootstrap",
        **_image(carrier.bootstrap),
        "env": _variables(variables),
        "resources": {
            "requests": {"memory": in_units(LEAST_MEMORY)},
            "limits": {"memory": in_units(BOOTSTRAP_MEMORY)},
        },
        "volumeMounts": [{"name": "model", "mountPath": VOLUME}, *mounts],
        "securityContext": _hardened(BOOTSTRAP_USER),
    }


def _server(spec: DeploySpec, carrier: CarrierRef, image: JobImage, preset: Preset) -> Document:
    path = f"{VOLUME}/v/{carrier.content_id.hex}"
    preset = fill_preset(preset, filling(preset, name=spec.model.name, content=carrier.content_id, path=path))
    # Of the carrier's tree the server sees the model alone, in a folder of its content id's name.
    mount: Document = {"mountPath": VOLUME}
    if spec.kubernetes.volume.kind == "image":
        mount = {"mountPath": path, "subPath": "models"}
    return {
        "name": "server",
        **_image(image),
        **({"command": _literals(preset.command)} if preset.command else {}),
        **({"args": _literals(preset.args)} if preset.args else {}),
        "env": _variables(environment(spec, carrier, preset)),
        "ports": [{"name": "http", "containerPort": preset.ports.http}],
        **_probes(preset, spec.ready.deadline),
        "lifecycle": {"preStop": {"sleep": {"seconds": WITHDRAWN}}},
        **_resources(spec.resources, _room(spec.kubernetes.volume, carrier)),
        "volumeMounts": [
            {"name": "model", **mount, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a folder inside the container
        ],
        "securityContext": _hardened(spec.user or f"{preset.uid}:{preset.uid}"),
    }


def _image(image: JobImage) -> Document:
    return {"image": image.ref, "imagePullPolicy": _pull_policy(image)}


def _pull_policy(image: JobImage) -> str:
    return "Never" if image.local else "IfNotPresent"


def _hardened(user: str) -> Document:
    uid, _, gid = user.partition(":")
    return {
        "runAsUser": int(uid),
        **({"runAsGroup": int(gid)} if gid else {}),
        "runAsNonRoot": int(uid) != 0,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }


def _probes(preset: Preset, deadline: float) -> Document:
    """The server is asked for proof; that it is alive, only once it has given it."""
    beat = rhythm(deadline)
    ready: Document = {"command": _literals(preset.ready.command)}
    often, timeout = math.ceil(beat.start_interval), math.ceil(beat.timeout)
    live: Document = {
        "httpGet": {"path": preset.live or "", "port": "http"},
        "periodSeconds": LIVE_PERIOD,
        "timeoutSeconds": LIVE_PERIOD,
        "failureThreshold": LIVE_FAILURES,
    }
    return {
        "startupProbe": {
            "exec": ready,
            "periodSeconds": often,
            "timeoutSeconds": timeout,
            "failureThreshold": math.ceil(deadline / often),
        },
        "readinessProbe": {
            "exec": ready,
            "periodSeconds": math.ceil(beat.interval),
            "timeoutSeconds": timeout,
            "failureThreshold": RETRIES,
        },
        **({"livenessProbe": live} if preset.live else {}),
    }


def _resources(resources: Resources, room: int | None) -> Document:
    cpu: Document = {} if resources.cpu is None else {"cpu": f"{math.ceil(round(resources.cpu * 1000, 6))}m"}
    memory: Document = {} if resources.memory is None else {"memory": in_units(resources.memory)}
    asked: Document = {} if room is None else {"ephemeral-storage": in_units(room)}
    stated: Document = {name: value for name, value in {"requests": asked, "limits": cpu | memory}.items() if value}
    return {"resources": stated} if stated else {}


def _variables(variables: Mapping[str, str]) -> list[Value]:
    return [{"name": name, "value": _literal(value)} for name, value in variables.items()]


def _literals(texts: tuple[str, ...]) -> list[Value]:
    return [_literal(text) for text in texts]


def _literal(text: str) -> str:
    """`text` as the kubelet will give it on: it takes `$(NAME)` for a variable, and `$$` for a dollar."""
    return text.replace("$", "$$")


def in_units(count: int) -> str:
    """`count` bytes as a quantity, in the largest binary unit that divides them."""
    size, unit = next(((size, unit) for size, unit in _UNITS if count % size == 0), (1, ""))
    return f"{count // size}{unit}"
