"""The embedded store: an OCI image layout that skopeo, oras and crane read, plus the log of builds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mlops_deploy.errors import DeployError, UnusableInputError
from mlops_deploy.oci.archive import LAYOUT
from mlops_deploy.oci.blobs import LayoutBlobs
from mlops_deploy.oci.metadata import listed
from mlops_deploy.oci.partial import PartialFile, reporting, sweep, sync_folder
from mlops_deploy.oci.types import Blob, Descriptor, JsonDict
from mlops_deploy.oci.view import view_images
from mlops_deploy.spec.owner import LABEL
from mlops_deploy.spec.refs import SHORT, ContentId, Digest, ImageRef
from mlops_deploy.store import index as naming
from mlops_deploy.store import log
from mlops_deploy.store.files import locked, replace_file, unheard

_LOCK_DEADLINE: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A carrier in the store, as its last build names it; what others copied there has no time and no source.

    One that was only `pulled` is in a registry and in an engine, and not in a store. `size` is that of the model in
    bytes, `formats` and `requires` what it is and needs, where somebody asked for this very carrier and its image says
    so.
    """

    name: str
    digest: Digest
    content_id: ContentId
    tags: tuple[str, ...]
    time: str | None
    source: str | None
    pulled: bool = False
    size: int | None = None
    formats: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()

    def labelled(self, labels: Mapping[str, str]) -> "Stored":
        """The same carrier with what its labels say of its model."""
        size = labels.get(f"{LABEL}size", "")
        return replace(
            self,
            size=int(size) if size.isdecimal() else None,
            formats=listed(labels, "formats"),
            requires=listed(labels, "requires"),
        )

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

    def remove_empty(self) -> None:
        """Remove a layout without a single blob; one that another build has begun to fill stays."""
        with suppress(OSError):
            for folder in (self._blobs, self._blobs.parent):
                folder.rmdir()
            (self.path / "oci-layout").unlink(missing_ok=True)
            self.path.rmdir()

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

    def record(
        self,
        entry: log.Built | None,
        names: Sequence[ImageRef],
        index: Descriptor,
        tell: Callable[[str], None] = unheard,
    ) -> None:
        """Append the build to the log, then name the carrier in `index.json`, under the store's lock.

        What was not built here, nor is newer than what was, has no entry. In between, names still mean what they meant
        before. `tell` hears when another process holds the lock; raises `LockedError` when it does so for a minute.
        """
        with locked(self.path / ".lock", f"writing to the store `{self.path}`", deadline=_LOCK_DEADLINE, tell=tell):
            sync_folder(self._blobs)
            renamed = naming.renamed(self._index(), names, index)
            if entry is not None:
                log.append(self.path / "log.jsonl", entry)
            replace_file(self.path / "index.json", renamed)

    def builds(self) -> Iterator[Stored]:
        """All builds, newest first; then the carriers of `index.json` that are in no log, read from their labels."""
        logged = list(log.read(self.path / "log.jsonl"))
        for entry in reversed(logged):
            yield Stored(
                name=entry.name,
                digest=Digest.parse(entry.digest),
                content_id=ContentId(entry.content_id),
                tags=entry.tags,
                time=entry.time,
                source=entry.source,
            )
        yield from self._unlogged({entry.digest for entry in logged})

    def _unlogged(self, known: set[str]) -> Iterator[Stored]:
        names: dict[str, list[str]] = {}
        for name, digest in reversed(naming.entries(self._index())):
            if digest not in known:
                names.setdefault(digest, []).extend([name] if name else [])
        for digest, found in names.items():
            with suppress(DeployError):
                yield self._read(Digest.parse(digest), found)

    def _read(self, digest: Digest, names: Sequence[str]) -> Stored:
        """Raise a `DeployError` for what is no carrier, or is damaged."""
        labels = view_images(LayoutBlobs(self.path), digest)[0].labels
        name, content_id = labels.get(f"{LABEL}name", ""), ContentId(labels.get(f"{LABEL}content", ""))
        tags = tuple(str(tag) for text in names if (tag := _as_tag(text, name)))
        ImageRef.parse(name)
        return Stored(name=name, digest=digest, content_id=content_id, tags=tags, time=None, source=None)

    def newest(self, name: str) -> Stored | None:
        """The last build of the model `name`; None when there is none."""
        found = next((stored for stored in self.builds() if stored.name == name), None)
        return found and self._labelled(found)

    def has_carrier(self, text: str) -> bool:
        """Whether `find` knows a carrier that `text` names."""
        tagged = self._tagged()
        return any(_names(stored, text.removeprefix("sha256:"), tagged) for stored in self.builds())

    def find(self, text: str) -> Stored:
        """The carrier that `text` names: `NAME`, `NAME:TAG`, `NAME@sha256:…`, or digits of its digest or content id.

        A name alone means its newest carrier. Raises `UnusableInputError` that lists what is there.
        """
        tagged = self._tagged()
        found = next((stored for stored in self.builds() if _names(stored, text.removeprefix("sha256:"), tagged)), None)
        if found is None:
            raise UnusableInputError(f"no carrier `{text}` in the store `{self.path}`", hint=self._what_is_there())
        return self._labelled(found)

    def _labelled(self, stored: Stored) -> Stored:
        try:
            labels = view_images(LayoutBlobs(self.path), stored.digest)[0].labels
        except DeployError:
            return stored
        return stored.labelled(labels)

    def _what_is_there(self) -> str:
        names = sorted({f"`{stored.image}:{stored.digest.short}`" for stored in self.builds()})
        if names:
            return f"there are {', '.join(names[:10])}{' …' if len(names) > 10 else ''}"  # noqa: PLR2004 - a line's worth
        if naming.entries(self._index()):
            return "none of its images is a whole carrier; `skopeo copy --all --preserve-digests` copies whole ones"
        return "the store is empty; build a carrier with `mlops-deploy build-model`"

    def _tagged(self) -> dict[str, str]:
        """Names of `index.json` with the digest that each has now."""
        return {name: digest for name, digest in naming.entries(self._index()) if name}

    def _index(self) -> JsonDict:
        return naming.read(self.path / "index.json")


def _as_tag(text: str, name: str) -> ImageRef | None:
    """`NAME:TAG` as we write it; others write the tag alone."""
    with suppress(UnusableInputError):
        ref = ImageRef.parse(text if ":" in text else f"{name}:{text}")
        return ref if ref.tag else None
    return None


def _names(stored: Stored, text: str, tagged: dict[str, str]) -> bool:
    if text in tagged:
        return str(stored.digest) == tagged[text]
    if len(text) >= SHORT and (stored.digest.hex.startswith(text) or stored.content_id.hex.startswith(text)):
        return True
    if stored.time is None and text in stored.tags:
        return True
    try:
        ref = ImageRef.parse(text)
    except UnusableInputError:
        return False
    called = ref.name in {stored.name, stored.image, *(ImageRef.parse(tag).name for tag in stored.tags)}
    if ref.digest:
        return called and ref.digest == stored.digest
    return called and ref.tag in {None, stored.digest.short}
