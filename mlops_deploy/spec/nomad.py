"""What a service may say about how it runs on a Nomad cluster, in Nomad's own words; seconds and bytes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

JobType = Literal["service", "batch"]
VolumeKind = Literal["alloc", "host", "dynamic"]
Provider = Literal["nomad", "consul"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A node is chosen only when `attribute operator value` holds."""

    attribute: str
    value: str = ""
    operator: str = "="


@dataclass(frozen=True, slots=True, kw_only=True)
class Affinity:
    """A node is preferred (`weight` 1 to 100), or avoided (-100 to -1), when `attribute operator value` holds."""

    attribute: str
    value: str = ""
    operator: str = "="
    weight: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Allocations are spread over the values of `attribute`, in per cent where `targets` names some."""

    attribute: str
    weight: int = 50
    targets: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device that the server needs, such as `nvidia/gpu`, and how many of it."""

    name: str
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class NomadVolume:
    """Where the model is copied to.

    `alloc`: the allocation's own directory, which needs no configuration of a client. `host`: the host volume `name`
    that clients are configured with. `dynamic`: a host volume of each slot's own, created when it is missing. `size` of
    the ephemeral disk, or of a dynamic volume.
    """

    kind: VolumeKind = "alloc"
    name: str | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NomadSpec:
    """The section `nomad` of `mlops.yml`. None leaves a thing to the cluster, or to the environment's `NOMAD_*`.

    A job without slots runs `count` servers; a slot runs one. `cores` are reserved for the server alone; without them
    its `cpu` is a share. A job of the type `batch` runs `command` in the server image to its end, each time that
    `periodic`, a cron line, says. `router_image` is the image of the router in a registry, where it is not the one that
    a release builds in the local engine.
    """

    namespace: str | None = None
    region: str | None = None
    datacenters: tuple[str, ...] = ("*",)
    node_pool: str | None = None
    priority: int | None = None
    count: int = 1
    type: JobType = "service"
    command: tuple[str, ...] = ()
    periodic: str | None = None
    provider: Provider = "nomad"
    volume: NomadVolume = field(default_factory=NomadVolume)
    router_image: str | None = None
    pull_timeout: float = 300.0
    shutdown_delay: float = 2.0
    cores: int | None = None
    memory_max: int | None = None
    constraints: tuple[Constraint, ...] = ()
    affinities: tuple[Affinity, ...] = ()
    spreads: tuple[Spread, ...] = ()
    devices: tuple[Device, ...] = ()
    meta: Mapping[str, str] = field(default_factory=dict)
