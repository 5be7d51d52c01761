"""Texts that are too long or too old for the ledger's variable: pages that are named by their content and never change.

A page is written before anything names it. One that nothing came to name stays until the whole ledger is removed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Protocol

from mlops_deploy.adapters.nomad.client import Variable

PAGE: Final = 48 << 10
"""Bytes of a page: three quarters of what a variable holds."""

_ITEM: Final = "text"
_DIGITS: Final = 32
"""Hex digits of a page's name: a path has 128 characters at most, and the names of service and environment are long."""


class Variables(Protocol):
    """What the ledger asks of `client.NomadClient`."""

    def variable(self, path: str) -> Variable | None:
        """A variable, None when there is none."""
        ...

    def put_variable(self, path: str, items: Mapping[str, str], index: int) -> int | None:
        """Write it when its index is still `index` (0: there is none); its new index, None when it is another."""
        ...

    def variables(self, prefix: str) -> list[str]:
        """The paths that begin with `prefix`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Paged:
    """A text as pages: their names in order, and the pages by name."""

    names: tuple[str, ...]
    pages: Mapping[str, str]


def paged(text: str) -> Paged:
    """`text` on as few pages as it takes; none for an empty one."""
    names, pages, data = [], {}, text.encode()
    while data:
        end = _end(data)
        name = _name(data[:end])
        names.append(name)
        pages[name] = data[:end].decode()
        data = data[end:]
    return Paged(names=tuple(names), pages=pages)


class Pages:
    """The pages below `path`; what was read or written once is not asked for again."""

    def __init__(self, variables: Variables, path: str) -> None:
        self._variables = variables
        self._path = path
        self._known: dict[str, str] = {}

    def write(self, pages: Mapping[str, str]) -> None:
        """Write those that are not there yet."""
        for name, text in pages.items():
            if name not in self._known:
                self._variables.put_variable(f"{self._path}/{name}", {_ITEM: text}, 0)
                self._known[name] = text

    def read(self, names: Iterable[str]) -> tuple[str, bool]:
        """The text of these pages up to the first that is missing or damaged, and whether there was none such."""
        texts: list[str] = []
        for name in names:
            text = self._page(name)
            if text is None:
                return "".join(texts), False
            texts.append(text)
        return "".join(texts), True

    def _page(self, name: str) -> str | None:
        if name not in self._known:
            found = self._variables.variable(f"{self._path}/{name}")
            text = found.items.get(_ITEM, "") if found is not None else ""
            if _name(text.encode(errors="replace")) != name:
                return None
            self._known[name] = text
        return self._known[name]


def _end(data: bytes) -> int:
    """Where the next page ends: never within a character."""
    end = min(PAGE, len(data))
    while end < len(data) and data[end] & 0xC0 == 0x80:  # noqa: PLR2004  # what continues a character of UTF-8
        end -= 1
    return end


def _name(data: bytes) -> str:
    return sha256(data).hexdigest()[:_DIGITS]
