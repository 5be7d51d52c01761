"""What a service may say about how it runs on Kubernetes, in Kubernetes' own words; bytes."""

from dataclasses import dataclass, field
from typing import Literal

VolumeKind = Literal["emptyDir", "image"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesVolume:
    """Where the server reads the model.

    `emptyDir`: a folder of the pod's own that an init container, the carrier, copies it into. `image`: the carrier
    itself, mounted without a copy; Kubernetes has it on by default since 1.35, and with `subPath` since 1.33. `size` is
    the room for the copy, asked of the node and the limit; None asks for that of the model and sets no limit.
    """

    kind: VolumeKind = "emptyDir"
    size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesSpec:
    """The section `kubernetes` of `mlops.yml`. A `namespace` of None leaves it to whoever applies the file."""

    namespace: str | None = None
    volume: KubernetesVolume = field(default_factory=KubernetesVolume)
