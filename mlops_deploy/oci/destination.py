"""Where a carrier can go, and what the builder asks of such a place."""

from collections.abc import Sequence
from typing import Protocol

from mlops_deploy.oci.image import Carrier
from mlops_deploy.oci.stream import LayerSink
from mlops_deploy.oci.types import Descriptor
from mlops_deploy.spec.refs import ImageRef


class Destination(LayerSink, Protocol):
    """Takes a carrier while it is being made: layers in order, then the documents."""

    def has(self, carrier: Carrier) -> bool:
        """Whether the whole carrier is there already."""
        ...

    def wants(self, layer: Descriptor) -> bool:
        """Whether a layer known beforehand has to be sent."""
        ...

    def finish(self, carrier: Carrier, names: Sequence[ImageRef]) -> None:
        """Complete the carrier under `names` (each with a tag); also called when it `has` it, to set the names."""
        ...

    def abort(self) -> None:
        """Leave nothing half-written behind; called instead of `finish` when anything failed."""
        ...
