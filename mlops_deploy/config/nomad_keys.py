"""The section `nomad` of `mlops.yml`, in Nomad's own words."""

from collections.abc import Iterator, Mapping
from typing import Final, get_args

from mlops_deploy.config.amounts import SIZE, WAIT
from mlops_deploy.config.cron import cron_line
from mlops_deploy.config.fields import NOTHING, Field, Table, Values
from mlops_deploy.config.kinds import Choice, ListOf, MapOf, Parsed, Text, Whole
from mlops_deploy.spec.nomad import (
    Affinity,
    Constraint,
    Device,
    JobType,
    NomadSpec,
    NomadVolume,
    Provider,
    Spread,
    VolumeKind,
)
from mlops_deploy.spec.refs import IMAGE_REF_PATTERN, ImageRef
from mlops_deploy.spec.units import show_duration

Mistake = tuple[tuple[str, ...], str, str]
"""Where a mistake is, what it is, and a hint."""

_DEFAULT: Final = NomadSpec()
_TYPES: Final[tuple[JobType, ...]] = get_args(JobType)
_PROVIDERS: Final[tuple[Provider, ...]] = get_args(Provider)
_VOLUMES: Final[tuple[VolumeKind, ...]] = get_args(VolumeKind)
_NAME: Final = r"[A-Za-z0-9_-]{1,128}"
_COMPARED: Final = (
    "=", "!=", "<", "<=", ">", ">=", "regexp", "version", "semver",
    "set_contains", "set_contains_all", "set_contains_any",
)  # fmt: skip
_FOUND: Final = (*_COMPARED, "is_set", "is_not_set", "distinct_hosts", "distinct_property")
_NO_VALUE: Final = ("is_set", "is_not_set", "distinct_hosts")

_ATTRIBUTE: Final = Field(
    "attribute",
    Text("what Nomad knows of a node, such as `${attr.cpu.arch}`", limit=200),
    doc="What is looked at.",
    default="",
    example="${attr.cpu.arch}",
)
_NODE: Final = Field(
    "attribute", _ATTRIBUTE.kind, doc=_ATTRIBUTE.doc, default="", example=_ATTRIBUTE.example, required=True
)
_VALUE: Final = Field(
    "value",
    Text("a text", limit=200, written=True),
    doc="What it is compared with.",
    default="",
    example="amd64",
)
_OPERATOR: Final[Field[str]] = Field("operator", Choice(_FOUND), doc="How it is compared.", default="=", example='"="')
_COMPARING: Final[Field[str]] = Field(
    "operator", Choice(_COMPARED), doc="How it is compared.", default="=", example='"="'
)
_PREFERENCE: Final = Field("weight", Whole(-100, 100), doc="How much it counts.", default=50, example="50")
_WEIGHT: Final = Field("weight", Whole(1, 100), doc="How much it counts.", default=50, example="50")
_PERCENT: Final = Field("percent", Whole(0, 100), doc="The share.", default=0, example="50", required=True)
_THEIRS: Final = Field("value", _VALUE.kind, doc=_VALUE.doc, default="", example="fast", required=True)
_OF: Final = Field("value", _VALUE.kind, doc="A value of the attribute.", default="", example="dc1", required=True)
_TARGETS: Final[Field[tuple[Values, ...]]] = Field(
    "targets", ListOf(Table((_OF, _PERCENT))), doc="Shares of some values.", default=()
)
_DEVICE_NAME: Final = Field(
    "name",
    Text("a device such as `nvidia/gpu`", r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+){0,2}", limit=200),
    doc="Type of the device, with or without vendor and model.",
    default="",
    example="nvidia/gpu",
    required=True,
)
_DEVICES: Final = Field("count", Whole(1, 1024), doc="How many.", default=1, example="1")

