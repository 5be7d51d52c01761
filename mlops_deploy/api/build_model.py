"""A model becomes a carrier, in one read for all destinations."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Final

from mlops_deploy.api.crew import Crew, Pace
from mlops_deploy.api.layer_line import LayerLine
from mlops_deploy.api.shells import applets
from mlops_deploy.api.web_source import WebSource
from mlops_deploy.compat import sniff
from mlops_deploy.compat.requires import merged
from mlops_deploy.oci.destination import Destination
from mlops_deploy.oci.image import Carrier, assemble
from mlops_deploy.oci.inventory import Inventory, require_unchanged, take_inventory
from mlops_deploy.oci.metadata import FileSum, Metadata, ModelCard, describe, metadata_layer
from mlops_deploy.oci.packing import plan_layers
from mlops_deploy.oci.shell import Shell, shell_layer
from mlops_deploy.oci.stream import BLOCKS, ModelStream
from mlops_deploy.oci.types import Descriptor, Platform
from mlops_deploy.ports import Story
from mlops_deploy.resources import IMAGES
from mlops_deploy.spec.refs import ImageRef
from mlops_deploy.store.cache import DigestCache


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelBuild:
    """What to build: the model, what is declared about it, the shells, and the names (each with a tag) it gets.

    Of a model on the `web` nothing is at its `path`.
    """

    path: Path
    web: WebSource | None = None
    card: ModelCard
    shells: tuple[Shell, ...]
    tags: tuple[ImageRef, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a name that no image can have before anything is read."""
        ImageRef.parse(self.image)

    def inventory(self) -> Inventory:
        """The model's files as they are now; raises as `take_inventory` does."""
        return take_inventory(self.path) if self.web is None else self.web.inventory

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


_TOLD: Final = 3
"""Files that are named in warnings; of more it is said how many they are."""

_FEWEST_BLOCKS: Final = 6
"""MiB of memory for each of several layers that are read side by side: enough to read while others wait."""


def build_model(build: ModelBuild, destinations: Sequence[Destination], cache: DigestCache, story: Story) -> BuiltModel:
    """Build the carrier and put it into every destination; what is there already is neither read nor sent.

    When anything fails every destination is left without anything half-written, and the error is raised.
    """
    started, seen_ns = time.monotonic(), time.time_ns()
    work = _Work(build, build.inventory(), cache, story, seen_ns)
    carrier = work.known_carrier()
    try:
        missing = [place for place in destinations if carrier is None or not place.has(carrier)]
        if carrier is None or missing:
            carrier = None  # what lists very many files is not held twice
            carrier = work.stream(missing)
        for place in destinations:
            place.prepare(carrier)
        for place in destinations:
            place.finish(carrier, build.names(carrier))
    except BaseException:
        abort_all(destinations)
        raise
    work.tell_damage()
    return BuiltModel(carrier=carrier, bytes_read=work.bytes_read, seconds=time.monotonic() - started)


