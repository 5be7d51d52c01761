"""A model becomes a carrier, in one read for all destinations."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlops_deploy.api.shells import applets
from mlops_deploy.oci.destination import Destination
from mlops_deploy.oci.image import Carrier, assemble
from mlops_deploy.oci.inventory import Inventory, take_inventory
from mlops_deploy.oci.metadata import FileSum, Metadata, ModelCard, describe, metadata_layer
from mlops_deploy.oci.packing import LayerPlan, plan_layers
from mlops_deploy.oci.shell import Shell, shell_layer
from mlops_deploy.oci.stream import ModelStream
from mlops_deploy.oci.types import Descriptor, Platform
from mlops_deploy.ports import Story
from mlops_deploy.resources import IMAGES
from mlops_deploy.spec.refs import ImageRef
from mlops_deploy.store.cache import DigestCache


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelBuild:
    """What to build: the model, what is declared about it, the shells, and the names (each with a tag) it gets."""

    path: Path
    card: ModelCard
    shells: tuple[Shell, ...]
    tags: tuple[ImageRef, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a name that no image can have before anything is read."""
        ImageRef.parse(self.image)

    @property
    def image(self) -> str:
        """The image's name without a tag: of the first tag, else the model's name."""
        return self.tags[0].name if self.tags else self.card.name

    def names(self, carrier: Carrier) -> tuple[ImageRef, ...]:
        """The tags and, for each image name, the short tag that belongs to this carrier alone."""
        images = dict.fromkeys(tag.name for tag in self.tags) or {self.image: None}
        return (*self.tags, *(ImageRef.parse(carrier.short_tag(image)) for image in images))


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltModel:
    """The carrier, and what making it took: bytes of the model that were read, seconds."""

    carrier: Carrier
    bytes_read: int
    seconds: float


def build_model(build: ModelBuild, destinations: Sequence[Destination], cache: DigestCache, story: Story) -> BuiltModel:
    """Build the carrier and put it into every destination; what is there already is neither read nor sent.

    When anything fails every destination is left without anything half-written, and the error is raised.
    """
    started, seen_ns = time.monotonic(), time.time_ns()
    work = _Work(build, take_inventory(build.path), cache, story)
    carrier = work.known_carrier()
    missing = [place for place in destinations if carrier is None or not place.has(carrier)]
    try:
        if carrier is None or missing:
            carrier = work.stream(missing, seen_ns)
        for place in destinations:
            place.finish(carrier, build.names(carrier))
    except BaseException:
        for place in destinations:
            # What went wrong first is what is told, and no place keeps another from cleaning up.
            with suppress(BaseException):
                place.abort()
        raise
    return BuiltModel(carrier=carrier, bytes_read=work.bytes_read, seconds=time.monotonic() - started)


class _Work:
    """One build in progress: the plan, what is known of it, and the bytes read so far."""

    def __init__(self, build: ModelBuild, inventory: Inventory, cache: DigestCache, story: Story) -> None:
        self._build = build
        self._inventory = inventory
        self._cache = cache
        self._story = story
        self._script = (IMAGES / "carrier" / "deploy.sh").read_bytes()
        self._shells = {shell.platform: shell_layer(shell, applets()) for shell in build.shells}
        self._plans = plan_layers(inventory.files)
        self._sums = cache.known(inventory.files)
        self._layers = cache.layers(self._plans, self._sums)
        self._size = inventory.size
        self._done = 0
        self.bytes_read = 0

    def known_carrier(self) -> Carrier | None:
        """The carrier, if all of it follows from what was read before; nothing is read."""
        layers = [layer for layer in self._layers if layer]
        if len(layers) < len(self._plans):
            return None
        metadata = self._metadata()
        with ModelStream(self._count) as stream:
            shells = self._shell_layers(stream, ())
            last = _small_layer(stream, metadata_layer(metadata, self._script), ())
        return assemble(metadata, shells, layers, last)

    def stream(self, places: Sequence[Destination], seen_ns: int) -> Carrier:
        """Read the model once and send each layer to the places that want it."""
        with ModelStream(self._count) as stream:
            shells = self._shell_layers(stream, places)
            pairs = zip(self._plans, self._layers, strict=True)
            layers = [self._model_layer(stream, plan, known, places) for plan, known in pairs]
            metadata = self._metadata()
            last = _small_layer(stream, metadata_layer(metadata, self._script), places)
            stream.finish()
        self._cache.remember(self._inventory.files, zip(self._plans, layers, strict=True), self._sums, seen_ns)
        return assemble(metadata, shells, layers, last)

    def _shell_layers(self, stream: ModelStream, places: Sequence[Destination]) -> dict[Platform, Descriptor]:
        return {platform: _small_layer(stream, plan, places) for platform, plan in self._shells.items()}

    def _model_layer(
        self, stream: ModelStream, plan: LayerPlan, known: Descriptor | None, places: Sequence[Destination]
    ) -> Descriptor:
        wanting = [place for place in places if known is None or place.wants(known)]
        if known is not None and not wanting:
            self._advance(sum(file.size for file in plan.files))
            return known
        made, sums = stream.layer(plan, wanting)
        self._sums.update(sums)
        return made

    def _metadata(self) -> Metadata:
        sums = self._sums
        files = [FileSum(path=file.path, size=file.size, sha256=sums[file.path]) for file in self._inventory.files]
        return describe(self._build.card, files)

    def _count(self, count: int) -> None:
        self.bytes_read += count
        self._advance(count)

    def _advance(self, count: int) -> None:
        self._done += count
        self._story.progress(self._build.card.name, self._done, self._size)


def _small_layer(stream: ModelStream, plan: LayerPlan, places: Sequence[Destination]) -> Descriptor:
    """Look first what a layer of texts will be: that costs nothing beside sending one that is there."""
    known, _ = stream.layer(plan, ())
    if wanting := [place for place in places if place.wants(known)]:
        stream.layer(plan, wanting)
    return known
