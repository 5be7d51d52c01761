"""The state of a service in one variable of the cluster, written by check-and-set: read, decide, set."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from mlops_deploy.adapters.nomad import writing
from mlops_deploy.adapters.nomad.book import (
    NEW,
    Book,
    Entry,
    Journal,
    Shelf,
    damaged,
    read_book,
    read_object,
    write_book,
)
from mlops_deploy.adapters.nomad.pages import Pages, Variables
from mlops_deploy.adapters.nomad.writing import Draft
from mlops_deploy.errors import NeedsHumanError, UnreachableError
from mlops_deploy.release.effects import Committed, Lines, Refused, Stored, Written
from mlops_deploy.release.state import CLOSED, Route
from mlops_deploy.spec.deploy import JsonValue

N = TypeVar("N", bound=Refused | None)
T = TypeVar("T", Entry, Journal)

CONTENTION: Final = 5.0
"""Seconds for which a write that others get ahead of is tried again; each takes milliseconds."""

_PAUSE: Final = 0.01
_SECOND: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """The book as it was read: `index` to compare with, `now` in nanoseconds by the servers' clock."""

    book: Book
    index: int
    now: int


class Ledger:
    """The state of one service in the variable of its router's job, and its pages.

    Every write reads the variable, decides by what it holds, and sets it whole if nobody has set it meanwhile: so the
    lease, the route and the journal are compared and written at once, and a holder that lost its lease changes
    nothing, however late its request comes. One caller at a time.

    Ages are by the servers' clocks: an answer's date less the time of the write, in whole seconds. Where these clocks
    differ, a lease ends as much too early or too late, and its token decides who writes all the same.
    """

    def __init__(self, variables: Variables, job_id: str) -> None:
        self._variables = variables
        self._path = f"nomad/jobs/{job_id}"
        self._pages = Pages(variables, f"{self._path}/pages")

    def lay_out(self, config: str, route: Route = CLOSED) -> int | None:
        """Make the ledger of a router with its configuration, closed or with `route`; None when there is one already.

        The index that it has then.
        """
        first = replace(NEW, share_b=route.share_b, closed=route.closed)
        new = Book(route=first, config=writing.checked_config(config))
        return self._variables.put_variable(self._path, write_book(new), 0)

    def index(self) -> int:
        """The index of the variable, which every write moves; 0 when there is none."""
        found = self._variables.variable(self._path)
        return 0 if found is None else found.index

    def book(self) -> Book:
        """All that the variable holds."""
        return self._read().book

    def commit(self, route: Route, generation: int, token: int) -> Committed | Refused:
        """See `ports.Keeper`."""
        writing.checked_route(route)
        done = self._change(_held(token, lambda it: writing.commit(it.book, route, generation, token)))
        return done if isinstance(done, Refused) else Committed(generation=done.number)

    def get(self, key: str) -> Stored:
        """See `ports.Keeper`."""
        writing.checked_name(key)
        read = self._read()
        entry = self._found(read.book, key, _keys)
        if entry is None:
            return Stored(value=None, index=0, age=0.0)
        return Stored(value=self._value(key, entry), index=entry.index, age=writing.age(entry, read.now))

    def keys(self, prefix: str) -> tuple[str, ...]:
        """See `ports.Keeper`."""
        found = {name for some in self._all(self.book(), _keys) for name in some}
        return tuple(sorted(name for name in found if name.startswith(prefix)))

    def put(self, key: str, value: JsonValue, index: int, token: int) -> Written | Refused:
        """See `ports.Keeper`."""
        writing.checked_name(key)

        def decide(it: _Read) -> Draft | Refused:
            return writing.put(it.book, self._found(it.book, key, _keys), key, value, index)

        done = self._change(decide if key in writing.UNFENCED else _held(token, decide))
        return done if isinstance(done, Refused) else Written(index=done.number)

    def append(self, journal: str, line: str, position: int, token: int) -> Written | Refused:
        """See `ports.Keeper`."""
        writing.checked_name(journal)

        def decide(it: _Read) -> Draft | Refused:
            return writing.append(it.book, self._found(it.book, journal, _journals), journal, line, position)

        done = self._change(_held(token, decide))
        return done if isinstance(done, Refused) else Written(index=done.number)

    def journals(self) -> tuple[str, ...]:
        """See `ports.Keeper`."""
        numbers: dict[str, int] = {}
        for some in self._all(self.book(), _journals):
            numbers |= {name: journal.number for name, journal in some.items()}
        return tuple(sorted(numbers, key=numbers.__getitem__))

    def read(self, journal: str) -> Lines:
        """See `ports.Keeper`."""
        found = self._found(self.book(), writing.checked_name(journal), _journals)
        if found is None:
            return Lines(lines=())
        text, whole = self._pages.read(found.pages)
        lines = tuple(text.split("\n")[:-1])
        kept = (*lines, *found.tail) if whole else lines
        return Lines(lines=kept, damaged=not whole or len(kept) != found.count)

    def configure(self, config: str) -> bool:
        """Write the configuration that the router follows; False when it is there already."""
        return self._change(lambda it: writing.configured(it.book, config)) is not None

    def _change(self, decide: Callable[[_Read], Draft | N]) -> Draft | N:
        """Write what `decide` makes of the book; what is no draft is returned with nothing written.

        Raises `UnreachableError` when others keep getting ahead.
        """
        until = time.monotonic() + CONTENTION
        while True:
            read = self._read()
            draft = decide(read)
            if not isinstance(draft, Draft):
                return draft
            items = write_book(draft.book)
            self._pages.write(draft.pages)
            if self._variables.put_variable(self._path, items, read.index) is not None:
                return draft
            if time.monotonic() >= until:
                raise UnreachableError(f"others have kept writing `{self._path}` for {CONTENTION:g} s")
            time.sleep(_PAUSE)

    def _read(self) -> _Read:
        found = self._variables.variable(self._path)
        if found is None:
            raise NeedsHumanError(
                f"the state of the service is gone: there is no variable `{self._path}`",
                hint="`mlops-deploy router apply` lays it out anew, `mlops-deploy down --volumes` ends the service",
            )
        book = read_book(found.items, found.modified)
        return _Read(book=book, index=found.index, now=found.modified + round(found.age * _SECOND))

    def _found(self, book: Book, name: str, part: Callable[[Book | Shelf], Mapping[str, T]]) -> T | None:
        return next((some[name] for some in self._all(book, part) if name in some), None)

    def _all(self, book: Book, part: Callable[[Book | Shelf], Mapping[str, T]]) -> Iterator[Mapping[str, T]]:
        """What the book holds itself, then what was put on the shelf, the latest first."""
        yield part(book)
        older = book.shelf
        while older:
            shelf = read_object(Shelf, self._whole(older, "shelf"), "shelf")
            yield part(shelf)
            older = shelf.older

    def _value(self, key: str, entry: Entry) -> JsonValue:
        if not entry.pages:
            return entry.value
        try:
            value: JsonValue = json.loads(self._whole(entry.pages, key))
        except ValueError as error:
            raise damaged(key) from error
        return value

    def _whole(self, pages: Iterable[str], name: str) -> str:
        text, whole = self._pages.read(pages)
        if not whole:
            raise damaged(name)
        return text


def _held(token: int, decide: Callable[[_Read], Draft | Refused]) -> Callable[[_Read], Draft | Refused]:
    """Decide so only when `token` is that of a live lease."""
    return lambda it: writing.unheld(it.book, token, it.now) or decide(it)


def _keys(part: Book | Shelf) -> Mapping[str, Entry]:
    return part.keys


def _journals(part: Book | Shelf) -> Mapping[str, Journal]:
    return part.journals
