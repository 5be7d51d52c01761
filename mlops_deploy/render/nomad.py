"""One service as a Nomad job: the API's own document. A bootstrap ends, then a server starts; a service says where.

The same document is what a release registers, what `render` writes as JSON, and what `hcl` lays out for people.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, cast

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.render.layout import Document, Value, refuse_unspeakable
from mlops_deploy.render.nomad_fingerprint import signed
from mlops_deploy.render.nomad_tasks import BOOTSTRAP_LOGS, MODELS, SERVER_LOGS, bootstrap, memory, server, spent
from mlops_deploy.render.nomad_text import nanoseconds, refuse_replaced
from mlops_deploy.spec.deploy import DeploySpec, JsonValue
from mlops_deploy.spec.nomad import Affinity, Constraint, NomadSpec, NomadVolume, Spread
from mlops_deploy.spec.owner import LABEL, Owner
from mlops_deploy.spec.preset import Preset
from mlops_deploy.spec.rendered import CarrierRef, JobImage
from mlops_deploy.spec.units import show_duration

GROUP: Final = "model"
"""The one group of the job: what runs on one node, and shares one directory."""

COPYING: Final = 600.0
"""Seconds that a job's own deadlines leave for copying a model: 30 GB at the 50 MB/s of a slow disk."""

HEALTHY: Final = 2.0
"""Seconds for which a server has to pass its check before a deployment counts it."""

_PULLS: Final = 2
"""The carrier and the server image, one after the other."""

_MARGIN: Final = 60.0
_CAP: Final = 30.0
"""Seconds that a client gives a task to end, unless it is configured otherwise (`max_kill_timeout`)."""

_IGNORED: Final = 300.0
"""Seconds after which Nomad 2.0.1 to 2.0.5 give up a pull, whatever a job says (hashicorp/nomad#28496)."""

_SHARED: Final = {"AccessMode": "single-node-multi-writer", "AttachmentMode": "file-system"}
"""A volume that the bootstrap writes to while the server reads it."""


def document(spec: DeploySpec, carrier: CarrierRef, image: JobImage, preset: Preset) -> Document:
    """A job that needs nothing beside itself: the service on its own, or a batch run.

    Raises `UnusableInputError` for what Nomad cannot be told exactly, and for a batch run without a command.
    """
    labels = spec.owner.labels() | {f"{LABEL}content": carrier.content_id.hex}
    return named(spec.project, _job(spec, carrier, image, preset), labels)


def slot_job(spec: DeploySpec, carrier: CarrierRef, image: JobImage, preset: Preset) -> Document:
    """Bootstrap and server of one artefact, without anything that depends on the slot they run in.

    Raises `UnusableInputError` as `document` does, and for a batch run, which has nothing that a release could switch.
    """
    if spec.nomad.type == "batch":
        raise UnusableInputError(
            "`nomad.type` is `batch`: a batch run answers nobody, so there is nothing to release",
            hint="`mlops-deploy render --target nomad` writes its job",
        )
    # The router follows the addresses of slots in Nomad's own catalogue, and a slot is one server.
    own = replace(spec.nomad, provider="nomad", count=1)
    return _job(replace(spec, nomad=own), carrier, image, preset)


def warnings(spec: DeploySpec) -> list[str]:
    """What a cluster may not do as the service says, and how to see to it."""
    nomad, told = spec.nomad, []
    if spec.resources.memory is None:
        told.append(f"no `resources.memory`: a job on Nomad has a limit, and the server gets {memory(spec)} MiB")
    if spec.release.drain > _CAP:
        told.append(
            f"`release.drain` is {show_duration(spec.release.drain)}: clients cut it at {show_duration(_CAP)} unless "
            "their `max_kill_timeout` is longer"
        )
    if nomad.pull_timeout > _IGNORED:
        told.append(
            f"`nomad.pull_timeout` is {show_duration(nomad.pull_timeout)}: Nomad 2.0.1 to 2.0.5 give up pulling after "
            f"{show_duration(_IGNORED)} (hashicorp/nomad#28496); have big images on the nodes, or use another version"
        )
    return told


