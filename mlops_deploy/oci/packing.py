"""Which file travels in which layer: a pure function of paths and sizes.

A big file has a layer of its own, so that one changed shard moves alone and layers are fetched side by side; small
files share layers. Docker's layer store stops at 125 layers, everything included.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from mlops_deploy.oci.inventory import SourceFile
from mlops_deploy.oci.tar import Entry, ModelFile, folders_of, layer_size

BIG: Final = 32 * 2**20
"""Bytes from which a file has a layer of its own."""

BUNDLE: Final = 128 * 2**20
"""Bytes after which a new layer of small files begins."""

MAX_LAYERS: Final = 125
_OWN_LAYERS: Final = 96
_BUNDLES: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPlan:
    """One layer to be: its entries in order."""

    entries: tuple[Entry, ...]

    @property
    def size(self) -> int:
        """Bytes of the layer, headers and trailer included."""
        return layer_size(self.entries)

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """The model files in it."""
        return tuple(entry.file for entry in self.entries if isinstance(entry, ModelFile))


def plan_layers(files: Sequence[SourceFile]) -> tuple[LayerPlan, ...]:
    """Plan the model layers: big files first, each alone; then small ones together, in the order of their paths."""
    by_size = sorted((file for file in files if file.size >= BIG), key=lambda file: (-file.size, file.path.encode()))
    alone = frozenset(file.path for file in by_size[:_OWN_LAYERS])
    big = ([file] for file in files if file.path in alone)
    small = [file for file in files if file.path not in alone]
    return tuple(_layer(group) for group in chain(big, _bundles(small)))


def _bundles(files: Sequence[SourceFile]) -> Iterator[list[SourceFile]]:
    # Two neighbouring bundles hold more than `limit` together, so there are at most 2 * total / limit + 1 of them.
    limit = max(BUNDLE, 2 * sum(file.size for file in files) // _BUNDLES)
    bundle: list[SourceFile] = []
    held = 0
    for file in files:
        if bundle and held + file.size > limit:
            yield bundle
            bundle, held = [], 0
        bundle.append(file)
        held += file.size
    if bundle:
        yield bundle


def _layer(files: Sequence[SourceFile]) -> LayerPlan:
    members = tuple(ModelFile(name=f"models/{file.path}", file=file) for file in files)
    return LayerPlan(entries=(*folders_of(tuple(member.name for member in members)), *members))
