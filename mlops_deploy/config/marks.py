"""YAML text as nodes that know where they stand.

`parse` turns text into `Scalar`, `Items` and `Mapping` nodes and puts every mistake of form into `Issues`: syntax,
duplicate keys, aliases, tags, several documents, depth. Nothing is converted: a scalar keeps its text as written and
says what kind a careful reader takes it for, so that `no`, `1_000` or a date never changes its meaning silently.

Only the event stream of PyYAML is used, never its constructors: no input can make it build an object, and an alias
(which could stand for a billion nodes) is refused before it is followed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn

import yaml

from mlops_deploy.config.issues import Issue, Issues, Mark, Path, Source

Kind = Literal["text", "quoted", "empty", "truth", "whole", "number", "unclear"]
DEPTH: Final = 32

_Event = Any  # the attributes of PyYAML's events are untyped

_WHOLE = re.compile(r"-?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_OCTAL = re.compile(r"[-+]?0o[0-7_]+")
_JSON_PAIR = re.compile(r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVERS: dict[str | None, list[tuple[str, re.Pattern[str]]]] = yaml.SafeLoader.yaml_implicit_resolvers


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value; `unclear` is plain text that some YAML reader takes for a truth value, a date or another number."""

    text: str
    kind: Kind
    mark: Mark


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    items: "tuple[Node, ...]"
    mark: Mark


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys, each with its own place, and values; the keys differ."""

    entries: "tuple[tuple[Scalar, Node], ...]"
    mark: Mark


Node = Scalar | Items | Mapping


class _StopError(Exception):
    """The rest of the text makes no sense any more; the issue is recorded."""


def parse(source: Source, issues: Issues, *, line: int | None = None) -> Node | None:
    """The one document of `source`, or of its line number `line`; None when an issue says why there is none.

    A text without anything in it is a `Scalar` of kind `empty`.
    """
    text = source.text if line is None else source.lines[line - 1]
    if line is not None or source.name.endswith(".json"):
        text = _JSON_PAIR.sub(_joined, text)
    return _Parser(source, issues, offset=(line or 1) - 1).document(text)


@dataclass(frozen=True, slots=True)
class _Parser:
    source: Source
    issues: Issues
    offset: int

    def document(self, text: str) -> Node | None:
        try:
            return self._document(yaml.parse(text, Loader=_LOADER))
        except _StopError:
            return None
        except yaml.MarkedYAMLError as error:
            self._syntax(error)
            return None

    def _document(self, events: Iterator[Any]) -> Node:
        root: Node | None = None
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    self._stop(
                        event, "a second document starts here", "keep one document per file; `---` separates documents"
                    )
            elif isinstance(event, yaml.NodeEvent):
                root = self._node(event, events, ())
        return root or Scalar("", "empty", Mark(self.source))

    def _node(self, event: _Event, events: Iterator[Any], path: Path) -> Node:
        if isinstance(event, yaml.AliasEvent):
            self._stop(event, f"the alias `*{event.anchor}` is not supported", "write the value out", path)
        if event.tag and event.tag != "!":
            self._wrong(event, f"the tag `{event.tag[:80]}` is not supported", "write the plain value", path)
        if len(path) > DEPTH:
            self._stop(event, f"nested deeper than {DEPTH} levels", "no key of this file is that deep", path)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(event, events, path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._items(event, events, path)
        return Scalar(event.value, _kind(event), self._mark(event))

    def _items(self, start: _Event, events: Iterator[Any], path: Path) -> Items:
        items: list[Node] = []
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            items.append(self._node(event, events, (*path, len(items))))
        return Items(tuple(items), self._mark(start))

    def _mapping(self, start: _Event, events: Iterator[Any], path: Path) -> Mapping:
        entries: dict[str, tuple[Scalar, Node]] = {}
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._node(event, events, path)
            if not isinstance(key, Scalar):
                self._stop(event, "a key must be one word, not a list or map", "write `key: value`", path)
            value = self._node(next(events), events, (*path, key.text))
            self._keep(entries, key, value, path)
        return Mapping(tuple(entries.values()), self._mark(start))

    def _keep(self, entries: dict[str, tuple[Scalar, Node]], key: Scalar, value: Node, path: Path) -> None:
        if first := entries.get(key.text):
            where = f"first given in line {first[0].mark.line}; keep one of them"
            shown = f"`{key.text[:80]}` is given twice"
            self.issues.add(Issue(mark=key.mark, path=(*path, key.text), message=shown, hint=where))
        else:
            entries[key.text] = (key, value)

    def _syntax(self, error: yaml.MarkedYAMLError) -> None:
        opened, problem = error.context_mark, error.problem or ""
        mark = opened if opened and "expected ':'" in problem else error.problem_mark or opened
        line, column = (mark.line, mark.column) if mark else (0, 0)
        at = self._at(line, column)
        char = self.source.lines[at.line - 1][column : column + 1]
        message, hint = _explain(problem, char)
        encloses = any(word in (error.context or "") for word in ("quoted", "flow"))
        if opened is not None and encloses and opened.line != line:
            hint += f"; it began in line {opened.line + 1 + self.offset}"
        self.issues.add(Issue(mark=at, path=(), message=message, hint=hint))

    def _at(self, line: int, column: int) -> Mark:
        """A place that exists: the end of the text is shown at the end of its last line with something in it."""
        row, lines = line + self.offset, self.source.lines
        if row < len(lines) and lines[row].strip():
            return Mark(self.source, row + 1, column + 1)
        row = min(row, len(lines) - 1)
        while row > self.offset and not lines[row].strip():
            row -= 1
        return Mark(self.source, row + 1, len(lines[row]) + 1)

    def _mark(self, event: _Event) -> Mark:
        start, end = event.start_mark, event.end_mark
        line = start.line + self.offset
        stop = end.column if end.line == start.line else len(self.source.lines[line])
        return Mark(self.source, line + 1, start.column + 1, max(1, stop - start.column))

    def _wrong(self, event: _Event, message: str, hint: str, path: Path = ()) -> None:
        self.issues.add(Issue(mark=self._mark(event), path=path, message=message, hint=hint))

    def _stop(self, event: _Event, message: str, hint: str, path: Path = ()) -> NoReturn:
        self._wrong(event, message, hint, path)
        raise _StopError


def _joined(pair: re.Match[str]) -> str:
    """The two escapes that JSON needs beyond U+FFFF as the one escape that YAML has."""
    backslashes, high, low = pair.groups()
    return f"{backslashes}\\U{0x10000 + ((int(high, 16) & 0x3FF) << 10) + (int(low, 16) & 0x3FF):08x}"


def _kind(event: _Event) -> Kind:
    return "quoted" if event.style or event.tag == "!" else kind_of(event.value)


def kind_of(text: str) -> Kind:
    """What plain `text` is: JSON's numbers and truth values are clear, whatever else YAML resolves is not."""
    if text in {"", "~", "null", "Null", "NULL"}:
        return "empty"
    if text in {"true", "false"}:
        return "truth"
    if _WHOLE.fullmatch(text):
        return "whole"
    if _NUMBER.fullmatch(text):
        return "number"
    candidates = _RESOLVERS.get(text[0], []) + _RESOLVERS.get(None, [])
    if _OCTAL.fullmatch(text) or any(pattern.match(text) for _, pattern in candidates):
        return "unclear"
    return "text"


