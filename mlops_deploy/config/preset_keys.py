"""The keys of a preset file: one row each, as for `mlops.yml`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, get_args

from mlops_deploy.config import marks
from mlops_deploy.config.fields import NOTHING, At, Field, Schema, Table, Values
from mlops_deploy.config.kinds import LINE, Choice, JsonMap, ListOf, Parsed, Text, Whole
from mlops_deploy.errors import DeployError
from mlops_deploy.spec.deploy import JsonValue
from mlops_deploy.spec.preset import (
    DrainSignal,
    Protocol,
    Restart,
    TimeUnit,
    check_placeholders,
)
from mlops_deploy.spec.refs import IMAGE_REF_PATTERN

_SEVERAL_LINES: Final = r"[^\x00-\x08\x0b-\x1f\x7f]*"


def _template(text: str) -> str:
    check_placeholders(text)
    return text


def _text(expected: str, pattern: str = LINE, limit: int = 4096) -> Parsed[str]:
    return Parsed(Text(expected, pattern, limit), _template)


@dataclass(frozen=True, slots=True)
class _MapOf:
    """A map of free keys to texts; placeholders may stand in both."""

    key: Text
    value: Text

    @property
    def expected(self) -> str:
        return f"a map, each value {self.value.expected}"

    def decode(self, node: marks.Node, at: At) -> dict[str, str] | None:
        if not isinstance(node, marks.Mapping):
            at.expected(node, self.expected)
            return None
        return {
            name: text
            for key, value in node.entries
            if (name := _checked(self.key, key, at.child(key.text))) is not None
            and (text := _checked(self.value, value, at.child(key.text))) is not None
        }

    def schema(self) -> Schema:
        return {
            "type": "object",
            "propertyNames": self.key.schema(),
            "additionalProperties": self.value.schema(),
        }


def _checked(kind: Text, node: marks.Node, at: At) -> str | None:
    text = kind.decode(node, at)
    try:
        return None if text is None else _template(text)
    except DeployError as error:
        at.wrong(node.mark, error.message, error.hint or "")
        return None


_LINE: Final = _text("one line of text, with known placeholders")
_PATH: Final = _text("a path of a URL such as `/v2/models/{name}/ready`", r"/[^\x00-\x20?#]*")
_INSIDE: Final = r"(?![/.])(?!.*/\.\.?(/|$))[^\x00-\x1f\x7f\\]+"
_PORT: Final = Whole(1, 65535)
_WORD: Final = Text("a word", r"[A-Za-z_][A-Za-z0-9_.-]*")
_VARIABLE: Final = Text("the name of a variable", r"[A-Za-z_][A-Za-z0-9_]*")

DOC: Final = Field("doc", Text("one line of text"), doc="What it serves, in one line.", default="", required=True)
IMAGE: Final[Field[str | None]] = Field(
    "image", Text("an image reference", IMAGE_REF_PATTERN), doc="Image that is pulled as it is.", default=None
)
BUILD: Final[Field[str | None]] = Field(
    "build",
    Text("the name of a folder in `images/`", r"[a-z][a-z0-9-]*"),
    doc="Recipe from which `build-server` makes the image.",
    default=None,
)
COMMAND: Final[Field[tuple[str, ...]]] = Field(
    "command", ListOf(_LINE), doc="Program and arguments; the image's own when absent.", default=()
)
ARGS: Final[Field[tuple[str, ...]]] = Field("args", ListOf(_LINE), doc="Arguments after the command.", default=())

HTTP: Final = Field("http", _PORT, doc="REST.", default=0, example="8080", required=True)
GRPC: Final[Field[int | None]] = Field("grpc", _PORT, doc="gRPC.", default=None)
METRICS_PORT: Final[Field[int | None]] = Field("metrics", _PORT, doc="Metrics.", default=None)
PORTS: Final = Field(
    "ports",
    Table((HTTP, GRPC, METRICS_PORT)),
    doc="Where it listens inside its container.",
    default=NOTHING,
    example="{http: 8080}",
    required=True,
)
LAYOUT: Final[Field[str | None]] = Field(
    "layout",
    _text("a folder relative to the volume", _INSIDE),
    doc="Where the model's files must stand on the volume.",
    default=None,
    shown="the folder of the content id",
)
FILES: Final[Field[Mapping[str, str]]] = Field(
    "files",
    _MapOf(Text("a path relative to the model's folder", _INSIDE), Text("a text", _SEVERAL_LINES, 1 << 16)),
    doc="Files written beside the model before the server starts.",
    default={},
)
ENV: Final[Field[Mapping[str, str]]] = Field(
    "env",
    _MapOf(_VARIABLE, Text("one line of text", LINE, written=True)),
    doc="Environment beside what every job sets.",
    default={},
)

READY_PATH: Final = Field("path", _PATH, doc="What is asked.", default="", example="/v2/health/ready", required=True)
ENDPOINT: Final[Field[str | None]] = Field(
    "endpoint", _PATH, doc="What answers once a model of any version is loaded; `release` needs it.", default=None
)
STATUS: Final = Field("status", Whole(100, 599), doc="The status of a ready server.", default=200)
READY_JSON: Final[Field[Mapping[str, str]]] = Field(
    "json",
    _MapOf(Text("a dotted key of the answer", r"[A-Za-z0-9_.\[\]-]+"), Text("one line of text")),
    doc="What the answer must hold.",
    default={},
)
VERSION_IN: Final[Field[str | None]] = Field(
    "version_in",
    Text("a dotted key of an inference answer", r"[A-Za-z0-9_.\[\]-]+"),
    doc="Where an inference answer carries the identity.",
    default=None,
)
READY_COMMAND: Final[Field[tuple[str, ...]]] = Field(
    "command",
    ListOf(_LINE),
    doc="Program in the image that checks all levels.",
    default=(),
)
READY: Final = Field(
    "ready",
    Table((READY_PATH, ENDPOINT, STATUS, READY_JSON, VERSION_IN, READY_COMMAND)),
    doc="What proves that this very model answers.",
    default=NOTHING,
    example="{path: /v2/health/ready}",
    required=True,
)
LIVE: Final[Field[str | None]] = Field("live", _PATH, doc="What answers while the process lives.", default=None)

METRICS_PATH: Final = Field("path", _PATH, doc="Where they are.", default="", example="/metrics", required=True)
UNIT: Final[Field[TimeUnit]] = Field("unit", Choice(get_args(TimeUnit)), doc="Unit of latencies.", default="s")
_SELECTOR: Final = _text("a Prometheus selector; braces are written twice")
REQUESTS: Final[Field[str | None]] = Field("requests", _SELECTOR, doc="Counter of all requests.", default=None)
ERRORS: Final[Field[str | None]] = Field("errors", _SELECTOR, doc="Counter of the server's errors.", default=None)
HISTOGRAM: Final[Field[str | None]] = Field("latency_histogram", _SELECTOR, doc="Latencies.", default=None)
QUANTILE: Final[Field[str | None]] = Field("latency_quantile", _SELECTOR, doc="Latencies, as a summary.", default=None)
LABELS: Final[Field[Mapping[str, str]]] = Field(
    "labels", _MapOf(_WORD, Text("one line of text")), doc="The server's names for our labels.", default={}
)
METRICS: Final[Field[Values | None]] = Field(
    "metrics",
    Table((METRICS_PATH, UNIT, REQUESTS, ERRORS, HISTOGRAM, QUANTILE, LABELS)),
    doc="Where its numbers are.",
    default=None,
)
PROTOCOL: Final[Field[tuple[Protocol, ...]]] = Field(
    "protocol", ListOf(Choice(get_args(Protocol))), doc="Protocols it speaks.", default=()
)
ALLOW: Final[Field[tuple[str, ...]]] = Field("allow_paths", ListOf(_PATH), doc="What a router lets pass.", default=())
DENY: Final[Field[tuple[str, ...]]] = Field("deny_paths", ListOf(_PATH), doc="What a router refuses.", default=())
UID: Final = Field("uid", Whole(0, 4294967294), doc="User it runs as.", default=65532)
RESTART: Final[Field[Restart]] = Field(
    "restart", Choice(get_args(Restart)), doc="When it is started again.", default="unless-stopped"
)
DRAIN_SIGNAL: Final[Field[DrainSignal]] = Field(
    "drain_signal", Choice(get_args(DrainSignal)), doc="What makes it end requests and stop.", default="SIGTERM"
)
FORMATS: Final[Field[tuple[str, ...]]] = Field("formats", ListOf(_WORD), doc="Model formats it loads.", default=())
PROVIDES: Final[Field[Mapping[str, JsonValue]]] = Field(
    "provides", JsonMap(), doc="What a pulled image provides, where it has no label that says so.", default={}
)

TABLE: Final = Table(
    (
        DOC, IMAGE, BUILD, COMMAND, ARGS, PORTS, LAYOUT, FILES, ENV, READY, LIVE, METRICS, PROTOCOL, ALLOW, DENY, UID,
        RESTART, DRAIN_SIGNAL, FORMATS, PROVIDES,
    ),
    doc="How one known server is built, run, probed and measured.",
    synonyms={"allow": "allow_paths", "deny": "deny_paths", "environment": "env", "port": "ports", "user": "uid"},
)  # fmt: skip
