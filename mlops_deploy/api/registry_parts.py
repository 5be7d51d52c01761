"""Whether a registry has the parts of an image: each is looked for, for registries lose things, and some lie."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from mlops_deploy.api.abreast import abreast
from mlops_deploy.errors import ContentMismatchError
from mlops_deploy.oci.types import Descriptor
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


def require_parts(repository: Repository, blobs: Iterable[Descriptor], documents: Iterable[Descriptor]) -> None:
    """Raise `ContentMismatchError` when the repository lacks something although it has said that it is stored."""
    if (part := missing_part(repository, blobs, documents)) is not None:
        raise ContentMismatchError(
            f"`{repository.name}` does not have `{part.digest}`, and has said that it is stored there: no tag was set",
            hint="push once more; where it stays so, its registry loses what it is sent: ask who runs it",
        )


def _let_end() -> None:
    """A question that was asked ends by itself."""
