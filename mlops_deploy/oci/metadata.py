"""What a carrier says about its model: SHA256SUMS (its digest is the content id), SIZES and manifest.json.

Nothing that a promotion changes or a machine adds is in here, so that the same model has the same digest anywhere.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from mlops_deploy.oci.packing import LayerPlan
from mlops_deploy.oci.tar import Folder, Text
from mlops_deploy.spec.deploy import JsonValue
from mlops_deploy.spec.owner import LABEL
from mlops_deploy.spec.refs import ContentId


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSum:
    """One file of a model: path inside it, size in bytes, sha256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What the user declares about a model, and what its files say: their formats, what they need of a server."""

    name: str
    formats: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    licence: str | None = None
    signature: Mapping[str, JsonValue] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """The three documents of `/carrier/`, and the content id that follows from the first."""

    card: ModelCard
    files: tuple[FileSum, ...]
    content_id: ContentId
    sums: bytes
    sizes: bytes
    manifest: bytes

    @property
    def size(self) -> int:
        """Bytes of all model files."""
        return sum(file.size for file in self.files)

    def labels(self) -> dict[str, str]:
        """All but the list of files, so that it can be read without pulling a layer."""
        found = {
            f"{LABEL}name": self.card.name,
            f"{LABEL}content": str(self.content_id),
            f"{LABEL}files": str(len(self.files)),
            f"{LABEL}size": str(self.size),
        }
        if self.card.formats:
            found[f"{LABEL}formats"] = _compact(list(self.card.formats))
        if self.card.requires:
            found[f"{LABEL}requires"] = _compact(list(self.card.requires))
        if self.card.licence:
            found[f"{LABEL}licence"] = self.card.licence
            found["org.opencontainers.image.licenses"] = self.card.licence
        if self.card.signature is not None:
            found[f"{LABEL}signature"] = _compact(self.card.signature)
        return found


def describe(card: ModelCard, files: Sequence[FileSum]) -> Metadata:
    """Make the metadata of a model whose files are sorted by the bytes of their paths."""
    sums = "".join(f"{file.sha256}  ./{file.path}\n" for file in files).encode()
    sizes = "".join(f"{file.size} ./{file.path}\n" for file in files).encode()
    content_id = ContentId(sha256(sums).hexdigest())
    return Metadata(
        card=card,
        files=tuple(files),
        content_id=content_id,
        sums=sums,
        sizes=sizes,
        manifest=_manifest(card, files, content_id),
    )


def listed(labels: Mapping[str, str], key: str) -> tuple[str, ...]:
    """The list of texts that a carrier's label `key` holds; none where there is no such label, or it is damaged."""
    try:
        found = json.loads(labels.get(f"{LABEL}{key}", "[]"))
    except (ValueError, RecursionError):
        return ()
    return tuple(found) if isinstance(found, list) and all(isinstance(one, str) for one in found) else ()


def metadata_layer(metadata: Metadata, deploy_script: bytes) -> LayerPlan:
    """The last layer: what it is and how it is copied, so that a new script moves a few kilobytes."""
    return LayerPlan(
        entries=(
            Folder(name="carrier"),
            Text(name="carrier/SHA256SUMS", data=metadata.sums),
            Text(name="carrier/SIZES", data=metadata.sizes),
            Text(name="carrier/manifest.json", data=metadata.manifest),
            Text(name="deploy.sh", data=deploy_script, executable=True),
        )
    )


def _manifest(card: ModelCard, files: Sequence[FileSum], content_id: ContentId) -> bytes:
    # One top-level key per line, the name first: deploy.sh finds it by its line.
    head: dict[str, JsonValue] = {"name": card.name, "content_id": str(content_id)}
    if card.formats:
        head["formats"] = list(card.formats)
    head["requires"] = list(card.requires)
    head["licence"] = card.licence
    head["signature"] = None if card.signature is None else dict(card.signature)
    lines = [f"  {json.dumps(key)}: {_compact(value)}," for key, value in head.items()]
    listed = [
        f"    {_compact({'path': file.path, 'size': file.size, 'sha256': file.sha256}, ordered=False)}"
        for file in files
    ]
    text = "\n".join(["{", '  "schema": 1,', *lines, '  "files": [', ",\n".join(listed), "  ]", "}", ""])
    return text.encode()


def _compact(value: object, *, ordered: bool = True) -> str:
    return json.dumps(value, sort_keys=ordered, separators=(",", ":"), ensure_ascii=False)