NAMESPACE: Final[Field[str | None]] = Field(
    "namespace",
    Text("letters, digits and `-`, at most 128", r"[A-Za-z0-9-]{1,128}", limit=128),
    doc="Namespace of the jobs and of what a release writes down. An overlay may name one for its environment.",
    default=_DEFAULT.namespace,
    example="predictions",
    shown="that of NOMAD_NAMESPACE, else `default`",
)
REGION: Final[Field[str | None]] = Field(
    "region",
    Text("the name of a region", _NAME, limit=128),
    doc="Region of the jobs.",
    default=_DEFAULT.region,
    example="global",
    shown="that of NOMAD_REGION, else the one of the agent that is asked",
)
DATACENTERS: Final = Field(
    "datacenters",
    ListOf(Text("a datacenter, in which `*` stands for anything", r"[^\s\x00-\x1f\x7f]+", limit=128), least=1),
    doc="Datacenters that the jobs may run in.",
    default=_DEFAULT.datacenters,
    example="[dc1]",
    shown="all",
)
NODE_POOL: Final[Field[str | None]] = Field(
    "node_pool",
    Text("letters, digits, `-` and `_`, at most 128", _NAME, limit=128),
    doc="Node pool that the jobs run in.",
    default=_DEFAULT.node_pool,
    example="gpu",
    shown="the namespace's",
)
PRIORITY: Final[Field[int | None]] = Field(
    "priority",
    Whole(1, 100),
    doc="Which jobs come first when there is not room for all.",
    default=_DEFAULT.priority,
    example="50",
    shown="50",
)
COUNT: Final = Field(
    "count",
    Whole(1, 1000),
    doc="How many servers a job without slots runs; a slot runs one.",
    default=_DEFAULT.count,
    example="1",
    shown="1",
)
TYPE: Final[Field[JobType]] = Field(
    "type",
    Choice(_TYPES),
    doc="`service` answers requests; `batch` runs `command` beside the model to its end: it is rendered, not released.",
    default=_DEFAULT.type,
    example="batch",
    shown=_DEFAULT.type,
)
COMMAND: Final[Field[tuple[str, ...]]] = Field(
    "command",
    ListOf(Text("a program or an argument", r"[^\x00]*", limit=8192, written=True)),
    doc="What a batch run runs in the server image, with MODEL_PATH in its environment.",
    default=_DEFAULT.command,
    example="[python, -m, predict]",
    shown="none",
)
PERIODIC: Final[Field[str | None]] = Field(
    "periodic",
    Parsed(Text("a cron line or `@daily`", r"@[a-z]+|[^\s@]\S*( +\S+){4,6}", limit=200), cron_line),
    doc="When a batch run runs again, in UTC; one that still runs is not joined by another.",
    default=_DEFAULT.periodic,
    example='"@daily"',
    shown="once",
)
PROVIDER: Final[Field[Provider]] = Field(
    "provider",
    Choice(_PROVIDERS),
    doc="Catalogue that a rendered service is registered in. A release finds its slots in Nomad's own.",
    default=_DEFAULT.provider,
    example="nomad",
    shown=_DEFAULT.provider,
)
VOLUME_KIND: Final[Field[VolumeKind]] = Field(
    "kind",
    Choice(_VOLUMES),
    doc=(
        "`alloc`: the allocation's own directory, with nothing to configure. `host`: a host volume that the clients "
        "are configured with, writable for the user 65532. `dynamic`: a host volume of each slot's own, which a "
        "release creates when it is missing (Nomad 1.10 or newer)."
    ),
    default=_DEFAULT.volume.kind,
    example="host",
    shown=_DEFAULT.volume.kind,
)
VOLUME_NAME: Final[Field[str | None]] = Field(
    "name",
    Text("the name of a host volume", _NAME, limit=128),
    doc="Name of the volume, for `host`.",
    default=_DEFAULT.volume.name,
    example="models",
)
VOLUME_SIZE: Final[Field[int | None]] = Field(
    "size",
    SIZE,
    doc="Room for the model: what a node must have left for `alloc`, and the size of a `dynamic` volume.",
    default=_DEFAULT.volume.size,
    example="2Gi",
    shown="that of the model, else 300Mi",
)
_VOLUME_TABLE: Final = Table((VOLUME_KIND, VOLUME_NAME, VOLUME_SIZE), doc="Where the model is copied to.")
VOLUME: Final[Field[Values]] = Field("volume", _VOLUME_TABLE, doc=_VOLUME_TABLE.doc, default=NOTHING)
ROUTER_IMAGE: Final[Field[str | None]] = Field(
    "router_image",
    Parsed(
        Text("an image reference such as `NAME:TAG` or `NAME@sha256:…`", IMAGE_REF_PATTERN),
        lambda text: str(ImageRef.parse(text)),
    ),
    doc="The router's image in a registry, for nodes that do not share the local engine, or where there is none.",
    default=_DEFAULT.router_image,
    example="registry.example.com/ml/router:1.0",
    shown="the one that a release builds",
)
PULL_TIMEOUT: Final = Field(
    "pull_timeout",
    WAIT,
    doc="How long pulling one image may take. Nomad 2.0.1 to 2.0.5 give up after 5m, whatever is said here.",
    default=_DEFAULT.pull_timeout,
    example="5m",
    shown=show_duration(_DEFAULT.pull_timeout),
)
SHUTDOWN_DELAY: Final = Field(
    "shutdown_delay",
    WAIT,
    doc="How long a server, or the router, goes on after it left the catalogue, for those who have just looked it up.",
    default=_DEFAULT.shutdown_delay,
    example="2s",
    shown=show_duration(_DEFAULT.shutdown_delay),
)
CORES: Final[Field[int | None]] = Field(
    "cores",
    Whole(1, 4096),
    doc="Cores of the node for the server alone. Without it `resources.cpu` is a share: 1,000 MHz for a core.",
    default=_DEFAULT.cores,
    example="2",
)
MEMORY_MAX: Final[Field[int | None]] = Field(
    "memory_max",
    SIZE,
    doc="Limit of the server's memory on a cluster that allows more than `resources.memory`, which is then reserved.",
    default=_DEFAULT.memory_max,
    example="2Gi",
    shown="`resources.memory`, else 1Gi",
)
CONSTRAINTS: Final[Field[tuple[Values, ...]]] = Field(
    "constraints",
    ListOf(Table((_ATTRIBUTE, _OPERATOR, _VALUE))),
    doc="Nodes that may run the service: all of this holds for them.",
    default=(),
    example='[{attribute: "${attr.cpu.arch}", value: amd64}]',
)
AFFINITIES: Final[Field[tuple[Values, ...]]] = Field(
    "affinities",
    ListOf(Table((_NODE, _COMPARING, _THEIRS, _PREFERENCE))),
    doc="Nodes that are preferred, or avoided with a negative weight.",
    default=(),
    example='[{attribute: "${node.class}", value: fast, weight: 50}]',
)
SPREADS: Final[Field[tuple[Values, ...]]] = Field(
    "spreads",
    ListOf(Table((_NODE, _WEIGHT, _TARGETS))),
    doc="What servers are spread over.",
    default=(),
    example='[{attribute: "${node.datacenter}", targets: [{value: dc1, percent: 50}]}]',
)
DEVICES: Final[Field[tuple[Values, ...]]] = Field(
    "devices",
    ListOf(Table((_DEVICE_NAME, _DEVICES))),
    doc="Devices of the node for the server, a GPU say.",
    default=(),
    example="[{name: nvidia/gpu, count: 1}]",
)
META: Final[Field[Mapping[str, str]]] = Field(
    "meta",
    MapOf(r"(?!io\.mlops-deploy\.)[A-Za-z0-9_.-]{1,128}", Text("one line of text", written=True)),
    doc="Meta of the jobs, beside ours.",
    default={},
    example="{team: forecasting}",
)

