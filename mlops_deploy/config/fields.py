"""The table of a document kind: one row per key gives decoder, reference text, JSON Schema and example.

How to describe a document:

    PORT = Field("port", Whole(1, 65535), doc="The port …", example="8080", default=8080)
    TABLE = Table((PORT, …), doc="…")

    issues = Issues()
    node = parse(read(path, issues), issues)         # marks.py: nodes with positions
    values = TABLE.decode(node, At(issues, folder))  # every mistake goes to `issues`
    issues.raise_errors()                            # one ConfigError with all of them
    values[PORT]                                     # typed by the field

A `Kind` (kinds.py has them) turns a node into a value, or records what is wrong and returns None. A `Table` is a kind
too, so sections nest. Keys that start with `x-` are ignored.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar, cast

from mlops_deploy.config import marks
from mlops_deploy.config.issues import Issue, Issues, Mark, Severity, show_path
from mlops_deploy.config.issues import Path as KeyPath

Schema = dict[str, Any]
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class At:
    """Where a decoder stands: what it reports to, the folder of relative paths, and the key path so far.

    `partial` is true for a file that another will complete: nothing is missing there yet. `files` is false for who
    needs none of the files that are named: they need not be there.
    """

    issues: Issues
    folder: Path
    path: KeyPath = ()
    partial: bool = False
    vocabulary: "Vocabulary | None" = None
    files: bool = True

    def child(self, part: str | int) -> "At":
        """The place one step further down."""
        return At(self.issues, self.folder, (*self.path, part), self.partial, self.vocabulary, self.files)

    def wrong(self, mark: Mark, message: str, hint: str, severity: Severity = "error") -> None:
        """Record a mistake at this key."""
        issue = Issue(mark=mark, path=self.path, message=message, hint=hint, severity=severity)
        self.issues.add(issue)

    def expected(self, node: marks.Node, expectation: str, hint: str | None = None) -> None:
        """Record that another kind of value belongs here; without a hint, say what was found."""
        name = show_path(self.path) or "the file"
        self.wrong(node.mark, f"`{name}` must be {expectation}", hint or f"found {found(node)}")


class Kind(Protocol[T_co]):
    """What may stand at a key."""

    @property
    def expected(self) -> str:
        """In words, after "must be"."""
        ...

    def decode(self, node: marks.Node, at: At) -> T_co | None:
        """The value; None after recording what is wrong."""
        ...

    def schema(self) -> Schema:
        """The same rule as JSON Schema."""
        ...


@dataclass(frozen=True, slots=True)
class Field(Generic[T]):
    """One key. `default` is what an absent key means; `shown` is how the reference writes it."""

    key: str
    kind: Kind[Any]
    doc: str
    default: T
    example: str = ""
    shown: str = ""
    required: bool = False


class Values:
    """What a table decoded, looked up by field."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        self._found = found

    def __getitem__(self, key: Field[T]) -> T:
        """The value given for the field, or its default."""
        return cast("T", self._found.get(key.key, key.default))


NOTHING: Final = Values({})


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The words of other tools and the keys that they mean here, as full key paths."""

    synonyms: Mapping[str, str]
    known: tuple[str, ...]

    def suggest(self, word: str, siblings: Iterable[str]) -> str | None:
        """The key that was probably meant: a near sibling, a synonym, or the same word in another section."""
        if near := get_close_matches(word, siblings, n=1, cutoff=0.7):
            return near[0]
        meanings = {path.rpartition(".")[2]: path for path in reversed(self.known)} | dict(self.synonyms)
        return {_bare(synonym): path for synonym, path in meanings.items()}.get(_bare(word))


@dataclass(frozen=True, slots=True)
class Table:
    """A map with known keys; itself a kind, so that sections nest."""

    fields: tuple[Field[Any], ...]
    doc: str = ""
    synonyms: Mapping[str, str] = field(default_factory=dict)

    @property
    def expected(self) -> str:
        """In words."""
        return "a map with the keys " + ", ".join(f"`{one.key}`" for one in self.fields)

    def decode(self, node: marks.Node, at: At) -> Values | None:
        """Decode every known key, refuse every unknown one, miss every required one."""
        if not isinstance(node, marks.Mapping):
            at.expected(node, self.expected)
            return None
        known = {one.key: one for one in self.fields}
        if at.vocabulary is None:
            at = replace(at, vocabulary=Vocabulary(self.synonyms, tuple(self.paths())))
        values: dict[str, Any] = {}
        given: set[str | None] = set()
        for key, value in node.entries:
            if one := known.get(key.text):
                given.add(one.key)
                if (decoded := one.kind.decode(value, at.child(one.key))) is not None:
                    values[one.key] = decoded
            elif not key.text.startswith("x-"):
                given.add(self._unknown(key, at))
        if not at.partial:
            self._missing(given, node, at)
        return Values(values)

    def schema(self) -> Schema:
        """An object of exactly these keys, and any that starts with `x-`."""
        rows = {one.key: {"description": one.doc, **one.kind.schema()} for one in self.fields}
        required = [one.key for one in self.fields if one.required]
        ending: Schema = {"required": required} if required else {}
        return {
            "type": "object",
            "properties": rows,
            "patternProperties": {"^x-": {}},
            "additionalProperties": False,
            **ending,
        }

    def paths(self, prefix: str = "") -> Iterator[str]:
        """The full paths of all keys, sections before what is in them."""
        for one in self.fields:
            yield prefix + one.key
            if isinstance(one.kind, Table):
                yield from one.kind.paths(f"{prefix}{one.key}.")

    def _unknown(self, key: marks.Scalar, at: At) -> str | None:
        """Report the key and return the one that was probably meant, which then is not missing as well."""
        siblings = [one.key for one in self.fields]
        meant = at.vocabulary.suggest(key.text, siblings) if at.vocabulary and not at.issues.many else None
        where = f"in `{show_path(at.path)}`; " if at.path else ""
        known = ", ".join(f"`{one}`" for one in siblings)
        hint = f"{where}did you mean `{meant}`?" if meant else f"{where}known keys: {known}"
        at.child(key.text).wrong(key.mark, f"unknown key `{shorten(key.text)}`", hint)
        return meant

    def _missing(self, given: Container[str | None], node: marks.Mapping, at: At) -> None:
        for one in self.fields:
            if one.required and one.key not in given:
                inside = at.child(one.key)
                mark = Mark(node.mark.source, node.mark.line, node.mark.column)
                inside.wrong(mark, f"`{show_path(inside.path)}` is missing", f"add `{one.key}: {one.example}`")


def _bare(word: str) -> str:
    """`mem_limit`, `memLimit` and `mem-limit` are one word."""
    return word.lower().replace("_", "").replace("-", "")


_WORDS: Final[Mapping[marks.Kind, str]] = {
    "empty": "no value",
    "quoted": "text in quotes",
    "truth": "the truth value `{}`",
    "whole": "the number `{}`",
    "number": "the number `{}`",
    "text": "`{}`",
    "unclear": "`{}`",
}


def found(node: marks.Node) -> str:
    """A node in words: what somebody wrote where something else belongs."""
    match node:
        case marks.Mapping():
            return "a map"
        case marks.Items():
            return "a list"
        case marks.Scalar():
            return _WORDS[node.kind].replace("{}", shorten(node.text))


def shorten(text: str) -> str:
    """Enough of a text to know it again."""
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
