"""What one Nomad variable holds of a service, and how: the route, the configuration, keys and journals.

The items of the variable: `route` and `config`, which the router follows; `keys/NAME` and `journals/NAME`, JSON
objects; `shelf`, the pages of what was moved out because it is old.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Final, TypeVar

from mlops_deploy.errors import DeployError, UnusableInputError
from mlops_deploy.release.codec import decode
from mlops_deploy.release.state import WHOLE
from mlops_deploy.spec.deploy import JsonValue

T = TypeVar("T")

MOST: Final = 64 << 10
"""Bytes that Nomad lets the items of a variable have, names and values together."""

_KEYS: Final = "keys/"
_JOURNALS: Final = "journals/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """The committed route with its generation, and the token that it was written under."""

    share_b: int
    closed: bool
    generation: int
    token: int


NEW: Final = Committed(share_b=0, closed=True, generation=0, token=0)
"""A new router is closed until a first release opens it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A key: its value, or the pages that hold its JSON, and the index that every write raises.

    `since` is when it was written, in nanoseconds since 1970 by the servers' clock. Who writes cannot know that yet:
    None stands for the time at which the variable itself was written last.
    """

    index: int
    value: JsonValue = None
    pages: tuple[str, ...] = ()
    since: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """A journal: how many lines it has, those that `pages` hold, and the last ones. Journals are numbered as begun."""

    number: int
    count: int
    pages: tuple[str, ...] = ()
    tail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """Keys and journals that were moved out of the variable, and the pages of the shelf before this one."""

    keys: Mapping[str, Entry] = field(default_factory=dict)
    journals: Mapping[str, Journal] = field(default_factory=dict)
    older: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """The whole variable; what its `shelf` holds is shadowed by what it holds itself."""

    route: Committed = NEW
    config: str = ""
    keys: Mapping[str, Entry] = field(default_factory=dict)
    journals: Mapping[str, Journal] = field(default_factory=dict)
    shelf: tuple[str, ...] = ()


def read_book(items: Mapping[str, str], modified: int) -> Book:
    """The book in a variable that was written at `modified`; `UnusableInputError` for what was not written by us."""
    shelf = Shelf(keys=_some(Entry, items, _KEYS), journals=_some(Journal, items, _JOURNALS))
    for name in items:
        if name not in {"route", "config", "shelf"} and not name.startswith((_KEYS, _JOURNALS)):
            raise UnusableInputError(
                f"the ledger has an item `{name[:80]}`", hint="another version of mlops-deploy wrote it; use that one"
            )
    route = read_object(Committed, items.get("route", ""), "route")
    if not 0 <= route.share_b <= WHOLE:
        raise damaged("route")
    keys = {name: entry if entry.since else replace(entry, since=modified) for name, entry in shelf.keys.items()}
    older = read_object(Shelf, items.get("shelf", "{}"), "shelf").older
    return Book(route=route, config=items.get("config", ""), keys=keys, journals=shelf.journals, shelf=older)


def write_book(book: Book) -> dict[str, str]:
    """The items that hold `book`; `DeployError` when a variable does not."""
    items = {"route": compact(book.route), "config": book.config, "shelf": compact(Shelf(older=book.shelf))}
    items |= {f"{_KEYS}{name}": compact(entry) for name, entry in book.keys.items()}
    items |= {f"{_JOURNALS}{name}": compact(journal) for name, journal in book.journals.items()}
    size = sum(len(name.encode()) + len(text.encode()) for name, text in items.items())
    if size > MOST:
        raise DeployError(
            f"the ledger would need {size} bytes, and a Nomad variable holds {MOST}; nothing was changed",
            detail=[
                f"{len(text.encode())} bytes are `{name}`" for name, text in sorted(items.items(), key=_longest)[:3]
            ],
        )
    return items


def compact(thing: object) -> str:
    """A dataclass as JSON in ASCII, which no encoding on its way changes; what is as by default is left out."""
    return json.dumps(_plain(thing), separators=(",", ":"))


def read_object(kind: type[T], text: str, name: str) -> T:
    """What `compact` wrote; `DeployError` that says `name` is damaged."""
    try:
        return decode(kind, json.loads(text), name)
    except (ValueError, RecursionError, UnusableInputError) as error:
        raise damaged(name) from error


def damaged(name: str) -> DeployError:
    """The error of what cannot be read in the ledger."""
    return DeployError(f"`{name[:80]}` in the ledger is damaged", hint="a backup of the cluster's variables holds it")


def _some(kind: type[T], items: Mapping[str, str], prefix: str) -> dict[str, T]:
    found = ((name, text) for name, text in items.items() if name.startswith(prefix))
    return {name.removeprefix(prefix): read_object(kind, text, name) for name, text in found}


def _plain(thing: object) -> JsonValue:
    match thing:
        case Committed() | Entry() | Journal() | Shelf():
            return {one.name: _plain(getattr(thing, one.name)) for one in fields(thing) if _is_said(thing, one.name)}
        case Mapping():
            return {str(name): _plain(value) for name, value in thing.items()}
        case tuple() | list():
            return [_plain(value) for value in thing]
        case _:
            return thing  # type: ignore[return-value]  # a value was JSON when it came


def _is_said(thing: object, name: str) -> bool:
    said = getattr(thing, name)
    return said is not None and said != () and (name == "value" or said != {})


def _longest(item: tuple[str, str]) -> int:
    return -len(item[1])
