"""Names that travel: digests, content ids, model names, image references. Nothing else builds a path or URL."""

import re
from dataclasses import dataclass
from typing import Final, Self

from mlops_deploy.errors import UnusableInputError

SHORT: Final = 12
"""Hex digits of a digest or content id that people and tags get to see."""

_HEX64 = re.compile(r"[0-9a-f]{64}")
_PORT = "(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_HOST = rf"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::{_PORT})?"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*")
_ENDS_WITH_PORT = re.compile(rf":{_PORT}")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")

MODEL_NAME_PATTERN: Final = r"(?!v$)[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?"
"""What `is_model_name` accepts, for a JSON Schema."""

IMAGE_REF_PATTERN: Final = rf"{_REPOSITORY.pattern}(?::{_TAG.pattern})?(?:@sha256:{_HEX64.pattern})?"
"""What `ImageRef.parse` accepts, for a JSON Schema."""


@dataclass(frozen=True, slots=True)
class Digest:
    """`sha256:` and 64 lower-case hex digits; no other algorithm is accepted."""

    hex: str

    def __post_init__(self) -> None:
        if not _HEX64.fullmatch(self.hex):
            raise UnusableInputError(f"`{self.hex[:80]}` is not a sha256 digest", hint="expected 64 hex digits")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `sha256:<64 hex>`; raise `UnusableInputError` for anything else."""
        algorithm, _, digits = text.partition(":")
        if algorithm != "sha256":
            raise UnusableInputError(f"`{text[:80]}` is not a sha256 digest", hint="expected `sha256:<64 hex digits>`")
        return cls(digits)

    @property
    def short(self) -> str:
        """The first twelve hex digits."""
        return self.hex[:SHORT]

    def __str__(self) -> str:
        return f"sha256:{self.hex}"


@dataclass(frozen=True, slots=True)
class ContentId:
    """What a model *is*: the sha256 of its carrier's `SHA256SUMS`, 64 hex digits, whatever image it travels in."""

    hex: str

    def __post_init__(self) -> None:
        if not _HEX64.fullmatch(self.hex):
            raise UnusableInputError(f"`{self.hex[:80]}` is not a content id", hint="expected 64 hex digits")

    @property
    def short(self) -> str:
        """The first twelve hex digits: what a server answers as `model_version`."""
        return self.hex[:SHORT]

    def __str__(self) -> str:
        return self.hex


def is_model_name(text: str) -> bool:
    """Whether `text` may name a model: it becomes a link on a volume, beside the folder `v`, and a part of URLs."""
    return re.fullmatch(MODEL_NAME_PATTERN, text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRef:
    """`NAME`, `NAME:TAG`, `NAME@sha256:…` or `NAME:TAG@sha256:…`."""

    name: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a reference; raise `UnusableInputError` that shows the accepted forms."""
        rest, at, digest = text.partition("@")
        head, colon, tag = rest.rpartition(":")
        if not colon or "/" in tag:
            head, tag = rest, ""
        if not _REPOSITORY.fullmatch(head) or (tag and not _TAG.fullmatch(tag)) or (colon and not tag and head != rest):
            raise UnusableInputError(f"`{text[:200]}` is not an image reference", hint=_expected(text))
        return cls(name=head, tag=tag or None, digest=Digest.parse(digest) if at else None)

    def require_free_tag(self, carrier: Digest | None = None) -> None:
        """Raise `UnusableInputError` for a tag of the form that a carrier gets by itself, unless `carrier` has it."""
        if re.fullmatch(f"[0-9a-f]{{{SHORT}}}", self.tag or "") and (carrier is None or self.tag != carrier.short):
            raise UnusableInputError(
                f"`{self}` cannot be given: {SHORT} hex digits are the tag that belongs to one carrier alone",
                hint="every carrier gets its own by itself; choose a tag of another length, such as `1.2.0`, or none",
            )

    @property
    def host(self) -> str | None:
        """The registry that the name begins with, `registry.example.com:5000`; None where it begins with none."""
        first, slash, _ = self.name.partition("/")
        return first if slash and (first == "localhost" or {".", ":"} & set(first)) else None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}" + (f"@{self.digest}" if self.digest else "")


def _expected(text: str) -> str:
    _, colon, port = text.partition("/")[0].rpartition(":")
    if "/" in text and colon and port.isdecimal() and not _ENDS_WITH_PORT.fullmatch(colon + port):
        return f"a registry's port is between 1 and 65535, not {port[:20]}"
    return "expected `NAME:TAG`, `NAME@sha256:…` or both; names are lower case"
