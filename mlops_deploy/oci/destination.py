"""Where a carrier can go, and what the builder asks of such a place."""

from collections.abc import Sequence
from typing import Protocol

from mlops_deploy.oci.image import Carrier
from mlops_deploy.oci.inventory import SourceFile
from mlops_deploy.oci.stream import LayerSink
from mlops_deploy.oci.types import Descriptor
from mlops_deploy.spec.refs import ImageRef


class Destination(Protocol):
    """Takes a carrier while it is being made: layers, then the documents, then the names.

    A place that is a `LayerSink` itself takes one layer after the other; what is said here about several is for those
    that have a sink for each.
    """

    @property
    def abreast(self) -> int:
        """How many layers it takes side by side."""
        return 1

    @property
    def held_back(self) -> int:
        """How often it has asked for patience so far: a reason to send fewer layers side by side."""
        return 0

    def sink(self) -> LayerSink:
        """Where one layer after the other goes; called once for each of those side by side."""
        ...

    def has(self, carrier: Carrier) -> bool:
        """Whether the whole carrier is there already."""
        ...

    def wants(self, layer: Descriptor) -> bool:
        """Whether a layer known beforehand has to be sent."""
        ...

    def defers(self, files: Sequence[SourceFile]) -> bool:  # noqa: ARG002 - for those that can tell
        """Whether it had rather know the digest of a layer with these files before it takes the bytes."""
        return False

    def prepare(self, carrier: Carrier) -> None:  # noqa: ARG002 - for those that can
        """Take all of the carrier but its names; no place gets a name before every place has done so."""
        return

    def finish(self, carrier: Carrier, names: Sequence[ImageRef]) -> None:
        """Complete the carrier under `names` (each with a tag); also called when it `has` it, to set the names."""
        ...

    def abort(self) -> None:
        """Leave nothing half-written behind; called instead of `finish` when anything failed."""
        ...
