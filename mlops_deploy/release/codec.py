"""Frozen dataclasses to JSON and back, strictly: unknown, missing and ill-typed fields are refused by their path."""

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from math import isfinite
from typing import Final, Literal, NoReturn, TypeVar, Union, cast, get_args, get_origin

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.spec.deploy import JsonValue
from mlops_deploy.spec.refs import ContentId, Digest

T = TypeVar("T")
Reader = Callable[[object, str], object]
"""Reads one JSON value that stands at a path."""

KIND: Final = "kind"
"""The field that tells the members of a union apart: the class's name in lower case.

A class with a field `kind` of its own keeps that one, and cannot be a member of a union.
"""

_LONGEST: Final = 120
"""How much of a place in a hostile document an error shows."""


def encode(value: object) -> JsonValue:
    """`value` as JSON: a dataclass becomes an object with its `kind`, a tuple a list."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Digest():
            return str(value)
        case ContentId():
            return value.hex
        case Mapping():
            return {str(key): encode(item) for key, item in value.items()}
        case tuple() | list():
            return [encode(item) for item in value]
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {KIND: _word(type(value)), **{f.name: encode(getattr(value, f.name)) for f in fields(value)}}
        case _:
            raise TypeError(f"{type(value).__name__} cannot be encoded")


def decode(kind: type[T], data: object, path: str = "") -> T:
    """`data` as a `kind`; raise `UnusableInputError` that names the place of the first mistake."""
    return cast("T", decode_any(kind, data, path))


def decode_any(kinds: object, data: object, path: str = "") -> object:
    """As `decode`, for a union."""
    try:
        return _reader(kinds)(data, path)
    except RecursionError as error:
        raise _wrong(path, "nested too deeply") from error


@cache
def _reader(kind: object) -> Reader:
    if kind == JsonValue:
        return _anything
    origin, inner = get_origin(kind), get_args(kind)
    if origin in {Union, types.UnionType}:
        return _read_union(inner)
    if origin is Literal:
        return _read_literal(inner)
    if origin is tuple:
        return _read_list(_reader(inner[0]))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _read_object(_reader(inner[1]))
    if not isinstance(kind, type):
        raise TypeError(f"{kind} cannot be decoded")
    return _PLAIN[kind] if kind in _PLAIN else _read_dataclass(kind)


def _anything(data: object, _path: str) -> object:
    return data


def _read_text(data: object, path: str) -> str:
    return data if isinstance(data, str) else _refuse(path, "a text")


def _read_whole(data: object, path: str) -> int:
    return data if isinstance(data, int) and not isinstance(data, bool) else _refuse(path, "a whole number")


def _read_bool(data: object, path: str) -> bool:
    return data if isinstance(data, bool) else _refuse(path, "true or false")


def _read_number(data: object, path: str) -> float:
    if isinstance(data, int | float) and not isinstance(data, bool) and abs(data) < _HUGE and isfinite(data):
        return float(data)
    return _refuse(path, "a number")


def _read_null(data: object, path: str) -> None:
    return None if data is None else _refuse(path, "null")


def _read_id(parse: Callable[[str], object], expected: str) -> Reader:
    def read(data: object, path: str) -> object:
        try:
            return parse(_read_text(data, path))
        except UnusableInputError:
            return _refuse(path, expected)

    return read


_HUGE: Final = 10**15
"""No time or tolerance of ours is as large; what is larger loses whole seconds as a float."""

_PLAIN: Final[Mapping[type, Reader]] = {
    str: _read_text,
    int: _read_whole,
    bool: _read_bool,
    float: _read_number,
    type(None): _read_null,
    Digest: _read_id(Digest.parse, "a digest"),
    ContentId: _read_id(ContentId, "a content id"),
}


def _read_literal(words: tuple[object, ...]) -> Reader:
    def read(data: object, path: str) -> object:
        known = isinstance(data, str) and data in words
        return data if known else _refuse(path, f"one of {', '.join(map(str, words))}")

    return read


def _read_list(item: Reader) -> Reader:
    def read(data: object, path: str) -> object:
        if not isinstance(data, list):
            _refuse(path, "a list")
        return tuple(item(value, f"{path}[{number}]") for number, value in enumerate(data))

    return read


def _read_object(item: Reader) -> Reader:
    def read(data: object, path: str) -> object:
        return {name: item(value, f"{path}.{name}") for name, value in _entries(data, path).items()}

    return read


def _read_union(kinds: tuple[object, ...]) -> Reader:
    some = tuple(kind for kind in kinds if kind is not type(None))
    read = _reader(some[0]) if len(some) == 1 else _read_named({_word(kind): _reader(kind) for kind in some})
    if len(some) == len(kinds):
        return read
    return lambda data, path: None if data is None else read(data, path)


def _read_named(readers: Mapping[str, Reader]) -> Reader:
    def read(data: object, path: str) -> object:
        word = _entries(data, path).get(KIND)
        if not isinstance(word, str) or word not in readers:
            _refuse(f"{path}.{KIND}", f"one of {', '.join(readers)}")
        return readers[word](data, path)

    return read


def _read_dataclass(kind: type) -> Reader:
    if not is_dataclass(kind):
        raise TypeError(f"{kind} cannot be decoded")
    readers = {field.name: _reader(cast("object", field.type)) for field in fields(kind)}
    needed = [field.name for field in fields(kind) if field.default is field.default_factory is MISSING]

    def read(data: object, path: str) -> object:
        entries = dict(_entries(data, path))
        if KIND not in readers and entries.pop(KIND, _word(kind)) != _word(kind):
            _refuse(f"{path}.{KIND}", _word(kind))
        for name in (name for name in entries if name not in readers):
            raise _wrong(f"{path}.{name}", f"no field of {_word(kind)}")
        for name in (name for name in needed if name not in entries):
            raise _wrong(f"{path}.{name}", "missing")
        return kind(**{name: readers[name](value, f"{path}.{name}") for name, value in entries.items()})

    return read


def _word(kind: object) -> str:
    return kind.__name__.lower() if isinstance(kind, type) else str(kind)


def _entries(data: object, path: str) -> dict[str, object]:
    return data if isinstance(data, dict) else _refuse(path, "an object")


def _refuse(path: str, expected: str) -> NoReturn:
    raise _wrong(path, f"expected {expected}")


def _wrong(path: str, what: str) -> UnusableInputError:
    place = path.lstrip(".").encode(errors="backslashreplace").decode()
    return UnusableInputError(f"`{place[:_LONGEST] or 'the document'}`: {what}")