_TABLE: Final = Table(
    (
        NAMESPACE, REGION, DATACENTERS, NODE_POOL, PRIORITY, COUNT, TYPE, COMMAND, PERIODIC, PROVIDER, VOLUME,
        ROUTER_IMAGE, PULL_TIMEOUT, SHUTDOWN_DELAY, CORES, MEMORY_MAX, CONSTRAINTS, AFFINITIES, SPREADS, DEVICES, META,
    ),
    doc="How the service runs on Nomad.",
)  # fmt: skip
NOMAD: Final[Field[Values]] = Field("nomad", _TABLE, doc=_TABLE.doc, default=NOTHING)


def nomad_spec(section: Values) -> NomadSpec:
    """What the section says."""
    volume = section[VOLUME]
    return NomadSpec(
        namespace=section[NAMESPACE],
        region=section[REGION],
        datacenters=section[DATACENTERS],
        node_pool=section[NODE_POOL],
        priority=section[PRIORITY],
        count=section[COUNT],
        type=section[TYPE],
        command=section[COMMAND],
        periodic=section[PERIODIC],
        provider=section[PROVIDER],
        volume=NomadVolume(kind=volume[VOLUME_KIND], name=volume[VOLUME_NAME], size=volume[VOLUME_SIZE]),
        router_image=section[ROUTER_IMAGE],
        pull_timeout=section[PULL_TIMEOUT],
        shutdown_delay=section[SHUTDOWN_DELAY],
        cores=section[CORES],
        memory_max=section[MEMORY_MAX],
        constraints=tuple(
            Constraint(attribute=one[_ATTRIBUTE], value=one[_VALUE], operator=one[_OPERATOR])
            for one in section[CONSTRAINTS]
        ),
        affinities=tuple(
            Affinity(attribute=one[_NODE], value=one[_THEIRS], operator=one[_COMPARING], weight=one[_PREFERENCE])
            for one in section[AFFINITIES]
        ),
        spreads=tuple(
            Spread(
                attribute=one[_NODE],
                weight=one[_WEIGHT],
                targets={target[_OF]: target[_PERCENT] for target in one[_TARGETS]},
            )
            for one in section[SPREADS]
        ),
        devices=tuple(Device(name=one[_DEVICE_NAME], count=one[_DEVICES]) for one in section[DEVICES]),
        meta=section[META],
    )


