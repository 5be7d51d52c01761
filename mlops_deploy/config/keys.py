"""The keys of `mlops.yml`: one row each, for decoder, reference, schema and example alike."""

from pathlib import Path
from typing import Final, get_args

from mlops_deploy.config.amounts import DEADLINE, SIZE, WAIT
from mlops_deploy.config.environment import Environment
from mlops_deploy.config.fields import NOTHING, Field, Table, Values
from mlops_deploy.config.kinds import Choice, JsonMap, ListOf, Number, Parsed, PathOrUrl, PathTo, Text, Whole
from mlops_deploy.config.kubernetes_keys import KUBERNETES
from mlops_deploy.config.nomad_keys import NOMAD
from mlops_deploy.config.registry_keys import BOOTSTRAP, REGISTRY
from mlops_deploy.spec.deploy import Compat, JsonValue, Ready, ReleaseSpec, Strategy, Target
from mlops_deploy.spec.refs import IMAGE_REF_PATTERN, MODEL_NAME_PATTERN, ImageRef
from mlops_deploy.spec.units import show_duration

SERVICE_PATTERN: Final = r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?"
RESERVED: Final = (
    "MODEL", "MODEL_ID", "MODEL_NAME", "MODEL_PATH", "MODEL_VOLUME", "PORT", "GRPC_PORT", "GOLDEN", "HOOK",
)  # fmt: skip

_REQUIREMENT: Final = (
    r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9._, -]*\])?"
    r"( ?(===|==|~=|!=|<=|>=|<|>) ?[A-Za-z0-9.*+!_-]+( ?, ?(===|==|~=|!=|<=|>=|<|>) ?[A-Za-z0-9.*+!_-]+)*)?"
)

_NAME: Final = Text("lower-case letters, digits and `-`, a letter first, at most 32", SERVICE_PATTERN, limit=32)
_MODEL_NAME: Final = Text(
    "lower-case letters, digits, `.`, `_` and `-`, at most 63, not `v`", MODEL_NAME_PATTERN, limit=63
)
_IMAGE: Final = Parsed(
    Text("an image reference such as `NAME:TAG` or `NAME@sha256:…`", IMAGE_REF_PATTERN),
    lambda text: str(ImageRef.parse(text)),
)
_READY: Final = Ready()
_RELEASE: Final = ReleaseSpec()

SERVICE: Final = Field(
    "service",
    _NAME,
    doc="Name of the service. Everything that belongs to it, on every target, starts with it.",
    default="",
    example="digits",
    required=True,
)

MODEL_PATH: Final[Field[Path | str | None]] = Field(
    "path",
    PathOrUrl("the model, a file or a folder on this machine"),
    doc=(
        "The model: a file or a folder, relative to this file, or one file behind `https://`, which is streamed and "
        "never kept here. It need not be there before `build-model`."
    ),
    default=None,
    example="model.joblib",
    required=True,
)
MODEL_SHA256: Final[Field[str | None]] = Field(
    "sha256",
    Text("64 lower-case hex digits", r"[0-9a-f]{64}", limit=64),
    doc=("What a model behind `https://` must hash to. Without it the first build pins what it finds in `mlops.lock`."),
    default=None,
    example='"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"',
    shown="what `mlops.lock` pins",
)
MODEL_NAME: Final[Field[str | None]] = Field(
    "name",
    _MODEL_NAME,
    doc="Name of the model in its carrier, on the volume and in URLs.",
    default=None,
    example="digits",
    shown="the name of the service",
)
MODEL_REQUIRES: Final[Field[tuple[str, ...]]] = Field(
    "requires",
    ListOf(Text("a requirement such as `scikit-learn==1.7.2`", _REQUIREMENT, limit=200)),
    doc="Python packages that the model needs in its server, recorded in the carrier.",
    default=(),
    example="[scikit-learn==1.7.2]",
    shown="none",
)
MODEL_LICENCE: Final[Field[str | None]] = Field(
    "licence",
    Text("a licence, best as SPDX expression such as `Apache-2.0`", limit=200),
    doc="Licence of the model, recorded in the carrier.",
    default=None,
    example="Apache-2.0",
)
MODEL_SIGNATURE: Final[Field[dict[str, JsonValue] | None]] = Field(
    "signature",
    JsonMap(),
    doc="Inputs and outputs of the model, recorded in the carrier as they stand here.",
    default=None,
    example="{inputs: [{name: input-0, datatype: FP64, shape: [-1, 64]}]}",
)
_MODEL_TABLE: Final = Table(
    (MODEL_PATH, MODEL_SHA256, MODEL_NAME, MODEL_REQUIRES, MODEL_LICENCE, MODEL_SIGNATURE),
    doc="The model: what `build-model` puts into a carrier.",
)
MODEL: Final[Field[Values]] = Field(
    "model",
    _MODEL_TABLE,
    doc=_MODEL_TABLE.doc,
    default=NOTHING,
    example="{path: model.joblib}",
    required=True,
)

