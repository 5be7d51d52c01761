"""The section `kubernetes` of `mlops.yml`."""

from typing import Final, get_args

from mlops_deploy.config.amounts import SIZE
from mlops_deploy.config.fields import NOTHING, Field, Table, Values
from mlops_deploy.config.kinds import Choice, Text
from mlops_deploy.spec.kubernetes import KubernetesSpec, KubernetesVolume, VolumeKind

_DEFAULT: Final = KubernetesSpec()
_KINDS: Final[tuple[VolumeKind, ...]] = get_args(VolumeKind)

NAMESPACE: Final[Field[str | None]] = Field(
    "namespace",
    Text("lower-case letters, digits and `-`, at most 63", r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", limit=63),
    doc="Namespace of everything that is rendered.",
    default=_DEFAULT.namespace,
    example="predictions",
    shown="that of whoever applies the file",
)
VOLUME_KIND: Final[Field[VolumeKind]] = Field(
    "kind",
    Choice(_KINDS),
    doc=(
        "How the model comes into the pod: `emptyDir`, copied there by the carrier, or `image`, the carrier mounted as "
        "it is (Kubernetes 1.35 or newer; 1.33 with the feature ImageVolume switched on)."
    ),
    default=_DEFAULT.volume.kind,
    example="emptyDir",
    shown=_DEFAULT.volume.kind,
)
VOLUME_SIZE: Final[Field[int | None]] = Field(
    "size",
    SIZE,
    doc="Room for the copy of the model: asked of the node, and the limit. For `emptyDir`.",
    default=_DEFAULT.volume.size,
    example="2Gi",
    shown="the model's size is asked for, without a limit",
)
_VOLUME_TABLE: Final = Table((VOLUME_KIND, VOLUME_SIZE), doc="Where the server reads the model.")
VOLUME: Final[Field[Values]] = Field("volume", _VOLUME_TABLE, doc=_VOLUME_TABLE.doc, default=NOTHING)

_TABLE: Final = Table((NAMESPACE, VOLUME), doc="How the service runs on Kubernetes.")
KUBERNETES: Final[Field[Values]] = Field("kubernetes", _TABLE, doc=_TABLE.doc, default=NOTHING)


def kubernetes_spec(section: Values) -> KubernetesSpec:
    """What the section says."""
    volume = section[VOLUME]
    return KubernetesSpec(
        namespace=section[NAMESPACE],
        volume=KubernetesVolume(kind=volume[VOLUME_KIND], size=volume[VOLUME_SIZE]),
    )
