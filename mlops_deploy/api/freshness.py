"""Whether a carrier still holds what is on disk; told from file times and kept digests wherever that is enough."""

from collections.abc import Sequence
from hashlib import file_digest
from pathlib import Path
from typing import Final, Literal

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.oci.inventory import SourceFile, take_inventory
from mlops_deploy.oci.metadata import FileSum, ModelCard, describe
from mlops_deploy.spec.refs import ContentId
from mlops_deploy.store.cache import DigestCache

Freshness = Literal["same", "changed", "touched", "absent"]

MOST_READ: Final = 32 << 20
"""Bytes of files without a kept digest that are read to be sure: a few hundredths of a second."""


def freshness(path: Path, content_id: ContentId, cache: DigestCache) -> Freshness:
    """Compare the model at `path` with the content of a carrier.

    `touched`: files have other times than at any build, and are too large to be read for this; `absent`: there is no
    model that could be built.
    """
    try:
        files = take_inventory(path).files
    except UnusableInputError:
        return "absent"
    known = cache.known(files)
    unknown = [file for file in files if file.path not in known]
    if sum(file.size for file in unknown) > MOST_READ:
        return "touched"
    try:
        sums = known | {file.path: _sha256(file) for file in unknown}
    except OSError:
        return "absent"
    return "same" if _content_id(files, sums) == content_id else "changed"


def _sha256(file: SourceFile) -> str:
    with Path(file.source).open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def _content_id(files: Sequence[SourceFile], sums: dict[str, str]) -> ContentId:
    listed = [FileSum(path=file.path, size=file.size, sha256=sums[file.path]) for file in files]
    return describe(ModelCard(name="any"), listed).content_id
