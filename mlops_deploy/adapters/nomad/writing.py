"""What a write does to the book of a service: a new book, or a refusal. Pure: who writes it compares and sets.

The rules are those of the keeper beside a router on Docker, see docs/keeper.md, and so are the words of a refusal.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar, cast

from mlops_deploy.adapters.nomad.book import Book, Committed, Entry, Journal, Shelf, compact, damaged
from mlops_deploy.adapters.nomad.pages import paged
from mlops_deploy.errors import DeployError
from mlops_deploy.release.effects import Refused
from mlops_deploy.release.state import WHOLE, Route
from mlops_deploy.spec.deploy import JsonValue

LEASE: Final = "lease"
UNFENCED: Final = (LEASE, "freeze")
"""What is written without a lease: the lease itself, and what must work while another has it."""

INLINE: Final = 2 << 10
"""Characters of a value's JSON; a longer one goes to pages."""

TAIL: Final = 8 << 10
"""Characters of the JSON of a journal's last lines; when there are more, they go to a page."""

ROOM: Final = 24 << 10
"""Characters of the JSON of keys and journals; when there are more, all but those in use go to the shelf."""

CONFIG_MOST: Final = 24 << 10
"""Bytes of a configuration: the rest of the variable is for what is written while a release goes on."""

_SECOND: Final = 1_000_000_000
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._/-]{0,199}")

T = TypeVar("T", Entry, Journal)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lease:
    token: int
    held: bool
    ttl: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A new book, the pages that it names for the first time, and the number that the write is answered with."""

    book: Book
    number: int
    pages: Mapping[str, str] = field(default_factory=dict)


def commit(book: Book, route: Route, generation: int, token: int) -> Draft | Refused:
    """Write the route when the one that is there has `generation`."""
    present = book.route.generation
    if present != generation:
        return Refused(reason=f"the route has generation {present}, not {generation}")
    fresh = Committed(share_b=route.share_b, closed=route.closed, generation=generation + 1, token=token)
    return Draft(book=replace(book, route=fresh), number=generation + 1)


def put(book: Book, found: Entry | None, key: str, value: JsonValue, index: int) -> Draft | Refused:
    """Write `key`, of which `found` is what is kept, when that has `index`."""
    present = found.index if found is not None else 0
    if present != index:
        return Refused(reason=f"`{key}` has index {present}, not {index}")
    if key == LEASE and (refused := _unfit(value, found)) is not None:
        return refused
    text = json.dumps(value)
    pages = paged(text if len(text) > INLINE and key != LEASE else "")
    entry = Entry(index=index + 1, value=None if pages.names else json.loads(text), pages=pages.names)
    return _shelved(replace(book, keys={**book.keys, key: entry}), index + 1, pages.pages, key)


def append(book: Book, found: Journal | None, journal: str, line: str, position: int) -> Draft | Refused:
    """Append to `journal`, of which `found` is what is kept, as line `position`.

    The last lines of all other journals go to pages: one of them at most is still being written.
    """
    if "\n" in line:
        raise DeployError("a line of a journal holds no line break")
    count = found.count if found is not None else 0
    if count != position:
        return Refused(reason=f"the journal `{journal}` has {count} lines, not {position}")
    before = found or Journal(number=_newest(book) + 1, count=0)
    longer = replace(before, count=count + 1, tail=(*before.tail, checked_text(line)))
    journals = {**book.journals, journal: longer}
    pages: dict[str, str] = {}
    for name, one in journals.items():
        journals[name], more = _put_away(one, TAIL if name == journal else 0)
        pages |= more
    return _shelved(replace(book, journals=journals), position + 1, pages, journal)


def configured(book: Book, config: str) -> Draft | None:
    """Write the configuration; None when it is this one already."""
    return None if book.config == checked_config(config) else Draft(book=replace(book, config=config), number=0)


def checked_config(config: str) -> str:
    """`config`; `DeployError` for one that leaves too little room for the rest."""
    size = len(checked_text(config).encode())
    if size > CONFIG_MOST:
        raise DeployError(f"the router's configuration has {size} bytes; on Nomad it may have {CONFIG_MOST}")
    return config


def unheld(book: Book, token: int, now: int) -> Refused | None:
    """Why `token` is not that of a live lease, None when it is; `now` in nanoseconds since 1970.

    Only a write of the lease itself makes it younger, as with every keeper: what anybody may write, a freeze, does not
    bring the lease of a dead holder back to life. A write that is decided just before the lease ends may come just
    after: nobody else has taken it then, or the check-and-set would fail.
    """
    entry = book.keys.get(LEASE)
    if entry is None:
        return Refused(reason="nobody holds the lease", fenced=True)
    lease = _lease(entry.value)
    if lease is None:
        raise damaged(LEASE)
    if not lease.held:
        return Refused(reason="nobody holds the lease", fenced=True)
    if lease.token != token:
        return Refused(reason=f"the lease has the token {lease.token}, not {token}", fenced=True)
    if age(entry, now) > lease.ttl:
        return Refused(reason="the lease has expired", fenced=True)
    return None


def age(entry: Entry, now: int) -> float:
    """For how many seconds of the servers' clock a key has stood."""
    return max(0.0, (now - (entry.since or now)) / _SECOND)


