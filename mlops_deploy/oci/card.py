"""Reads `/carrier/manifest.json` back, as somebody else may have written it."""

import re
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from mlops_deploy.oci.documents import LARGEST_DOCUMENT, Document, DocumentError, field, parse_object, texts
from mlops_deploy.oci.inventory import MOST_ENTRIES
from mlops_deploy.oci.metadata import FileSum, ModelCard
from mlops_deploy.spec.refs import ContentId, is_model_name

_FILES: Final = b',\n  "files": [\n'
_END: Final = b"  ]\n"
_LONGEST_LINE: Final = 16 * 2**10
_HEX64: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A model as its carrier describes it."""

    card: ModelCard
    content_id: ContentId
    files: tuple[FileSum, ...]


def read_listing(data: bytes) -> Listing:
    """Decode a `manifest.json`; raise `DocumentError`.

    Each file has a line of its own, so a document of hundreds of megabytes takes no more memory than its files do.
    """
    head, found, rest = data.partition(_FILES)
    if not found or len(head) > LARGEST_DOCUMENT:
        raise DocumentError("its list of files is not where it should be")
    said = parse_object(head + b"\n}")
    content_id = field(said, "content_id", str)
    if not _HEX64.fullmatch(content_id):
        raise DocumentError("`content_id` is not 64 hex digits")
    return Listing(card=_card(said), content_id=ContentId(content_id), files=tuple(_files(rest)))


def _card(said: Document) -> ModelCard:
    name = field(said, "name", str)
    if not is_model_name(name):
        raise DocumentError("`name` cannot name a model")
    return ModelCard(
        name=name,
        formats=tuple(texts(said, "formats")) if "formats" in said else (),
        requires=tuple(texts(said, "requires")),
        licence=None if said.get("licence") is None else field(said, "licence", str),
        signature=None if said.get("signature") is None else field(said, "signature", dict),
    )


def _files(rest: bytes) -> list[FileSum]:
    lines = BytesIO(rest)
    found: list[FileSum] = []
    while (line := lines.readline(_LONGEST_LINE)) != _END:
        if len(found) >= MOST_ENTRIES:
            raise DocumentError(f"it lists more than {MOST_ENTRIES:,} files")
        found.append(_file(parse_object(line.removesuffix(b"\n").removesuffix(b","))))
    return found


def _file(said: Document) -> FileSum:
    size, digest = field(said, "size", int), field(said, "sha256", str)
    if isinstance(size, bool) or size < 0 or not _HEX64.fullmatch(digest):
        raise DocumentError("a file's size or sha256 is none")
    return FileSum(path=field(said, "path", str), size=size, sha256=digest)
