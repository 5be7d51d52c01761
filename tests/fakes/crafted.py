"""Carriers that somebody meant harm with: every digest and size is right again, and one thing is not."""

import io
import json
import shutil
import tarfile
from hashlib import sha256
from pathlib import Path

from mlops_deploy.api.build_model import ModelBuild, build_model
from mlops_deploy.oci.archive import ArchiveFile
from mlops_deploy.oci.metadata import ModelCard
from mlops_deploy.oci.types import INDEX, REF_NAME, Platform
from mlops_deploy.spec.refs import ImageRef
from mlops_deploy.store.cache import DigestCache
from mlops_deploy.store.destination import StoreDestination
from mlops_deploy.store.layout import LayoutStore
from mlops_deploy.store.log import Built
from tests.fakes.carriers import AMD64, ARM64, Silent, fake_shell, write_model

FILES = {"model.bin": b"weights" * 1000, "with blanks/vocäb": b"a b c", "x" * 120: b"long"}


def good_carrier(folder: Path) -> Path:
    """A store with one carrier `digits:1` for two platforms, and the same as the archive `carrier.tar` beside it."""
    store = LayoutStore(folder / "store")
    shells = tuple(fake_shell(folder, machine) for machine in (AMD64, ARM64))
    card = ModelCard(name="digits", requires=("numpy>=2",), licence="MIT", signature={"inputs": [1.5, "ä"]})
    model = write_model(folder / "model", FILES)
    build = ModelBuild(path=model, card=card, shells=shells, tags=(ImageRef.parse("digits:1"),))

    def entry(carrier):
        return Built(
            time="2026-01-01T00:00:00+00:00",
            name=card.name,
            digest=str(carrier.digest),
            content_id=str(carrier.content_id),
            tags=("digits:1",),
            source="",
        )

    places = (ArchiveFile(folder / "carrier.tar", Platform("linux", "amd64")), StoreDestination(store, entry))
    build_model(build, places, DigestCache(None), Silent())
    return store.path


class Crafted:
    """The documents and layers of the first platform's image, to be changed; then `write` makes all digests right."""

    def __init__(self, good: Path, to: Path) -> None:
        self.path = Path(shutil.copytree(good, to))
        self.log = json.loads((self.path / "log.jsonl").read_text())
        self.index = self.document(self.log["digest"])
        self.image = self.index["manifests"][0]
        self.manifest = self.document(self.image["digest"])
        self.config = self.document(self.manifest["config"]["digest"])
        self.layers = [self.blob(layer["digest"]) for layer in self.manifest["layers"]]
        self.late = []

    def blob(self, digest: str) -> bytes:
        return (self.path / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()

    def document(self, digest: str):
        return json.loads(self.blob(digest))

    def put(self, data: bytes) -> dict[str, object]:
        digest = sha256(data).hexdigest()
        (self.path / "blobs" / "sha256" / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    def before_last(self, *members, **settings) -> None:
        self.layers.insert(-1, tar_of(*members, **settings))

    def in_last(self, change) -> None:
        """`change` is given each member of the last layer with its bytes, and gives what takes its place, or None."""
        self.layers[-1] = rewritten(self.layers[-1], change)

    def afterwards(self, change) -> None:
        """Something to be done to manifest, config or index when their own digests are known."""
        self.late.append(change)

    def write(self, *, index: bytes | None = None, manifest: bytes | None = None, config: bytes | None = None) -> str:
        kind = self.manifest["layers"][0]["mediaType"]
        self.manifest["layers"] = [{"mediaType": kind, **self.put(layer)} for layer in self.layers]
        self.config["rootfs"]["diff_ids"] = [layer["digest"] for layer in self.manifest["layers"]]
        for change in self.late:
            change(self)
        self.manifest["config"] |= self.put(config or dumped(self.config))
        for change in self.late:
            change(self)
        self.image |= self.put(manifest or dumped(self.manifest))
        for change in self.late:
            change(self)
        described = self.put(index or dumped(self.index))
        self.log["digest"] = described["digest"]
        (self.path / "log.jsonl").write_text(json.dumps(self.log) + "\n")
        self.name(described)
        return self.log["digest"]

    def name(self, described) -> None:
        entry = {"mediaType": INDEX, **described, "annotations": {REF_NAME: "digits:1"}}
        (self.path / "index.json").write_bytes(dumped({"schemaVersion": 2, "manifests": [entry]}))


def dumped(document) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def member(name: str, data: bytes = b"", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def tar_of(*members) -> bytes:
    """A tar in the very form of a carrier's layer, but for what the members say."""
    parts = [
        info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict") + data + bytes(-len(data) % 512) for info, data in members
    ]
    return b"".join(parts) + bytes(1024)


def rewritten(layer: bytes, change) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        found = [(info, tar.extractfile(info).read() if info.isreg() else b"") for info in tar]
    for info, _ in found:
        info.pax_headers = {}
    return tar_of(*(new for info, data in found if (new := change(info, data)) is not None))


def old_sparse(name: str, size: int) -> bytes:
    """The header of a sparse file in GNU's old form: no bytes, and a length that somebody claims."""
    head = bytearray(512)
    for at, value in (
        (0, name.encode()), (100, b"0000644"), (108, b"0000000"), (116, b"0000000"), (124, b"0" * 11),
        (136, b"0" * 11), (156, b"S"), (257, b"ustar  \0"), (386, tarfile.itn(size, 12, tarfile.GNU_FORMAT)),
        (398, tarfile.itn(0, 12, tarfile.GNU_FORMAT)), (483, tarfile.itn(size, 12, tarfile.GNU_FORMAT)),
    ):  # fmt: skip
        head[at : at + len(value)] = value
    return checksummed(head)


def checksummed(head: bytearray) -> bytes:
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


def huge_records(size: int) -> bytes:
    """The header of an extended header that claims to have `size` bytes."""
    info = tarfile.TarInfo("./PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, size
    return info.tobuf(tarfile.GNU_FORMAT if size >= 8**11 else tarfile.USTAR_FORMAT)