def release_warnings(spec: DeploySpec) -> list[str]:
    """`warnings`, and what the service says that a release does otherwise."""
    told = warnings(spec)
    if spec.nomad.provider != "nomad":
        told.append(
            f"`nomad.provider` is `{spec.nomad.provider}`: a release registers its servers in Nomad's own catalogue, "
            "which the router follows"
        )
    if spec.nomad.count > 1:
        told.append(f"`nomad.count` is {spec.nomad.count}: only `--native` runs so many servers, a slot runs one")
    return told


def slot_document(owner: Owner, slot: str, job: Mapping[str, JsonValue], *, content: str, key: str) -> Document:
    """The complete job of `slot` that runs `job`; the model `content` and the artefact `key` are in its meta.

    Another key makes Nomad replace the allocation; the same job leaves it alone.
    """
    labels = owner.labels(slot) | {f"{LABEL}content": content, f"{LABEL}key": key}
    return signed(named(f"{owner.project}-{slot}", cast("Document", job), labels))


def named(name: str, job: Document, labels: Mapping[str, str]) -> Document:
    """`job` under its own name: what it is called, its service, and a volume that is its own."""
    (group,) = cast("list[dict[str, Value]]", job["TaskGroups"])
    own: dict[str, Value] = {"Source": f"{name}-{MODELS}"}
    tasks: list[Value] = [_serving(name, task) for task in cast("list[Document]", group["Tasks"])]
    volumes: Document = {key: own | cast("Document", one) for key, one in _map(group, "Volumes").items()}
    named: Document = {**group, "Tasks": tasks, **({"Volumes": volumes} if volumes else {})}
    meta: Document = {**_map(job, "Meta"), **labels}
    return {"ID": name, "Name": name, **job, "Meta": meta, "TaskGroups": [named]}


def volume_of(job: Mapping[str, JsonValue]) -> tuple[str, bool] | None:
    """The host volume that a complete job needs, and whether it is one of the job's own; None where it needs none."""
    group = cast("list[dict[str, dict[str, Document]]]", job["TaskGroups"])[0]
    if "Volumes" not in group:
        return None
    volume = group["Volumes"][MODELS]
    return str(volume["Source"]), "AccessMode" in volume


def _serving(name: str, task: Document) -> Document:
    services: list[Value] = [{"Name": name, **one} for one in cast("list[Document]", task.get("Services", []))]
    return {**task, **({"Services": services} if services else {})}


def _map(document: Document, key: str) -> Document:
    return cast("Document", document.get(key, {}))


def _job(spec: DeploySpec, carrier: CarrierRef, image: JobImage, preset: Preset) -> Document:
    nomad = spec.nomad
    refuse_replaced("nomad.meta", nomad.meta)
    lists: dict[str, list[Value]] = {
        "Constraints": [constraint(one) for one in nomad.constraints],
        "Affinities": [_affinity(one) for one in nomad.affinities],
        "Spreads": [_spread(one) for one in nomad.spreads],
    }
    job: Document = {
        "Type": nomad.type,
        **placed(nomad),
        **{key: value for key, value in lists.items() if value},
        **_periodic(nomad),
        "Meta": cast("Value", dict(nomad.meta)),
        "TaskGroups": [_group(spec, carrier, image, preset)],
    }
    refuse_unspeakable(job, ())
    return job


def placed(nomad: NomadSpec) -> Document:
    """Where a job runs, and how important it is: what the section says, and nothing of what it leaves open."""
    chosen = {
        "Region": nomad.region,
        "Namespace": nomad.namespace,
        "NodePool": nomad.node_pool,
        "Priority": nomad.priority,
    }
    return {**{key: value for key, value in chosen.items() if value is not None}, "Datacenters": [*nomad.datacenters]}


def _periodic(nomad: NomadSpec) -> Document:
    if nomad.periodic is None:
        return {}
    # One run at a time: the next one would read the very model that the last one still copies.
    when: Document = {"Enabled": True, "SpecType": "cron", "Specs": [nomad.periodic], "ProhibitOverlap": True}
    return {"Periodic": when | {"TimeZone": "UTC"}}


