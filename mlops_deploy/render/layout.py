"""A document and a template become text, and the text is read back: what is not the same document never leaves."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

import yaml

from mlops_deploy.errors import DeployError, UnusableInputError
from mlops_deploy.render.scalar import Scalar
from mlops_deploy.resources import JOBS

Value = Scalar | list["Value"] | dict[str, "Value"]
Document = dict[str, Value]
"""A job file as data; the truth that the text must say."""

# The C reader is five times as fast and reads the same; PyYAML has it where it was built with libyaml.
_READER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_LONE_DOLLAR: Final = re.compile(r"(?<!\$)(?:\$\$)*\$(?!\$)")
_UNSPEAKABLE: Final = re.compile("[\x00\ud800-\udfff]")


def lay_out(template: str, document: Document, *, source: Path = JOBS) -> str:
    """Write `document` for Compose by the template `source/template`, and make sure that the text says exactly that.

    Compose interpolates, so every `$` is doubled. Raises `UnusableInputError` for a value that no process can be given,
    `DeployError` for a fault of the template.
    """
    quoted = cast("Document", _dollared(document))
    return _written(source, template, quoted, document, read_back)


def lay_out_objects(template: str, objects: Document, *, source: Path = JOBS) -> str:
    """Write `objects`, known to the template by their keys, as YAML documents in their order: a file for Kubernetes.

    What Kubernetes itself expands in a value, the objects have quoted already. Raises as `lay_out` does.
    """
    return _written(source, template, objects, list(objects.values()), read_objects)


def _written(source: Path, template: str, given: Document, meant: Value, read: Callable[[str], Value]) -> str:
    refuse_unspeakable(given, ())
    from mlops_deploy.render.template import fill  # noqa: PLC0415 - who only looks at a release pays for no templates

    text = fill(source, template, given)
    if canonical(read(text)) != canonical(meant):
        raise DeployError(f"the template `{template}` does not say what it was given", hint="nothing was written")
    return text


def read_back(text: str) -> Value:
    """What Compose sees in `text`: YAML, with every `$$` read as `$`; raise `DeployError` when it is no such file."""
    try:
        return _undollared(yaml.load(text, Loader=_READER))  # noqa: S506 - one of the two safe readers
    except (yaml.YAMLError, ValueError) as wrong:
        raise DeployError(f"a rendered file cannot be read back: {wrong}") from wrong


def read_objects(text: str) -> Value:
    """What Kubernetes sees in `text`: its YAML documents; raise `DeployError` when it is no such file."""
    try:
        return list(yaml.load_all(text, Loader=_READER))
    except (yaml.YAMLError, ValueError) as wrong:
        raise DeployError(f"a rendered file cannot be read back: {wrong}") from wrong


def canonical(value: Value) -> str:
    """One text for one value, whatever the order of its keys."""
    # JSON tells true from 1 and "1" from 1, which `==` does not.
    return json.dumps(value, sort_keys=True, default=repr)


def _dollared(value: Value) -> Value:
    match value:
        case str():
            return value.replace("$", "$$")
        case list():
            return [_dollared(item) for item in value]
        case dict():
            return {key: _dollared(item) for key, item in value.items()}
        case int():
            return value


def _undollared(value: Value) -> Value:
    match value:
        case str():
            if _LONE_DOLLAR.search(value):
                raise ValueError("a `$` stands alone, which Compose would take for a variable")
            return value.replace("$$", "$")
        case list():
            return [_undollared(item) for item in value]
        case dict():
            return {key: _undollared(item) for key, item in value.items()}
        case int():
            return value


def refuse_unspeakable(value: Value, path: tuple[str, ...]) -> None:
    """Raise `UnusableInputError`, naming the key, for a text below `path` that no process can be given."""
    match value:
        case str():
            if found := _UNSPEAKABLE.search(value):
                what = "a NUL character" if found[0] == "\0" else "half of a surrogate pair"
                raise UnusableInputError(f"`{path[-1]}` holds {what}, which no process can be given")
        case list():
            for item in value:
                refuse_unspeakable(item, path)
        case dict():
            for key, item in value.items():
                refuse_unspeakable(item, (*path, key))
        case int():
            pass
