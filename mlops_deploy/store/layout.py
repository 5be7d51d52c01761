"""The embedded store: an OCI image layout that skopeo, oras and crane read, plus the log of builds."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlops_deploy.errors import DeployError, UnusableInputError
from mlops_deploy.oci.archive import LAYOUT
from mlops_deploy.oci.partial import PartialFile, reporting, sweep, sync_folder
from mlops_deploy.oci.types import REF_NAME, Blob, Descriptor, JsonDict
from mlops_deploy.spec.refs import SHORT, ContentId, Digest, ImageRef
from mlops_deploy.store import log
from mlops_deploy.store.files import locked, replace_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A carrier in the store, as its last build names it."""

    name: str
    digest: Digest
    content_id: ContentId
    tags: tuple[str, ...]
    time: str
    source: str

    @property
    def image(self) -> str:
        """The image's name without a tag: of its first tag, else the model's."""
        return ImageRef.parse(self.tags[0]).name if self.tags else self.name

    @property
    def ref(self) -> ImageRef:
        """`NAME@sha256:…`."""
        return ImageRef(name=self.image, digest=self.digest)


class LayoutStore:
    """An OCI layout folder. Blobs appear whole, by one rename; `index.json` and the log change under a lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._blobs = path / "blobs" / "sha256"

    def create(self) -> None:
        """Make the folder a layout, if it is none yet; raise `DeployError` when that cannot be.

        Files that killed builds left half-written are removed.
        """
        with reporting(f"the store `{self.path}`"):
            self._blobs.mkdir(parents=True, exist_ok=True)
            if not (self.path / "oci-layout").exists():
                replace_file(self.path / "oci-layout", LAYOUT)
        for folder in (self.path, self._blobs):
            sweep(folder)

    def blob_path(self, digest: Digest) -> Path:
        """Where the blob is, or would be."""
        return self._blobs / digest.hex

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether a blob of that digest and size is there; its bytes are not read."""
        try:
            return self.blob_path(descriptor.digest).stat().st_size == descriptor.size
        except OSError:
            return False

    def put_blob(self, blob: Blob) -> None:
        """Write a small blob, unless it is there."""
        if not self.has_blob(blob.descriptor):
            replace_file(self.blob_path(blob.descriptor.digest), blob.data)

    def new_blob(self) -> PartialFile:
        """A file beside the blobs that becomes one."""
        return PartialFile(self._blobs)

    def record(self, entry: log.Built, names: Sequence[ImageRef], index: Descriptor) -> None:
        """Name a complete carrier in `index.json` and append the build to the log, under the store's lock."""
        with locked(self.path / ".lock"):
            sync_folder(self._blobs)
            replace_file(self.path / "index.json", _renamed(self._index(), names, index))
            log.append(self.path / "log.jsonl", entry)

    def builds(self) -> Iterator[Stored]:
        """All builds, newest first."""
        for entry in reversed(list(log.read(self.path / "log.jsonl"))):
            yield Stored(
                name=entry.name,
                digest=Digest.parse(entry.digest),
                content_id=ContentId(entry.content_id),
                tags=entry.tags,
                time=entry.time,
                source=entry.source,
            )

    def newest(self, name: str) -> Stored | None:
        """The last build of the model `name`; None when there is none."""
        return next((stored for stored in self.builds() if stored.name == name), None)

    def find(self, text: str) -> Stored:
        """The carrier that `text` names: `NAME`, `NAME:TAG`, `NAME@sha256:…`, or digits of its digest or content id.

        A name alone means its newest carrier. Raises `UnusableInputError` that lists what is there.
        """
        tagged = self._tagged()
        found = next((stored for stored in self.builds() if _names(stored, text.removeprefix("sha256:"), tagged)), None)
        if found is None:
            raise UnusableInputError(f"no carrier `{text}` in the store `{self.path}`", hint=self._what_is_there())
        return found

    def _what_is_there(self) -> str:
        names = sorted({f"`{stored.image}:{stored.digest.short}`" for stored in self.builds()})
        if not names:
            return "the store is empty; build a carrier with `mlops-deploy build-model`"
        return f"there are {', '.join(names[:10])}{' …' if len(names) > 10 else ''}"  # noqa: PLR2004 - a line's worth

    def _tagged(self) -> dict[str, str]:
        """Names of `index.json` with the digest that each has now."""
        named = ((_ref_name(entry), entry.get("digest")) for entry in _entries(self._index()))
        return {name: str(digest) for name, digest in named if name}

    def _index(self) -> JsonDict:
        path = self.path / "index.json"
        try:
            document = json.loads(path.read_bytes())
        except FileNotFoundError:
            document = {"schemaVersion": 2, "manifests": []}
        except (OSError, ValueError) as error:
            raise _unreadable(path) from error
        if not isinstance(document, dict):
            raise _unreadable(path)
        return document


def _unreadable(path: Path) -> DeployError:
    return DeployError(
        f"`{path}` cannot be read as an image index",
        hint="restore it, or move it away: the next build writes a new one, and names move to what is built then",
    )


def _entries(index: JsonDict) -> list[JsonDict]:
    found = index.get("manifests")
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _ref_name(entry: JsonDict) -> str | None:
    annotations = entry.get("annotations")
    name = annotations.get(REF_NAME) if isinstance(annotations, dict) else None
    return name if isinstance(name, str) else None


def _renamed(index: JsonDict, names: Sequence[ImageRef], target: Descriptor) -> bytes:
    taken = {str(name) for name in names}
    kept = [entry for entry in _entries(index) if _ref_name(entry) not in taken]
    added = [target.as_json(annotations={REF_NAME: str(name)}) for name in names]
    return Blob.of_json("application/json", {**index, "schemaVersion": 2, "manifests": kept + added}).data


def _names(stored: Stored, text: str, tagged: dict[str, str]) -> bool:
    if len(text) >= SHORT and (stored.digest.hex.startswith(text) or stored.content_id.hex.startswith(text)):
        return True
    if text in tagged:
        return str(stored.digest) == tagged[text]
    try:
        ref = ImageRef.parse(text)
    except UnusableInputError:
        return False
    if ref.name not in {stored.name, stored.image, *(ImageRef.parse(tag).name for tag in stored.tags)}:
        return False
    if ref.digest:
        return ref.digest == stored.digest
    return ref.tag is None or (ref.tag == stored.digest.short and len(ref.tag) == SHORT)