class _Work:
    """One build in progress: the plan, what is known of it, and the bytes read so far."""

    def __init__(self, build: ModelBuild, inventory: Inventory, cache: DigestCache, story: Story, seen_ns: int) -> None:
        self._build = build
        self._inventory = inventory
        self._cache = cache
        self._story = story
        self._seen_ns = seen_ns
        self._script = (IMAGES / "carrier" / "deploy.sh").read_bytes()
        self._shells = {shell.platform: shell_layer(shell, applets()) for shell in build.shells}
        self._plans = plan_layers(inventory.files)
        self._sums = cache.known(inventory.files) | (build.web.pins if build.web else {})
        self._layers = cache.layers(self._plans, self._sums)
        unknown = [file for file in inventory.files if file.path not in self._sums]
        self._written = cache.written(unknown) if unknown else frozenset()
        self._sniffed = cache.facts(inventory.files, sniff.REVISION)
        self._lock = Lock()
        self._keeping = Lock()
        self._size = inventory.size
        self._done = 0
        self.bytes_read = 0

    def known_carrier(self) -> Carrier | None:
        """The carrier, if all of it follows from what was read before; nothing is read."""
        if None in self._layers or len(self._sniffed) < len(self._inventory.files):
            return None
        with self._line((), _FEWEST_BLOCKS) as line:
            return self._assembled(line, self._shell_layers(line))

    def stream(self, places: Sequence[Destination]) -> Carrier:
        """Read the model once and send each layer to the places that want it."""
        abreast = min([len(self._plans), *(place.abreast for place in places)]) if places else 1
        with self._line(places, BLOCKS if abreast == 1 else _FEWEST_BLOCKS) as line:
            shells = self._shell_layers(line)
            if abreast == 1:
                for number in range(len(self._plans)):
                    self._send(line, number)
            else:
                self._send_abreast(places, abreast)
            require_unchanged(self._inventory)
            return self._assembled(line, shells)

    def tell_damage(self) -> None:
        """Warn of files that are in the carrier as they are, and can hardly be read."""
        damaged = [(path, said.damaged) for path, said in sorted(self._sniffed.items()) if said.damaged]
        for path, why in damaged[:_TOLD]:
            self._story.warn(f"`{path}` may be damaged: {why}")
        if more := len(damaged[_TOLD:]):
            self._story.warn(f"{more:,} more file{'' if more == 1 else 's'} may be damaged")

    def _send_abreast(self, places: Sequence[Destination], abreast: int) -> None:
        pace = Pace(abreast, lambda: sum(place.held_back for place in places))
        with ExitStack() as stack:
            lines = [stack.enter_context(self._line(places, _FEWEST_BLOCKS)) for _ in range(abreast)]
            workers = [_Worker(line=line, send=self._send) for line in lines]
            try:
                Crew(workers, range(len(self._plans)), pace).run()
            except BaseException:
                # Here already: it ends what the lines wait for, and so the lines.
                abort_all(places)
                raise

    def _send(self, line: LayerLine, number: int) -> None:
        """Make a place have a layer, and remember it at once: a build that is killed later need not do it again."""
        plan = self._plans[number]
        look = not all(file.path in self._sniffed for file in plan.files)
        new = any(file.path in self._written for file in plan.files)
        sent = line.send(plan, self._layers[number], look=look, new=new)
        if self._build.web is not None:
            self._build.web.require(*sent.sums.values())
        with self._lock:
            self._layers[number] = sent.layer
            if not sent.sums:
                self._advance(sum(file.size for file in plan.files))
                return
            self._sums |= sent.sums
            self._sniffed |= sent.sniffed
        with self._keeping:
            layers = [(plan, sent.layer)]
            self._cache.remember(
                plan.files, layers, sent.sums, self._seen_ns, facts=sent.sniffed, revision=sniff.REVISION
            )

    def _assembled(self, line: LayerLine, shells: dict[Platform, Descriptor]) -> Carrier:
        metadata = self._metadata()
        last = line.send_small(metadata_layer(metadata, self._script))
        line.settle()
        return assemble(metadata, shells, [layer for layer in self._layers if layer], last)

    def _shell_layers(self, line: LayerLine) -> dict[Platform, Descriptor]:
        return {platform: line.send_small(plan) for platform, plan in self._shells.items()}

    def _line(self, places: Sequence[Destination], blocks: int) -> LayerLine:
        return LayerLine(ModelStream(self._count, sniff.tap, blocks), places, self._once_more)

    def _metadata(self) -> Metadata:
        sums = self._sums
        files = [FileSum(path=file.path, size=file.size, sha256=sums[file.path]) for file in self._inventory.files]
        found = merged(self._build.card.requires, self._sniffed)
        return describe(replace(self._build.card, formats=found.formats, requires=found.requires), files)

    def _count(self, count: int) -> None:
        with self._lock:
            self.bytes_read += count
            self._advance(count)

    def _once_more(self, count: int) -> None:
        with self._lock:
            self._size += count

    def _advance(self, count: int) -> None:
        self._done += count
        self._story.progress(self._build.card.name, self._done, self._size)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Worker:
    """A line in a crew, whose jobs are the numbers of layers."""

    line: LayerLine
    send: Callable[[LayerLine, int], None]

    def work(self, job: int) -> None:
        self.send(self.line, job)

    def close(self) -> None:
        self.line.settle()

    def break_off(self, failure: BaseException) -> None:
        self.line.break_off(failure)


def abort_all(places: Sequence[Destination]) -> None:
    """What went wrong first is what is told, and no place keeps another from cleaning up."""
    for place in places:
        with suppress(BaseException):
            place.abort()
