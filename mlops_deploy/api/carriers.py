"""Find a carrier by what a user calls it, and look at it or verify it."""

from dataclasses import dataclass
from pathlib import Path

from mlops_deploy.errors import ContentMismatchError, UnusableInputError
from mlops_deploy.oci.blobs import ArchiveBlobs, Blobs, LayoutBlobs
from mlops_deploy.oci.check import check
from mlops_deploy.oci.view import CarrierView, view, view_images
from mlops_deploy.spec.refs import Digest
from mlops_deploy.store.layout import LayoutStore, Stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Where a carrier is and, when a store holds it, what its last build said."""

    blobs: Blobs
    digest: Digest
    stored: Stored | None = None


def find_carrier(text: str, store: LayoutStore) -> Found:
    """The carrier that `text` names: an archive file (a path), else a reference in the store."""
    path = Path(text)
    if path.is_file():
        archive = ArchiveBlobs.open(path)
        if not archive.named:
            raise UnusableInputError(f"the archive `{path}` names no carrier")
        return Found(blobs=archive, digest=archive.named[0][1])
    stored = store.find(text)
    return Found(blobs=LayoutBlobs(store.path), digest=stored.digest, stored=stored)


def inspect_carrier(found: Found) -> CarrierView:
    """What the carrier says of itself, read from its small blobs alone."""
    return view(found.blobs, found.digest)


def verify_carrier(found: Found) -> CarrierView:
    """Recompute all of it; raise `ContentMismatchError` that lists every mismatch."""
    mismatches = check(found.blobs, found.digest, view_images(found.blobs, found.digest))
    if mismatches:
        count = "1 mismatch" if len(mismatches) == 1 else f"{len(mismatches)} mismatches"
        raise ContentMismatchError(
            f"the carrier `{found.digest}` does not verify: {count}",
            detail=[f"  {mismatch}" for mismatch in mismatches],
            hint="remove the damaged files (a blob's file name is its digest) and run `mlops-deploy build-model` again",
        )
    return view(found.blobs, found.digest)
