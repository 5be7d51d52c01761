"""Find a carrier by what a user calls it, and look at it or verify it."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlops_deploy.api.registry_images import FindRegistries, Remote, look_up, registry_ref, require_carrier
from mlops_deploy.errors import ContentMismatchError, DeployError, UnusableInputError
from mlops_deploy.oci.blobs import ArchiveBlobs, Blobs, LayoutBlobs
from mlops_deploy.oci.card import Listing
from mlops_deploy.oci.check import check
from mlops_deploy.oci.documents import DocumentError
from mlops_deploy.oci.layout import Named, named
from mlops_deploy.oci.names import printable
from mlops_deploy.oci.types import INDEX, MANIFEST
from mlops_deploy.oci.view import CarrierView, view, view_images
from mlops_deploy.spec.owner import LABEL
from mlops_deploy.spec.refs import Digest
from mlops_deploy.store.layout import LayoutStore, Stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Where a carrier is, every name that it has there and, when a store holds it, what its last build said."""

    blobs: Blobs
    digest: Digest
    names: tuple[str, ...]
    stored: Stored | None = None
    remote: Remote | None = None

    @property
    def registry(self) -> str | None:
        """Which repository of a registry it was found in, where it was."""
        return None if self.remote is None else self.remote.repository.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A carrier of which every byte is as it should be."""

    digest: Digest
    listing: Listing


def find_carrier(text: str, store: LayoutStore, registries: FindRegistries) -> Found:
    """The carrier that `text` names: an archive file (a path), else a reference in the store, else in its registry.

    A registry is asked where the reference begins with its host and the store does not have it. Raises
    `UnusableInputError` for a path at which no archive of a carrier is, for an unknown name, and for another image.
    """
    looks_like_path = text.startswith(("/", "./", "../")) or text.endswith(".tar")
    mode = _mode(text, must_be_there=looks_like_path)
    if mode is None or (stat.S_ISDIR(mode) and not looks_like_path):
        return _by_name(text, store, registries)
    if not stat.S_ISREG(mode):
        raise UnusableInputError(
            f"`{text}` is not a plain file", hint="name an archive, or a carrier in the store; `--store DIR` says which"
        )
    try:
        return _in_archive(Path(text))
    except UnusableInputError:
        # A model file may have the name of its carrier.
        if looks_like_path or not any(stored.name == text for stored in store.builds()):
            raise
        return _in_store(text, store)


def inspect_carrier(found: Found) -> CarrierView:
    """What the carrier says of itself, read from its small blobs alone."""
    with _reading():
        return view(found.blobs, found.digest)


def verify_carrier(found: Found) -> Verified:
    """Read every byte of it once and recompute all; raise `ContentMismatchError` that lists every mismatch."""
    with _reading():
        checked = check(found.blobs, found.digest)
    mismatches = checked.mismatches
    if not mismatches and checked.listing is not None:
        return Verified(digest=found.digest, listing=checked.listing)
    count = "1 mismatch" if len(mismatches) == 1 else f"{len(mismatches):,} mismatches"
    raise ContentMismatchError(
        f"the carrier `{found.digest}` does not verify: {count}",
        detail=[f"  {printable(str(mismatch))}" for mismatch in mismatches],
        hint=_remedy(found),
    )


def _remedy(found: Found) -> str:
    if found.stored:
        return "remove the damaged files (a blob's file name is its digest) and run `mlops-deploy build-model` again"
    if found.remote:
        return "do not use it; push it again under another name, once the registry keeps what it is sent"
    return "do not use it; `mlops-deploy build-model --archive` makes it again"


def _mode(text: str, *, must_be_there: bool) -> int | None:
    try:
        return Path(text).stat().st_mode
    except FileNotFoundError as error:
        if must_be_there:
            raise UnusableInputError(
                f"no such file: `{text}`", hint="`mlops-deploy build-model --archive FILE` makes an archive"
            ) from error
    except (OSError, ValueError) as error:
        if must_be_there:
            why = os.strerror(error.errno or 0).lower() if isinstance(error, OSError) else str(error)
            raise UnusableInputError(f"`{text}` cannot be read: {why}") from error
    return None


def _by_name(text: str, store: LayoutStore, registries: FindRegistries) -> Found:
    ref = registry_ref(text)
    if ref is None or store.has_carrier(text):
        return _in_store(text, store)
    return found_in_registry(look_up(ref, registries()))


def found_in_registry(remote: Remote) -> Found:
    """The carrier at hand; raise `UnusableInputError` for another image."""
    require_carrier(remote)
    names = (f"{remote.ref.name}:{remote.ref.tag}",) if remote.ref.tag else ()
    return Found(blobs=remote.blobs, digest=remote.digest, names=names, remote=remote)


def _in_store(text: str, store: LayoutStore) -> Found:
    stored = store.find(text)
    blobs = LayoutBlobs(store.path)
    try:
        names = _names(named(blobs), stored.digest)
    except (DocumentError, FileNotFoundError):
        names = ()
    return Found(blobs=blobs, digest=stored.digest, names=names or stored.tags, stored=stored)


def _in_archive(path: Path) -> Found:
    archive = ArchiveBlobs.open(path)
    try:
        entries = named(archive)
    except DocumentError as error:
        raise ContentMismatchError(f"the archive `{path}` is damaged: `index.json`: {error}") from error
    digests = {entry.target.digest for entry in entries}
    if len(digests) != 1 or entries[0].target.media_type == MANIFEST:
        raise UnusableInputError(
            f"`{path}` is an archive of {len(digests)} images, not of one carrier for its platforms",
            hint="`mlops-deploy build-model --archive` makes one",
        )
    _require_ours(path, archive, entries[0])
    return Found(blobs=archive, digest=entries[0].target.digest, names=_names(entries, entries[0].target.digest))


def _require_ours(path: Path, archive: ArchiveBlobs, entry: Named) -> None:
    """An image that is whole, but never was a carrier, is the wrong file and no damage."""
    try:
        images = view_images(archive, entry.target.digest)
    except ContentMismatchError:
        return
    if entry.target.media_type == INDEX and not any(f"{LABEL}name" in image.labels for image in images):
        raise UnusableInputError(
            f"`{path}` holds an image, but no carrier", hint="`mlops-deploy build-model --archive` makes one"
        )


def _names(entries: tuple[Named, ...], digest: Digest) -> tuple[str, ...]:
    return tuple(dict.fromkeys(entry.name for entry in entries if entry.name and entry.target.digest == digest))


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DeployError(f"the carrier cannot be read: {os.strerror(error.errno or 0).lower()}") from error
