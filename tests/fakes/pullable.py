"""A carrier that can be pulled from a store, the same model as a tree for deploy.sh, and who sees what is asked for."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlops_deploy.api.build_model import ModelBuild, build_model
from mlops_deploy.api.origins import StoreOrigin
from mlops_deploy.errors import UnreachableError
from mlops_deploy.oci.metadata import ModelCard
from mlops_deploy.spec.refs import Digest, ImageRef
from mlops_deploy.store.cache import DigestCache
from mlops_deploy.store.destination import StoreDestination
from mlops_deploy.store.layout import LayoutStore
from mlops_deploy.store.log import Built
from tests.fakes.carrier_tree import NAME, Carrier, Volume, contents, make_carrier
from tests.fakes.carriers import AMD64, Silent, fake_shell

FILES = {
    "empty": b"",
    "model.bin": bytes(range(256)) * 1024,
    "names with blanks/a b.txt": b"blanks",
    "z/deep/er": b"\x00" * 5000,
}


@dataclass(kw_only=True)
class Pullable(Volume):
    """A volume, and the same carrier twice: in a store, and as the tree that deploy.sh copies from."""

    store: LayoutStore
    tag: str = f"{NAME}:1"

    def origin(self, **how: object) -> "Watched":
        return Watched(self.store, self.store.find(self.tag), **how)

    def is_clean(self) -> bool:
        """Nothing but the model, its link, the fifo and the records."""
        kept = {p.name for p in self.path.iterdir()} == {"v", self.name}
        return kept and {p.name for p in (self.path / "v").iterdir()} <= {".alive", ".listings", self.carrier.id}

    def is_never_half(self) -> bool:
        """Whole, or not there; and no link that leads elsewhere."""
        linked = not self.link.is_symlink() or self.link.readlink() == Path("v", self.carrier.id)
        return contents(self.home) in (None, self.carrier.files) and linked


class Watched(StoreOrigin):
    """Counts the bytes of layers that it gives, and stops giving after `most` of them."""

    def __init__(self, store, stored, *, most: int | None = None, piece: int = 2**20):
        super().__init__(store, stored)
        self.given = 0
        self.reads: list[tuple[Digest, int]] = []
        self.most = most
        self.piece = piece

    def read(self, digest: Digest, *, start: int, size: int) -> Iterator[bytes]:
        self.reads.append((digest, start))
        for block in super().read(digest, start=start, size=size):
            for at in range(0, len(block), self.piece):
                part = block[at : at + self.piece]
                if self.most is not None and self.given + len(part) > self.most:
                    raise UnreachableError("the registry does not answer")
                self.given += len(part)
                yield part


def pullable(folder: Path, files: dict[str, bytes] | None = None, name: str = NAME) -> Pullable:
    """A volume at `folder / "volume"`, not made yet."""
    carrier = make_carrier(folder / "image", FILES if files is None else files, name)
    store = stored(folder, carrier, name)
    return Pullable(path=folder / "volume", carrier=carrier, name=name, store=store, tag=f"{name}:1")


def stored(folder: Path, carrier: Carrier, name: str) -> LayoutStore:
    store = LayoutStore(folder / "store")
    shells = (fake_shell(folder, AMD64),)
    build = ModelBuild(
        path=carrier.root / "models", card=ModelCard(name=name), shells=shells, tags=(ImageRef.parse(f"{name}:1"),)
    )

    def entry(built):
        return Built(
            time="2026-01-01T00:00:00+00:00",
            name=name,
            digest=str(built.digest),
            content_id=str(built.content_id),
            tags=(f"{name}:1",),
            source="",
        )

    done = build_model(build, (StoreDestination(store, entry),), DigestCache(None), Silent())
    assert str(getattr(done, "carrier", done).content_id) == carrier.id
    return store