PRESET: Final = Field(
    "preset",
    Text("the name of a preset such as `kserve-sklearn`", r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?"),
    doc="How the server is built, run, probed and measured.",
    default="kserve-sklearn",
    example="kserve-sklearn",
    shown="kserve-sklearn",
)

SERVER_IMAGE: Final[Field[str | None]] = Field(
    "image",
    _IMAGE,
    doc="A ready server image. The other keys of this section are for `build-server`.",
    default=None,
    example="registry.example.com/ml/server:1.0",
    shown="the image of `build-server`",
)
SERVER_BASE: Final[Field[str | None]] = Field(
    "base",
    _IMAGE,
    doc="The image that `build-server` starts from.",
    default=None,
    example="python:3.12-slim",
    shown="the preset's",
)
SERVER_HOOK: Final = Field(
    "hook",
    PathTo("a Python module that is there"),
    doc="Python module with `preprocess`, `predict` or `postprocess`, relative to this file.",
    default=None,
    example="hook.py",
    shown="none",
)
SERVER_CONSTRAINTS: Final = Field(
    "constraints",
    PathTo("a pip constraints file that is there"),
    doc="Constraints file of pip, relative to this file: the exact packages of the server.",
    default=None,
    example="constraints.txt",
    shown="the preset's",
)
_SERVER_TABLE: Final = Table(
    (SERVER_IMAGE, SERVER_BASE, SERVER_HOOK, SERVER_CONSTRAINTS),
    doc="The server image: a ready one, or what `build-server` makes it from.",
)
SERVER: Final[Field[Values]] = Field("server", _SERVER_TABLE, doc=_SERVER_TABLE.doc, default=NOTHING)

_TARGETS: Final[tuple[Target, ...]] = get_args(Target)
TARGET: Final[Field[Target | None]] = Field(
    "target",
    Choice(_TARGETS, aliases=(("compose", "docker"),)),
    doc="Where the service runs; `compose` is another word for `docker`.",
    default=None,
    example="docker",
    shown="what answers: `nomad` where NOMAD_ADDR is set, else an engine, else `process`",
)
PORT: Final = Field(
    "port",
    Whole(1, 65535),
    doc="Port on which the service is reached.",
    default=8080,
    example="8080",
    shown="8080",
)
ENV: Final[Field[dict[str, str]]] = Field(
    "env",
    Environment(RESERVED),
    doc="Environment of the server. Values are taken as they are written: `on` is the text `on`.",
    default={},
    example="{LOG_LEVEL: info}",
)

CPU: Final[Field[float | None]] = Field(
    "cpu", Number(0.01, 4096), doc="Limit in cores.", default=None, example="0.5", shown="no limit"
)
MEMORY: Final[Field[int | None]] = Field(
    "memory", SIZE, doc="Limit with a unit: `512Mi`, `2GiB`, `1.5G`.", default=None, example="512Mi", shown="no limit"
)
_RESOURCES_TABLE: Final = Table((CPU, MEMORY), doc="Limits of the server.")
RESOURCES: Final[Field[Values]] = Field("resources", _RESOURCES_TABLE, doc=_RESOURCES_TABLE.doc, default=NOTHING)

USER: Final[Field[str | None]] = Field(
    "user",
    Text("`UID` or `UID:GID` in digits", r"[0-9]{1,9}(:[0-9]{1,9})?", written=True),
    doc="User, and group, that the server runs as. The bootstrap runs as the owner of a new volume.",
    default=None,
    example="65532:65532",
    shown="the preset's, 65532",
)

GOLDEN: Final = Field(
    "golden",
    PathTo("a file of golden requests that is there"),
    doc='Requests with known answers, relative to this file; JSON lines `{"request": …, "expect": …, "tolerance": …}`.',
    default=None,
    example="golden.jsonl",
    shown="none: predictions are reported as not checked",
)
READY_DEADLINE: Final = Field(
    "deadline",
    DEADLINE,
    doc="How long a server may take to become ready.",
    default=_READY.deadline,
    example="2m",
    shown=show_duration(_READY.deadline),
)
_READY_TABLE: Final = Table((GOLDEN, READY_DEADLINE), doc="When the server counts as ready.")
READY: Final[Field[Values]] = Field("ready", _READY_TABLE, doc=_READY_TABLE.doc, default=NOTHING)

_STRATEGIES: Final[tuple[Strategy, ...]] = get_args(Strategy)
STRATEGY: Final[Field[Strategy | None]] = Field(
    "strategy",
    Choice(_STRATEGIES),
    doc="How a new version takes over.",
    default=_RELEASE.strategy,
    example="bluegreen",
    shown="bluegreen, and with `--native` rolling",
)
BAKE: Final = Field(
    "bake",
    WAIT,
    doc="How long a new version is watched before the old one goes.",
    default=_RELEASE.bake,
    example="60s",
    shown=show_duration(_RELEASE.bake),
)
DRAIN: Final = Field(
    "drain",
    WAIT,
    doc="How long requests under way may take to end.",
    default=_RELEASE.drain,
    example="30s",
    shown=show_duration(_RELEASE.drain),
)
RELEASE_DEADLINE: Final = Field(
    "deadline",
    DEADLINE,
    doc="How long a release waits for its candidate, whatever `ready.deadline` says; then it turns back.",
    default=_RELEASE.deadline,
    example="10m",
    shown=show_duration(_RELEASE.deadline),
)
_RELEASE_TABLE: Final = Table((STRATEGY, BAKE, DRAIN, RELEASE_DEADLINE), doc="How a new version takes over.")
RELEASE: Final[Field[Values]] = Field("release", _RELEASE_TABLE, doc=_RELEASE_TABLE.doc, default=NOTHING)
COMPAT: Final[Field[Compat]] = Field(
    "compat",
    Choice(get_args(Compat)),
    doc=(
        "What happens when a model cannot work on its server, as far as both say: `refuse` lets nothing start, `warn` "
        "only tells."
    ),
    default="refuse",
    example="refuse",
    shown="refuse",
)

SYNONYMS: Final = {
    "app": "service",
    "application": "service",
    "backend": "target",
    "base_image": "server.base",
    "command": "preset",
    "cpus": "resources.cpu",
    "dependencies": "model.requires",
    "environment": "env",
    "environment_variables": "env",
    "envs": "env",
    "expose": "port",
    "file": "model.path",
    "framework": "preset",
    "golden_requests": "ready.golden",
    "health": "ready",
    "health_check": "ready",
    "hooks": "server.hook",
    "image_name": "server.image",
    "instances": "resources",
    "kind": "preset",
    "license": "model.licence",
    "limits": "resources",
    "mem": "resources.memory",
    "mem_limit": "resources.memory",
    "model_file": "model.path",
    "model_name": "model.name",
    "model_path": "model.path",
    "model_uri": "model.path",
    "name": "service",
    "orchestrator": "target",
    "platform": "target",
    "ports": "port",
    "project": "service",
    "readiness": "ready",
    "readiness_probe": "ready",
    "liveness_probe": "ready",
    "requirements": "model.requires",
    "rollout": "release",
    "run_as": "user",
    "run_as_user": "user",
    "runtime": "preset",
    "start_period": "ready.deadline",
    "storage_uri": "model.path",
    "timeout": "ready.deadline",
    "uid": "user",
    "update": "release",
    "update_config": "release",
    "uri": "model.path",
}

TITLE: Final = "mlops.yml"
DOC: Final = (
    "One prediction service. An overlay `mlops.<env>.yml` beside it, chosen by `-e <env>`, is laid over it: "
    "maps merge, lists and scalars replace. JSON works too. Keys that start with `x-` are ignored."
)
TABLE: Final = Table(
    (
        SERVICE,
        MODEL,
        PRESET,
        SERVER,
        TARGET,
        PORT,
        ENV,
        RESOURCES,
        USER,
        READY,
        RELEASE,
        COMPAT,
        BOOTSTRAP,
        REGISTRY,
        NOMAD,
        KUBERNETES,
    ),
    doc=DOC,
    synonyms=SYNONYMS,
)

SECTIONS: Final = tuple(one.key for one in TABLE.fields)
"""The sections of the reference, as `mlops-deploy docs SECTION` takes them."""
