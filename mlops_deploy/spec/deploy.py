"""One service, complete and frozen: what `mlops.yml` with its overlay says, defaults filled in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from mlops_deploy.spec.kubernetes import KubernetesSpec
from mlops_deploy.spec.nomad import NomadSpec
from mlops_deploy.spec.owner import Owner
from mlops_deploy.spec.registry import Bootstrap, RegistrySpec

Target = Literal["docker", "nomad", "kubernetes", "process"]
Strategy = Literal["recreate", "rolling", "bluegreen", "canary", "ab", "shadow", "staging"]
Compat = Literal["refuse", "warn"]
"""What happens when a model cannot work on its server."""

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WebModel:
    """A model that is one file behind `https://`; `sha256` in hex, None where nobody says what it must be."""

    url: str
    sha256: str | None = None

    @property
    def file(self) -> str:
        """What the file is called: the last part of the URL's path, empty where that has none."""
        return unquote(urlsplit(self.url).path.rpartition("/")[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model as its user declares it; `path` is absolute, a file or a folder; nothing is there of one on the `web`."""

    path: Path
    name: str
    web: WebModel | None = None
    requires: tuple[str, ...] = ()
    licence: str | None = None
    signature: Mapping[str, JsonValue] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    """The server image: a ready one (`image`), or what `build-server` makes it from. Paths are absolute."""

    image: str | None = None
    base: str | None = None
    hook: Path | None = None
    constraints: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Limits of the server: `cpu` in cores, `memory` in bytes; None leaves it to the target."""

    cpu: float | None = None
    memory: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenRequest:
    """A request whose answer is known: a v2 infer body, its `outputs`, and an absolute tolerance."""

    request: Mapping[str, JsonValue]
    expect: tuple[JsonValue, ...]
    tolerance: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """When the server counts as ready; without golden requests that level is "not checked". `deadline` in seconds."""

    golden: tuple[GoldenRequest, ...] = ()
    deadline: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseSpec:
    """How a new version takes over; times in seconds. Without a strategy it is the usual one of the kind of release."""

    strategy: Strategy | None = None
    bake: float = 60.0
    drain: float = 30.0
    deadline: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploySpec:
    """One service in one environment; `root` is the folder of its `mlops.yml`, of `.mlops/` and `mlops.lock`."""

    root: Path
    service: str
    environment: str | None
    model: ModelSpec
    preset: str
    server: ServerSpec
    target: Target | None
    port: int
    env: Mapping[str, str]
    resources: Resources
    user: str | None
    ready: Ready
    release: ReleaseSpec
    compat: Compat = "refuse"
    bootstrap: Bootstrap = "copy"
    registry: RegistrySpec = field(default_factory=RegistrySpec)
    nomad: NomadSpec = field(default_factory=NomadSpec)
    kubernetes: KubernetesSpec = field(default_factory=KubernetesSpec)

    @property
    def owner(self) -> Owner:
        """Whose everything of this service is."""
        return Owner(service=self.service, environment=self.environment)

    @property
    def project(self) -> str:
        """`<service>[-<env>]`: the name that everything of this service starts with, on every target."""
        return self.owner.project
