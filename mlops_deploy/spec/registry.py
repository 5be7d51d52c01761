"""What a service may say about how its nodes get a model from the registry that has its carrier."""

from dataclasses import dataclass
from typing import Literal

Bootstrap = Literal["copy", "pull"]
"""How the model comes into a volume: the carrier runs and copies it there, or it is pulled straight into it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrySpec:
    """The section `registry` of `mlops.yml`: what a bootstrap that pulls is given, on the side of the nodes.

    `credentials` and `ca` are absolute paths of files on the node; on Kubernetes the names of a secret and of a config
    map. `insecure` allows plain HTTP, and certificates that nobody has signed, for the carrier's registry alone.
    `proxy` is the URL of the proxy that nodes reach registries by, without a user, for it stands in job files;
    `no_proxy` is what they reach without it, in the form of the variable `NO_PROXY`.
    `puller` is the image that pulls, where it is not the one that a release builds in the local engine.
    """

    credentials: str | None = None
    ca: str | None = None
    insecure: bool = False
    proxy: str | None = None
    no_proxy: str | None = None
    puller: str | None = None