_PROBLEMS: Final = (
    (
        "mapping values are not allowed",
        "a `:` is not expected here",
        "quote the value, or check the indentation",
    ),
    ("expected ':'", "this line is no `key: value`", "a `:` and a blank must follow the key"),
    ("expected key", "this does not fit what stands above", "check the indentation, and quotes inside a quoted value"),
    ("<block end>", "this does not fit what stands above", "check the indentation, and quotes inside a quoted value"),
    ("'-' indicator", "this does not fit the list above", "check the indentation"),
    ("end of stream", "the text ends inside quotes", "close the quotes"),
    ("',' or ']'", "a list is not closed", "a `,` or `]` is missing"),
    ("',' or '}'", "a map is not closed", "a `,` or `}` is missing"),
    ("escape", "an unknown escape in quotes", "write `\\\\` for a backslash, or use single quotes"),
    ("node content", "a value is expected here", "put the value in quotes if it is meant as text"),
)


def _explain(problem: str, char: str) -> tuple[str, str]:
    """Our words for a parser's complaint; both parsers of PyYAML say it a little differently."""
    if "cannot start any token" in problem:
        if char == "\t":
            return "a tab cannot indent", "use blanks"
        return f"a value cannot start with `{char}`", "put the value in quotes"
    for part, message, hint in _PROBLEMS:
        if part in problem:
            return message, hint
    return f"this is not YAML: {problem}", "put the value in quotes if it is meant as text"
