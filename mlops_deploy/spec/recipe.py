"""An image that is made from a Dockerfile: what goes in, and what is known of the image that comes out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlops_deploy.spec.refs import Digest, ImageRef
from mlops_deploy.spec.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One build. `contexts` replace stages of the Dockerfile by folders; `secrets` are seen while a step runs only.

    A secret is a value or a file. Without a `tag` the image has no name but its id.
    """

    context: Path
    args: Mapping[str, str] = field(default_factory=dict)
    contexts: Mapping[str, Path] = field(default_factory=dict)
    secrets: Mapping[str, Secret | Path] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    tag: ImageRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """An image of an engine; `size` in bytes, all layers together."""

    id: Digest
    size: int
    labels: Mapping[str, str]
