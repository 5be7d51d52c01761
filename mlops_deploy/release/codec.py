"""Frozen dataclasses to JSON and back, strictly: unknown, missing and ill-typed fields are refused by their path."""

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.spec.deploy import JsonValue
from mlops_deploy.spec.refs import ContentId, Digest

T = TypeVar("T")

KIND: Final = "kind"
"""The field that tells the members of a union apart: the class's name in lower case."""


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
            own = {field.name: encode(getattr(value, field.name)) for field in fields(value)}
            return {KIND: type(value).__name__.lower(), **own}
        case _:
            raise TypeError(f"{type(value).__name__} cannot be encoded")


def decode(kind: type[T], data: JsonValue, path: str = "") -> T:
    """`data` as a `kind`; raise `UnusableInputError` that names the place of the first mistake."""
    return _decode(kind, data, path)  # type: ignore[no-any-return]  # the type is checked at run time


def decode_any(kinds: object, data: JsonValue, path: str = "") -> Any:
    """As `decode`, for a union."""
    return _decode(kinds, data, path)


def _decode(kind: Any, data: JsonValue, path: str) -> Any:
    if kind == JsonValue:
        return data
    origin = get_origin(kind)
    if origin in {Union, types.UnionType}:
        return _decode_union(get_args(kind), data, path)
    if origin is Literal:
        return _checked(data, data in get_args(kind), path, f"one of {', '.join(map(str, get_args(kind)))}")
    if origin is tuple:
        items = _checked(data, isinstance(data, list), path, "a list")
        return tuple(_decode(get_args(kind)[0], item, f"{path}[{number}]") for number, item in enumerate(items))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        entries = _checked(data, isinstance(data, dict), path, "an object")
        return {key: _decode(get_args(kind)[1], item, f"{path}.{key}") for key, item in entries.items()}
    return _decode_plain(kind, data, path)


def _decode_plain(kind: Any, data: JsonValue, path: str) -> Any:
    if kind is Digest:
        return Digest.parse(_checked(data, isinstance(data, str), path, "a digest"))
    if kind is ContentId:
        return ContentId(_checked(data, isinstance(data, str), path, "a content id"))
    if is_dataclass(kind):
        return _decode_object(kind, data, path)
    if kind is float:
        return float(_checked(data, isinstance(data, int | float) and not isinstance(data, bool), path, "a number"))
    if kind is type(None):
        return _checked(data, data is None, path, "null")
    good = isinstance(data, kind) and (kind is bool or not isinstance(data, bool))
    return _checked(
        data, good, path, {"str": "a text", "int": "a whole number", "bool": "true or false"}[kind.__name__]
    )


def _decode_union(kinds: tuple[Any, ...], data: JsonValue, path: str) -> Any:
    if type(None) in kinds:
        if data is None:
            return None
        kinds = tuple(kind for kind in kinds if kind is not type(None))
    if len(kinds) == 1:
        return _decode(kinds[0], data, path)
    named = {kind.__name__.lower(): kind for kind in kinds}
    entries = _checked(data, isinstance(data, dict), path, "an object")
    word = entries.get(KIND)
    _checked(word, word in named, f"{path}.{KIND}", f"one of {', '.join(named)}")
    return _decode_object(named[word], data, path)


def _decode_object(kind: Any, data: JsonValue, path: str) -> Any:
    entries = dict(_checked(data, isinstance(data, dict), path, "an object"))
    word = entries.pop(KIND, kind.__name__.lower())
    _checked(word, word == kind.__name__.lower(), f"{path}.{KIND}", kind.__name__.lower())
    hints, known = _shape(kind)
    for name in entries:
        if name not in hints:
            raise _wrong(f"{path}.{name}", f"no field of {kind.__name__.lower()}")
    for name, needed in known.items():
        if needed and name not in entries:
            raise _wrong(f"{path}.{name}", "missing")
    return kind(**{name: _decode(hints[name], value, f"{path}.{name}") for name, value in entries.items()})


@cache
def _shape(kind: Any) -> tuple[dict[str, Any], dict[str, bool]]:
    needed = {item.name: item.default is MISSING and item.default_factory is MISSING for item in fields(kind)}
    return get_type_hints(kind), needed


def _checked(value: Any, good: bool, path: str, expected: str) -> Any:
    if not good:
        raise _wrong(path, f"expected {expected}")
    return value


def _wrong(path: str, what: str) -> UnusableInputError:
    return UnusableInputError(f"`{path.lstrip('.') or 'the document'}`: {what}")
