"""Which model this server serves: read from the environment, found on the volume. Standard library only."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEFAULT_VOLUME: Final = "/model"
SHORT: Final = 12
"""Hex digits of the content id that answers carry as `model_version`."""

_ID = re.compile(r"[0-9a-f]{64}")
_PREFIX = re.compile(r"[0-9a-f]{4,64}")
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")


class ChoiceError(Exception):
    """The environment names no model that is there; the message lists what is."""

    exit_code = 78


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The model to serve: its name in URLs, its content id, and the folder that holds its files."""

    name: str
    id: str
    path: Path

    @property
    def version(self) -> str:
        """The `model_version` of every answer: the first twelve hex digits of the content id."""
        return self.id[:SHORT]

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


def choose(environ: Mapping[str, str]) -> Choice:
    """Resolve `MODEL_PATH` (with `MODEL_NAME`), or `MODEL=<name>[@<content id prefix>]` on `MODEL_VOLUME`.

    The id is the name of the folder that is found: a real one, by name directly in `v` of the volume. Raises
    `ChoiceError` when it is no content id, differs from `MODEL_ID`, or nothing is found.
    """
    path, model = environ.get("MODEL_PATH"), environ.get("MODEL")
    if path and model:
        raise ChoiceError("`MODEL_PATH` and `MODEL` are both set: set one of them")
    volume = Path(environ.get("MODEL_VOLUME") or DEFAULT_VOLUME)
    if path:
        folder = _folder(Path(path), f"`MODEL_PATH` `{path}`", volume)
        name = environ.get("MODEL_NAME") or _name_of(folder, _volume_of(folder, environ))
    elif model:
        name, folder = _by_name(model, volume)
        if environ.get("MODEL_NAME", name) != name:
            raise ChoiceError(f"`MODEL` names `{name}`, but `MODEL_NAME` is `{environ['MODEL_NAME']}`")
    else:
        raise ChoiceError(f"no model is chosen: set `MODEL=<name>` or `MODEL_PATH`\n{listing(volume)}")
    return _checked(Choice(name=name, id=folder.name, path=folder), environ.get("MODEL_ID"))


def listing(volume: Path) -> str:
    """What can be chosen on `volume`, as lines for a message."""
    if not volume.is_dir():
        return f"there is no folder `{volume}`"
    named = dict(_links(volume))
    lines = [f"  {name}@{folder.name[:SHORT]}" for name, folder in sorted(named.items())]
    without = sorted(set(_contents(volume)) - {folder.name for folder in named.values()})
    lines += [f"  (no name)@{identity[:SHORT]}" for identity in without]
    return "\n".join([f"models on `{volume}`:", *lines]) if lines else f"there is no model on `{volume}`"


def _checked(choice: Choice, expected: str | None) -> Choice:
    if not _NAME.fullmatch(choice.name):
        raise ChoiceError(f"`{choice.name}` cannot name a model: lower-case letters, digits, `.`, `_`, `-`")
    if expected and expected != choice.id:
        raise ChoiceError(f"`MODEL_ID` is `{expected}`, but `{choice.path}` holds `{choice.id}`")
    return choice


def _by_name(model: str, volume: Path) -> tuple[str, Path]:
    name, at, prefix = model.partition("@")
    folder = dict(_links(volume)).get(name)
    if folder is None:
        raise ChoiceError(f"`MODEL` names `{name}`, which is not there\n{listing(volume)}")
    if not at or (_PREFIX.fullmatch(prefix) and folder.name.startswith(prefix)):
        return name, folder
    return name, _by_prefix(prefix, volume)


def _by_prefix(prefix: str, volume: Path) -> Path:
    if not _PREFIX.fullmatch(prefix):
        raise ChoiceError(f"`{prefix}` is not the beginning of a content id: 4 to 64 lower-case hex digits")
    found = [identity for identity in _contents(volume) if identity.startswith(prefix)]
    if len(found) != 1:
        count = "no content id" if not found else f"{len(found)} content ids"
        raise ChoiceError(f"{count} on the volume begin with `{prefix}`\n{listing(volume)}")
    return _real(volume / "v") / found[0]


def _name_of(folder: Path, volume: Path) -> str:
    names = sorted(name for name, target in _links(volume) if target == folder)
    if len(names) != 1:
        count = "no link" if not names else f"{len(names)} links ({', '.join(names)})"
        raise ChoiceError(f"`MODEL_NAME` is not set, and {count} on `{volume}` point to `{folder}`")
    return names[0]


def _folder(path: Path, what: str, volume: Path) -> Path:
    try:
        folder = _real(path)
    except OSError as error:
        raise ChoiceError(f"{what} cannot be used: {error.strerror}\n{listing(volume)}") from error
    if not folder.is_dir():
        raise ChoiceError(f"{what} is not a folder")
    if not _ID.fullmatch(folder.name):
        raise ChoiceError(f"{what} is not named by a content id (64 hex digits): no model was put there whole")
    if path.is_symlink():  # what it points to can change between the check of a job and the start of its server
        raise ChoiceError(f"{what} is a link: give the folder that it points to, `{folder}`, or choose by `MODEL`")
    return folder


def _volume_of(folder: Path, environ: Mapping[str, str]) -> Path:
    return Path(environ.get("MODEL_VOLUME") or folder.parent.parent)


def _links(volume: Path) -> Iterator[tuple[str, Path]]:
    """Names on the volume and the folders `v/<content id>` they point to; other links are nobody's model."""
    for entry in _entries(volume):
        if entry.is_symlink() and (folder := _content(entry, volume)) is not None:
            yield entry.name, folder


def _contents(volume: Path) -> list[str]:
    entries = _entries(volume / "v")
    return [entry.name for entry in entries if not entry.is_symlink() and _content(entry, volume) is not None]


def _content(entry: Path, volume: Path) -> Path | None:
    """The real folder `v/<content id>` of the volume that `entry` is or leads to; None when that is something else."""
    try:
        folder, contents = _real(entry), _real(volume) / "v"
        return folder if folder.parent == contents and _ID.fullmatch(folder.name) and folder.is_dir() else None
    except OSError:  # it leads nowhere, in a circle, or where this user may not look
        return None


def _real(path: Path) -> Path:
    """`path` with every link followed; `OSError` for a circle too, which `Path.resolve` tells in its own way."""
    return Path(os.path.realpath(path, strict=True))


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
