"""The kinds of value that a key can have: each decodes a node and describes itself as JSON Schema."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

from mlops_deploy.config.fields import At, Kind, Schema, shorten
from mlops_deploy.config.marks import Items, Mapping, Node, Scalar
from mlops_deploy.errors import DeployError
from mlops_deploy.spec.deploy import JsonValue

T = TypeVar("T")
S = TypeVar("S", bound=str)
N = TypeVar("N", int, float)

LINE: Final = r"[^\x00-\x1f\x7f]+"
_NO_URL: Final = r"(?![A-Za-z][A-Za-z0-9+.-]*://)" + LINE
_CONTROL: Final = r"[\x00-\x1f\x7f]"
_UNSEEN: Final = "it has a line break, or another character that cannot be seen: remove it"
_QUOTE_IT: Final = "some YAML readers take this for another kind of value: put it in quotes"
HALF: Final = "this is half a character: write both halves, or the character itself"
_WHOLE_DIGITS: Final = 20


@dataclass(frozen=True, slots=True)
class Text:
    """One line of text that matches a pattern; what a YAML reader may take for something else needs quotes."""

    expected: str
    pattern: str = LINE
    limit: int = 4096
    written: bool = False
    """Take a number or truth value exactly as it is written, instead of asking for quotes."""

    def decode(self, node: Node, at: At) -> str | None:
        """The text."""
        if not isinstance(node, Scalar) or node.kind == "empty":
            at.expected(node, self.expected)
        elif node.kind not in {"text", "quoted"} and not self.written:
            at.expected(node, self.expected, _QUOTE_IT)
        elif len(node.text) > self.limit:
            at.expected(node, self.expected, f"found {len(node.text):,} characters; {self.limit:,} are allowed")
        elif not re.fullmatch(self.pattern, node.text):
            at.expected(node, self.expected, _UNSEEN if re.search(_CONTROL, node.text) else None)
        else:
            return node.text
        return None

    def schema(self) -> Schema:
        """A string with the pattern."""
        types: Schema = {"type": ["string", "integer"], "minimum": 0} if self.written else {"type": "string"}
        return {**types, "pattern": f"^(?:{self.pattern})$", "maxLength": self.limit}


@dataclass(frozen=True, slots=True)
class Parsed(Generic[T]):
    """Text that a parser of the vocabulary understands, an image reference say."""

    text: Text
    parse: Callable[[str], T]

    @property
    def expected(self) -> str:
        """In words."""
        return self.text.expected

    def decode(self, node: Node, at: At) -> T | None:
        """The parsed value."""
        text = self.text.decode(node, at)
        try:
            return None if text is None else self.parse(text)
        except DeployError as error:
            at.expected(node, self.expected, error.hint)
            return None

    def schema(self) -> Schema:
        """As the text."""
        return self.text.schema()


@dataclass(frozen=True, slots=True)
class Bounded(Generic[N]):
    """A size or a duration between two bounds, both included."""

    parsed: Parsed[N]
    least: N
    most: N

    @property
    def expected(self) -> str:
        """In words; they name the bounds too."""
        return self.parsed.expected

    def decode(self, node: Node, at: At) -> N | None:
        """The value, within the bounds."""
        if isinstance(node, Scalar) and node.kind in {"whole", "number"}:
            at.expected(node, self.expected, f"`{shorten(node.text)}` has no unit")
            return None
        value = self.parsed.decode(node, at)
        if value is None or self.least <= value <= self.most:
            return value
        at.expected(node, self.expected)
        return None

    def schema(self) -> Schema:
        """As the text: JSON Schema cannot compare units."""
        return self.parsed.schema()


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number in plain digits, bounds included."""

    least: int
    most: int

    @property
    def expected(self) -> str:
        """In words."""
        return f"a whole number from {self.least} to {self.most}"

    def decode(self, node: Node, at: At) -> int | None:
        """The number."""
        if isinstance(node, Scalar) and node.kind == "whole" and len(node.text) <= len(str(self.most)) + 1:
            value = int(node.text)
            if self.least <= value <= self.most:
                return value
        at.expected(node, self.expected, _without_quotes(node))
        return None

    def schema(self) -> Schema:
        """An integer."""
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number, bounds included."""

    least: float
    most: float

    @property
    def expected(self) -> str:
        """In words."""
        return f"a number from {self.least:g} to {self.most:g}"

    def decode(self, node: Node, at: At) -> float | None:
        """The number."""
        if isinstance(node, Scalar) and node.kind in {"whole", "number"}:
            value = float(node.text)
            if self.least <= value <= self.most:
                return value
        at.expected(node, self.expected, _without_quotes(node))
        return None

    def schema(self) -> Schema:
        """A number."""
        return {"type": "number", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True, slots=True)
class Choice(Generic[S]):
    """One of a few words; an alias is another spelling of one of them."""

    words: tuple[S, ...]
    aliases: tuple[tuple[str, S], ...] = ()

    @property
    def expected(self) -> str:
        """In words."""
        return "one of " + ", ".join(f"`{word}`" for word in self.words)

    def decode(self, node: Node, at: At) -> S | None:
        """The word itself, whichever spelling was given."""
        spellings: dict[str, S] = {word: word for word in self.words} | dict(self.aliases)
        if isinstance(node, Scalar) and node.text in spellings:
            return spellings[node.text]
        at.expected(node, self.expected)
        return None

    def schema(self) -> Schema:
        """An enumeration."""
        return {"enum": [*self.words, *(alias for alias, _ in self.aliases)]}


@dataclass(frozen=True, slots=True)
class PathTo:
    """A file that is there on this machine, relative to the folder of the configuration."""

    what: str

    @property
    def expected(self) -> str:
        """In words."""
        return f"the path of {self.what}"

    def decode(self, node: Node, at: At) -> Path | None:
        """The absolute path."""
        text = Text(self.expected, _NO_URL).decode(node, at)
        if text is None:
            return None
        path = at.folder / text
        if at.files and not _is_file(path):
            at.wrong(node.mark, f"`{text[:200]}` is not a file", f"looked in {at.folder}")
            return None
        return path

    def schema(self) -> Schema:
        """A string that is no URL."""
        return Text(self.expected, _NO_URL).schema()


@dataclass(frozen=True, slots=True)
class PathOrUrl:
    """A path on this machine, or a file behind `https://`, which stays a text."""

    what: str

    @property
    def expected(self) -> str:
        """In words."""
        return f"the path of {self.what}, or an `https://` URL"

    def decode(self, node: Node, at: At) -> Path | str | None:
        """The absolute path, or the URL."""
        text = Text(self.expected, self._pattern).decode(node, at)
        return text if text is None or "://" in text else at.folder / text

    def schema(self) -> Schema:
        """A string that is no other URL."""
        return Text(self.expected, self._pattern).schema()

    @property
    def _pattern(self) -> str:
        return rf"(?:https?://[^\x00-\x20\x7f]+|{_NO_URL})"


@dataclass(frozen=True, slots=True)
class ListOf(Generic[T]):
    """A list of one kind."""

    item: Kind[T]
    least: int = 0

    @property
    def expected(self) -> str:
        """In words."""
        return f"a list, each item {self.item.expected}"

    def decode(self, node: Node, at: At) -> tuple[T, ...] | None:
        """Every item that is right; the wrong ones are reported."""
        if not isinstance(node, Items) or len(node.items) < self.least:
            at.expected(node, self.expected)
            return None
        items = (self.item.decode(item, at.child(index)) for index, item in enumerate(node.items))
        return tuple(item for item in items if item is not None)

    def schema(self) -> Schema:
        """An array."""
        return {"type": "array", "items": self.item.schema(), "minItems": self.least}


@dataclass(frozen=True, slots=True)
class MapOf(Generic[T]):
    """Names that match a pattern, each with a value of one kind."""

    pattern: str
    item: Kind[T]

    @property
    def expected(self) -> str:
        """In words."""
        return f"a map of names, each to {self.item.expected}"

    def decode(self, node: Node, at: At) -> dict[str, T] | None:
        """Every entry that is right; the wrong ones are reported."""
        if not isinstance(node, Mapping):
            at.expected(node, self.expected)
            return None
        found: dict[str, T] = {}
        for key, value in node.entries:
            inside = at.child(key.text)
            if not re.fullmatch(self.pattern, key.text):
                inside.wrong(
                    key.mark, f"`{shorten(key.text)}` cannot be a name here", "use letters, digits, `_`, `.`, `-`"
                )
            elif (decoded := self.item.decode(value, inside)) is not None:
                found[key.text] = decoded
        return found

    def schema(self) -> Schema:
        """An object."""
        names: Schema = {"pattern": f"^(?:{self.pattern})$"}
        return {"type": "object", "propertyNames": names, "additionalProperties": self.item.schema()}


@dataclass(frozen=True, slots=True)
class JsonMap:
    """Any JSON object; numbers and truth values only where JSON has them."""

    expected: str = "a map"

    def decode(self, node: Node, at: At) -> dict[str, JsonValue] | None:
        """The object."""
        if isinstance(node, Mapping):
            return {_json_key(key, at): _json(value, at.child(key.text)) for key, value in node.entries}
        at.expected(node, self.expected)
        return None

    def schema(self) -> Schema:
        """An object."""
        return {"type": "object"}


def _json(node: Node, at: At) -> JsonValue:
    match node:
        case Mapping():
            return JsonMap().decode(node, at)
        case Items():
            return [_json(item, at.child(index)) for index, item in enumerate(node.items)]
        case Scalar(kind="unclear"):
            at.expected(node, "a JSON value", _QUOTE_IT)
            return None
        case Scalar():
            return _json_scalar(node, at)


def _json_scalar(node: Scalar, at: At) -> JsonValue:
    match node.kind:
        case "empty":
            return None
        case "truth":
            return node.text == "true"
        case "whole" if len(node.text) <= _WHOLE_DIGITS:
            return int(node.text)
        case "whole" | "number":
            return _finite(node, at)
        case _:
            if not encodes(node.text):
                at.expected(node, "a JSON value", HALF)
            return node.text


def _json_key(key: Scalar, at: At) -> str:
    if key.kind not in {"text", "quoted"}:
        at.wrong(key.mark, f"the key `{shorten(key.text)}` must be text", "put it in quotes")
    return key.text


def _finite(node: Scalar, at: At) -> float:
    value = float(node.text)
    if not math.isfinite(value):
        at.expected(node, "a finite number")
    return value


def encodes(text: str) -> bool:
    """Whether the text is whole characters: an escape can name half of one."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _without_quotes(node: Node) -> str | None:
    if isinstance(node, Scalar) and node.kind == "quoted" and re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", node.text):
        return f"remove the quotes: `{node.text}`"
    if isinstance(node, Scalar) and node.kind == "unclear":
        return "write it in plain decimal digits"
    return None