def mistakes(nomad: NomadSpec, memory: int | None) -> Iterator[Mistake]:
    """What no single key can tell; `memory` is that of `resources`."""
    if nomad.type == "batch" and not nomad.command:
        yield ("type",), "a `batch` job needs `nomad.command`", "name a program of the server image and its arguments"
    if nomad.type != "batch" and nomad.command:
        yield ("command",), "`nomad.command` is for `type: batch`", "a service runs what its preset says"
    if nomad.type != "batch" and nomad.periodic:
        yield ("periodic",), "`nomad.periodic` is for `type: batch`", "a service runs all the time"
    if nomad.volume.kind == "host" and not nomad.volume.name:
        yield ("volume", "kind"), "a `host` volume needs `nomad.volume.name`", "name one that the clients have"
    if nomad.volume.kind != "host" and nomad.volume.name:
        hint = f"`kind: {nomad.volume.kind}` needs no name"
        yield ("volume", "name"), "`nomad.volume.name` is for `kind: host`", hint
    if nomad.memory_max is not None and nomad.memory_max < (memory or 0):
        yield ("memory_max",), "`nomad.memory_max` is less than `resources.memory`", "it is the greater of both"
    yield from _comparisons(nomad)


def _comparisons(nomad: NomadSpec) -> Iterator[Mistake]:
    for one in nomad.constraints:
        if one.operator != "distinct_hosts" and not one.attribute:
            yield ("constraints",), f"a constraint with the operator `{one.operator}` needs an `attribute`", "name one"
        if bool(one.value) == (one.operator in _NO_VALUE) and one.operator != "distinct_property":
            needs, hint = ("takes no", "remove it") if one.value else ("needs a", "say what it is compared with")
            yield ("constraints",), f"a constraint with the operator `{one.operator}` {needs} `value`", hint
    for other in nomad.affinities:
        if not other.weight:
            yield ("affinities",), "an affinity of the weight 0 says nothing", "avoid with -1 to -100"
    for spread in nomad.spreads:
        if sum(spread.targets.values()) > _ALL:
            yield ("spreads",), "the percentages of a spread are more than 100 together", "leave some for the others"


_ALL: Final = 100