def checked_route(route: Route) -> Route:
    """`route`; `DeployError` for one that shares more than there is."""
    if not 0 <= route.share_b <= WHOLE:
        raise DeployError(f"`share_b` is 0 to {WHOLE}")
    return route


def checked_name(name: str) -> str:
    """`name`; `DeployError` for one that no key and no journal may have."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise DeployError(f"`{name[:80]}` is not a name: expected [a-z0-9][a-z0-9._/-]*, at most 200, without `..`")
    return name


def checked_text(text: str) -> str:
    """`text`; `DeployError` for one that cannot be written down."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DeployError("a text holds half of a surrogate pair") from error
    return text


def _lease(value: JsonValue) -> "_Lease | None":
    if not isinstance(value, dict):
        return None
    token, holder, ttl = value.get("token"), value.get("holder", 0), value.get("ttl")
    if type(token) is not int or type(ttl) not in {int, float} or not isinstance(holder, str | dict | None):
        return None
    return _Lease(token=token, held=holder is not None, ttl=cast("float", ttl))


def _unfit(value: JsonValue, found: Entry | None) -> Refused | None:
    """Why a lease may not become `value`; `DeployError` when that is no lease at all."""
    lease, last = _lease(value), _lease(found.value) if found is not None else None
    if lease is None:
        raise DeployError("a lease is an object: token (int), holder (text, object, null), ttl (seconds)")
    if last is not None and lease.token < last.token:
        return Refused(reason=f"the token of the lease is {last.token} and never goes back")
    return None


def _newest(book: Book) -> int:
    """The number of the newest journal, which is never on the shelf."""
    return max((journal.number for journal in book.journals.values()), default=0)


def _put_away(journal: Journal, limit: int) -> tuple[Journal, Mapping[str, str]]:
    """The journal with its last lines on pages when they are longer than `limit`."""
    if not journal.tail or len(json.dumps(journal.tail)) <= limit:
        return journal, {}
    more = paged("".join(f"{line}\n" for line in journal.tail))
    return replace(journal, pages=journal.pages + more.names, tail=()), more.pages


def _shelved(book: Book, number: int, pages: Mapping[str, str], used: str) -> Draft:
    """A draft of `book`, in which what nobody works with is on the shelf when there is no room for it."""
    if len(compact(Shelf(keys=book.keys, journals=book.journals))) <= ROOM:
        return Draft(book=book, number=number, pages=pages)
    newest = _newest(book)
    keys = {name: one for name, one in book.keys.items() if name in {*UNFENCED, used}}
    journals = {name: one for name, one in book.journals.items() if name == used or one.number == newest}
    moved = Shelf(keys=_without(book.keys, keys), journals=_without(book.journals, journals), older=book.shelf)
    if not moved.keys and not moved.journals:
        return Draft(book=book, number=number, pages=pages)
    shelf = paged(compact(moved))
    emptier = replace(book, keys=keys, journals=journals, shelf=shelf.names)
    return Draft(book=emptier, number=number, pages={**pages, **shelf.pages})


def _without(some: Mapping[str, T], kept: Mapping[str, T]) -> dict[str, T]:
    return {name: one for name, one in some.items() if name not in kept}
