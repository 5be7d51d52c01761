"""Mistakes with their positions: collected while a file is read, shown all at once."""

import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from mlops_deploy.errors import ConfigError

Severity = Literal["error", "warning"]
Path = tuple[str | int, ...]
_SHOWN = 96
_MANY = 50
_PASSWORD = re.compile(r"(://[^/?#\s@:]*:)([^/?#\s]+)(?=@)")


@dataclass(frozen=True)
class Source:
    """A text and the name that messages give it."""

    name: str
    text: str = field(repr=False)

    @cached_property
    def lines(self) -> tuple[str, ...]:
        """The lines as editors count them, without their ends."""
        return tuple(self.text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a source: line and column count from 1, `width` is in characters on that line."""

    source: Source
    line: int = 1
    column: int = 1
    width: int = 1

    def __str__(self) -> str:
        return f"{self.source.name}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """One mistake: where, in which key, what was expected, and how to mend it."""

    mark: Mark
    path: Path
    message: str
    hint: str
    severity: Severity = "error"

    @property
    def key(self) -> str:
        """The key path as people write it: `model.requires[0]`."""
        return show_path(self.path)


@dataclass(frozen=True, slots=True)
class Issues:
    """Collects; the same mistake at the same place counts once."""

    _found: dict[tuple[str, int, int, str], Issue] = field(default_factory=dict)

    def add(self, issue: Issue) -> None:
        """Take one more; what it quotes from a file cannot steer a terminal, and has no password of a URL."""
        issue = replace(issue, message=_safe(_hidden(issue.message)), hint=_safe(_hidden(issue.hint)))
        self._found.setdefault((issue.mark.source.name, issue.mark.line, issue.mark.column, issue.message), issue)

    @property
    def many(self) -> bool:
        """Whether there are more than anybody will be shown."""
        return len(self._found) > _MANY

    @property
    def all(self) -> tuple[Issue, ...]:
        """Everything found, in the order of files and lines."""
        files = list(dict.fromkeys(name for name, *_ in self._found))
        return tuple(
            sorted(
                self._found.values(),
                key=lambda issue: (files.index(issue.mark.source.name), issue.mark.line, issue.mark.column),
            )
        )

    @property
    def errors(self) -> tuple[Issue, ...]:
        """What makes the configuration unusable."""
        return tuple(issue for issue in self.all if issue.severity == "error")

    def raise_errors(self, sections: Collection[str] = ()) -> None:
        """Raise one `ConfigError` that shows every error, when there is any; see `as_error`."""
        if errors := self.errors:
            raise as_error(errors, sections)


def as_error(errors: Sequence[Issue], sections: Collection[str] = ()) -> ConfigError:
    """One error of the family for all mistakes; a single one speaks for itself, several are counted first.

    The hint names the one of `sections`, those of the reference, that all of the mistakes are in.
    """
    topics = {issue.path[0] if len(issue.path) > 1 else None for issue in errors}
    topic = f" {next(iter(topics))}" if len(topics) == 1 and topics <= set(sections) else ""
    hint = f"`mlops-deploy docs{topic}` describes every key"
    if len(errors) == 1:
        return ConfigError(errors[0].message, hint=hint, detail=pointer(errors[0]))
    names = list(dict.fromkeys(issue.mark.source.name for issue in errors))
    blocks = [line for issue in errors[:_MANY] for line in ("", issue.message, *pointer(issue))]
    rest = f"; the first {_MANY} are shown" if len(errors) > _MANY else ""
    return ConfigError(f"{len(errors)} mistakes in {_listed(names)}{rest}", hint=hint, detail=(*blocks, ""))


def pointer(issue: Issue) -> tuple[str, ...]:
    """Where the issue is: position, the line, and a caret below the place with the hint."""
    before, middle, after = _window(issue.mark)
    number = str(issue.mark.line)
    gutter = " " * len(number)
    caret = " " * _columns(before) + "^" * max(1, _columns(middle))
    return (
        f"{gutter}--> {issue.mark}",
        f"{gutter} |",
        f"{number} | {before}{middle}{after}",
        f"{gutter} | {caret} {issue.hint}".rstrip(),
    )


def show_path(path: Path) -> str:
    """`model.requires[0]` for `("model", "requires", 0)`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _listed(names: Sequence[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)


def _window(mark: Mark) -> tuple[str, str, str]:
    """The line in three parts, cut so that the middle is in sight and nothing in it can steer a terminal."""
    line = _hidden(mark.source.lines[mark.line - 1]) if mark.line <= len(mark.source.lines) else ""
    start, end = mark.column - 1, min(mark.column - 1 + mark.width, len(line))
    left = max(0, start - _SHOWN // 2)
    right = min(len(line), left + _SHOWN)
    before = ("…" if left else "") + line[left:start]
    after = line[min(end, right) : right] + ("…" if right < len(line) else "")
    return _safe(before), _safe(line[start : min(end, right)]), _safe(after)


def _hidden(text: str) -> str:
    """The text, as long as it is, without the passwords of its URLs."""
    return _PASSWORD.sub(lambda found: found[1] + "*" * len(found[2]), text)


def _safe(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " if char == "\t" else "�" for char in text)


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