def constraint(one: Constraint) -> Document:
    """A constraint as the API has it."""
    return {"LTarget": one.attribute, "RTarget": one.value, "Operand": one.operator}


def _affinity(one: Affinity) -> Document:
    return {"LTarget": one.attribute, "RTarget": one.value, "Operand": one.operator, "Weight": one.weight}


def _spread(one: Spread) -> Document:
    targets: list[Value] = [{"Value": value, "Percent": share} for value, share in sorted(one.targets.items())]
    return {"Attribute": one.attribute, "Weight": one.weight, **({"SpreadTarget": targets} if targets else {})}


def _group(spec: DeploySpec, carrier: CarrierRef, image: JobImage, preset: Preset) -> Document:
    serves = spec.nomad.type == "service"
    ports: list[Value] = [{"Label": "http", "To": preset.ports.http}]
    return {
        "Name": GROUP,
        "Count": spec.nomad.count if serves else 1,
        **({"Update": _update(spec)} if serves else {}),
        "ReschedulePolicy": _elsewhere() if serves else _again(),
        "EphemeralDisk": {"SizeMB": _disk(spec.nomad.volume, carrier)},
        **({"Networks": [{"DynamicPorts": ports}]} if serves else {}),
        **_volumes(spec.nomad.volume),
        "Tasks": [bootstrap(spec, carrier), server(spec, carrier, image, preset)],
    }


def _update(spec: DeploySpec) -> Document:
    """Deadlines of Nomad's own that end later than everything that a job has to do before it is healthy."""
    healthy = _PULLS * spec.nomad.pull_timeout + COPYING + spec.ready.deadline + _MARGIN
    return {
        "MaxParallel": 1,
        "HealthCheck": "checks",
        "MinHealthyTime": nanoseconds(HEALTHY),
        "HealthyDeadline": nanoseconds(healthy),
        "ProgressDeadline": nanoseconds(max(healthy, spec.release.drain) + _MARGIN),
        "AutoRevert": False,
        "Canary": 0,
    }


def _elsewhere() -> Document:
    """For as long as the job is wanted: a server that does not come up here is started on another node."""
    wait: Document = {"Delay": nanoseconds(10), "DelayFunction": "exponential", "MaxDelay": nanoseconds(300)}
    return wait | {"Unlimited": True}


def _again() -> Document:
    """A run that failed may have met a bad node: once more, then it has failed."""
    rest: Document = {"Delay": nanoseconds(30), "DelayFunction": "constant", "Unlimited": False}
    return {"Attempts": 1, "Interval": nanoseconds(24 * 3600), **rest}


def _disk(volume: NomadVolume, carrier: CarrierRef) -> int:
    """Megabytes of the allocation's directory: the logs of both tasks, and the model where it is copied there."""
    logs = spent(BOOTSTRAP_LOGS) + spent(SERVER_LOGS) + _SLACK
    if volume.kind != "alloc":
        return logs
    # A twentieth for what a file system adds to many small files.
    model = _UNKNOWN if carrier.size is None else carrier.size + carrier.size // 20
    return logs + -(-(volume.size or model) >> 20)


_UNKNOWN: Final = 300 << 20
"""Bytes that Nomad itself gives a job that does not say how much it needs."""

_SLACK: Final = 16


def _volumes(volume: NomadVolume) -> Document:
    match volume.kind:
        case "alloc":
            return {}
        case "host":
            if volume.name is None:
                raise UnusableInputError(
                    "`nomad.volume.kind` is `host`, and `nomad.volume.name` says no host volume",
                    hint="name one that the clients are configured with, or use `kind: alloc`",
                )
            return {"Volumes": {MODELS: {"Name": MODELS, "Type": "host", "Source": volume.name}}}
        case "dynamic":
            return {"Volumes": {MODELS: {"Name": MODELS, "Type": "host", **_SHARED}}}
