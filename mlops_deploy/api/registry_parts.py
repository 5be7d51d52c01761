"""A carrier's parts in a registry: each is looked for before a tag is set; registries lose things, and some lie."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

from mlops_deploy.api.abreast import abreast
from mlops_deploy.errors import ContentMismatchError
from mlops_deploy.oci.types import Blob, Descriptor
from mlops_deploy.ports import Repository

_LOOKS: Final = 8
"""Parts that are looked for side by side: small questions, whose answers take their time."""


def missing_part(
    repository: Repository, blobs: Iterable[Descriptor], documents: Iterable[Descriptor]
) -> Descriptor | None:
    """One of the blobs and documents (indexes, manifests) that the repository does not have; None when it has all."""
    missing: list[Descriptor] = []

    def look(has: Callable[[Descriptor], bool], part: Descriptor) -> None:
        if not missing and not has(part):
            missing.append(part)

    def has_document(part: Descriptor) -> bool:
        return repository.resolve(str(part.digest)) is not None

    looks = [partial(look, has_document, document) for document in documents]
    looks += [partial(look, repository.has, blob) for blob in blobs]
    abreast(looks, _LOOKS, _let_end)
    return missing[0] if missing else None


def put_documents(
    repository: Repository, layers: Iterable[Descriptor], images: Sequence[tuple[Blob, Blob]], index: Blob
) -> None:
    """Send each image's config and manifest, and the index by its digest; then look whether all of it is there.

    A registry that makes something else of it, or keeps nothing, has no tag to move then: `ContentMismatchError`.
    """
    for config, manifest in images:
        repository.put_blob(config)
        repository.put_document(str(manifest.descriptor.digest), manifest)
    repository.put_document(str(index.descriptor.digest), index)
    blobs = (*layers, *(config.descriptor for config, _ in images))
    _require_parts(repository, blobs, (*(manifest.descriptor for _, manifest in images), index.descriptor))


def _require_parts(repository: Repository, blobs: Iterable[Descriptor], documents: Iterable[Descriptor]) -> None:
    """Raise `ContentMismatchError` when the repository lacks something although it has said that it is stored."""
    if (part := missing_part(repository, blobs, documents)) is not None:
        raise ContentMismatchError(
            f"`{repository.name}` does not have `{part.digest}`, and has said that it is stored there: no tag was set",
            hint="push once more; where it stays so, its registry loses what it is sent: ask who runs it",
        )


def _let_end() -> None:
    """A question that was asked ends by itself."""
