"""How one known server is built, run, probed and measured; the same shape for every server. Placeholders included."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, get_args

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.spec.deploy import JsonValue
from mlops_deploy.spec.refs import ContentId

Placeholder = Literal["name", "path", "id", "id12", "port", "grpc_port", "metrics_port"]
Protocol = Literal["v2-rest", "v2-grpc", "openai", "tfs-rest", "tfs-grpc", "custom"]
Restart = Literal["unless-stopped", "always", "on-failure", "no"]
DrainSignal = Literal["SIGTERM", "SIGINT", "SIGQUIT"]
TimeUnit = Literal["s", "ms", "us"]

PLACEHOLDERS: Final[tuple[Placeholder, ...]] = get_args(Placeholder)
_BRACES: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where the server listens inside its container; `metrics` is often the port of `http`."""

    http: int
    grpc: int | None = None
    metrics: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What proves that this very model answers.

    `path` answers `status`, and each key of `json` (dotted, `[]` for any item of a list) holds its text. `version_in`
    is where an inference answer carries the identity. `command`, run beside the server, checks all of it by itself, and
    says what it has found.
    `endpoint` answers `status` once a model is loaded, whichever version it is: what a router asks again and again.
    """

    path: str
    endpoint: str | None = None
    status: int = 200
    json: Mapping[str, str] = field(default_factory=dict)
    version_in: str | None = None
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Where a server's numbers are: Prometheus selectors, and the unit of its latencies.

    `labels` maps our words (`model`, `version`) to the server's label names.
    """

    path: str
    unit: TimeUnit = "s"
    requests: str | None = None
    errors: str | None = None
    latency_histogram: str | None = None
    latency_quantile: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One server. Either `image` is pulled, or `build` names the recipe that `build-server` makes it from.

    `layout` is where the model's files must stand, relative to the volume; None is the folder of the content id.
    `files` are written beside them before the server starts. `allow_paths` is what a router lets through.
    """

    name: str
    doc: str
    ports: Ports
    ready: Readiness
    image: str | None = None
    build: str | None = None
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    layout: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    live: str | None = None
    metrics: Metrics | None = None
    protocol: tuple[Protocol, ...] = ()
    allow_paths: tuple[str, ...] = ()
    deny_paths: tuple[str, ...] = ()
    uid: int = 65532
    restart: Restart = "unless-stopped"
    drain_signal: DrainSignal = "SIGTERM"
    formats: tuple[str, ...] = ()
    provides: Mapping[str, JsonValue] = field(default_factory=dict)


def filling(preset: Preset, *, name: str, content: ContentId, path: str) -> dict[Placeholder, str]:
    """What the placeholders of `preset` mean for one model; `path` is the model's folder as the server sees it."""
    ports = preset.ports
    return {
        "name": name,
        "path": path,
        "id": content.hex,
        "id12": content.short,
        "port": str(ports.http),
        "grpc_port": str(ports.grpc or ports.http),
        "metrics_port": str(ports.metrics or ports.http),
    }


def fill(text: str, values: Mapping[Placeholder, str]) -> str:
    """`text` with every `{placeholder}` replaced; `{{` and `}}` are braces. Values are not looked into again."""
    check_placeholders(text)
    known = {str(word): value for word, value in values.items()}
    return _BRACES.sub(lambda match: match[0][0] if match[1] is None else known[match[1]], text)


def fill_preset(preset: Preset, values: Mapping[Placeholder, str]) -> Preset:
    """`preset` for one model: every text that may hold placeholders filled."""
    metrics = preset.metrics
    return replace(
        preset,
        command=_all(preset.command, values),
        args=_all(preset.args, values),
        layout=preset.layout and fill(preset.layout, values),
        files=_every(preset.files, values),
        env=_every(preset.env, values),
        ready=_fill_readiness(preset.ready, values),
        live=preset.live and fill(preset.live, values),
        metrics=metrics and _fill_metrics(metrics, values),
        allow_paths=_all(preset.allow_paths, values),
        deny_paths=_all(preset.deny_paths, values),
    )


def check_placeholders(text: str) -> None:
    """Raise `UnusableInputError` for a `{word}` that is no placeholder, or for a brace that stands alone."""
    for match in _BRACES.finditer(text):
        if match[0] not in {"{{", "}}"} and match[1] not in PLACEHOLDERS:
            known = ", ".join(f"`{{{word}}}`" for word in PLACEHOLDERS)
            raise UnusableInputError(
                f"`{match[0][:80]}` is no placeholder", hint=f"known: {known}; write `{{{{` for a brace"
            )


def _fill_readiness(ready: Readiness, values: Mapping[Placeholder, str]) -> Readiness:
    command = _all(ready.command, values)
    endpoint = ready.endpoint and fill(ready.endpoint, values)
    path, json = fill(ready.path, values), _every(ready.json, values)
    return replace(ready, path=path, endpoint=endpoint, json=json, command=command)


def _fill_metrics(metrics: Metrics, values: Mapping[Placeholder, str]) -> Metrics:
    def filled(selector: str | None) -> str | None:
        return selector and fill(selector, values)

    return replace(
        metrics,
        path=fill(metrics.path, values),
        requests=filled(metrics.requests),
        errors=filled(metrics.errors),
        latency_histogram=filled(metrics.latency_histogram),
        latency_quantile=filled(metrics.latency_quantile),
    )


def _all(texts: tuple[str, ...], values: Mapping[Placeholder, str]) -> tuple[str, ...]:
    return tuple(fill(text, values) for text in texts)


def _every(texts: Mapping[str, str], values: Mapping[Placeholder, str]) -> dict[str, str]:
    return {fill(key, values): fill(text, values) for key, text in texts.items()}
