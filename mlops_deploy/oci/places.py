"""Where the files of a model are in its layers, as they are packed today: known before a layer is read.

Nothing is trusted to it but where to begin to read: each file is known by its hash, wherever it was found.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlops_deploy.oci.inventory import SourceFile, Stamp
from mlops_deploy.oci.metadata import FileSum
from mlops_deploy.oci.packing import LayerPlan, plan_layers
from mlops_deploy.oci.tar import ModelFile, content_size, header, padding
from mlops_deploy.oci.types import Descriptor
from mlops_deploy.spec.refs import Digest


@dataclass(frozen=True, slots=True)
class Place:
    """A file of a model, and the offset of its first byte in the layer."""

    path: str
    content: int


Places = Mapping[Digest, tuple[Place, ...]]


def places(files: Sequence[FileSum], layers: Sequence[Descriptor]) -> Places:
    """The files of each layer in their order; nothing when the layers have other sizes than they would have today."""
    plans = plan_layers([SourceFile(file.path, "", Stamp(0, 0, file.size, 0, 0)) for file in files])
    if [plan.size for plan in plans] != [layer.size for layer in layers]:
        return {}
    return {layer.digest: tuple(_places(plan)) for layer, plan in zip(layers, plans, strict=True)}


def _places(plan: LayerPlan) -> list[Place]:
    found: list[Place] = []
    at = 0
    for entry in plan.entries:
        at += len(header(entry))
        if isinstance(entry, ModelFile):
            found.append(Place(entry.file.path, at))
        at += content_size(entry) + len(padding(content_size(entry)))
    return found
