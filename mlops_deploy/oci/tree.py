"""What the layers of a carrier hold, and whether it is a carrier's tree: these names, once each, and nothing else."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from mlops_deploy.oci.inventory import MOST_ENTRIES
from mlops_deploy.oci.names import name_trouble, shown
from mlops_deploy.oci.shell import NONROOT
from mlops_deploy.oci.untar import Kind, Member, Source, TarDamageError, TarReader

MANIFEST: Final = "carrier/manifest.json"
_DOCUMENTS: Final = ("carrier/SHA256SUMS", "carrier/SIZES", MANIFEST)
_PROGRAMS: Final = ("bin/busybox", "deploy.sh")
_FOLDERS: Final = ("bin", "carrier", "model", "models")
_REQUIRED: Final = (*_PROGRAMS, "bin/sh", "model", *_DOCUMENTS)
_PROGRAM, _PLAIN, _LINK = 0o755, 0o644, 0o777


@dataclass(frozen=True, slots=True)
class Held:
    """An entry of a layer; a file has a size and a sha256."""

    name: str
    kind: Kind
    size: int = 0
    sha256: str = ""


@dataclass(slots=True)
class Room:
    """What may still be kept of a carrier in memory: entries, and bytes of `manifest.json` (250 for each file)."""

    entries: int = 2 * MOST_ENTRIES
    manifest: int = 512 * 2**20


@dataclass(slots=True)
class LayerContent:
    """What a layer holds. `problems` are entries that no carrier has; after `damage` nothing more was read."""

    held: list[Held] = field(default_factory=list)
    manifest: bytes | None = None
    problems: list[tuple[str, str]] = field(default_factory=list)
    damage: str | None = None


def read_layer(source: Source, room: Room) -> LayerContent:
    """Read a layer's tar once, hash every file in it, and keep the carrier's `manifest.json`."""
    content = LayerContent()
    reader = TarReader(source)
    try:
        for member in reader.members():
            _require_room(member, room)
            content.held.append(_held(reader, member, content))
            content.problems.extend((f"/{member.name}", problem) for problem in _problems(member))
        if source.read(1):
            content.damage = "something follows its end"
    except TarDamageError as damage:
        content.damage = str(damage)
    return content


def _require_room(member: Member, room: Room) -> None:
    room.entries -= 1
    if member.name == MANIFEST:
        room.manifest -= member.size
    if min(room.entries, room.manifest) < 0:
        raise TarDamageError(f"with {shown(member.name)} it is more than a carrier has")


def _held(reader: TarReader, member: Member, content: LayerContent) -> Held:
    if member.kind is not Kind.FILE:
        return Held(member.name, member.kind)
    hashed = sha256()
    kept = bytearray()
    for piece in reader.content():
        hashed.update(piece)
        if member.name == MANIFEST:
            kept += piece
    if member.name == MANIFEST:
        content.manifest = bytes(kept)
    return Held(member.name, member.kind, member.size, hashed.hexdigest())


def _problems(member: Member) -> Iterator[str]:
    trouble = next((trouble for part in member.name.split("/") if (trouble := name_trouble(part))), None)
    if trouble or name_trouble(member.name):
        yield f"it cannot travel: {trouble or name_trouble(member.name)}"
    elif not _has_place(member):
        yield f"a {member.kind.name.lower()} of that name has no place in a carrier"
    elif member.mode != _mode(member):
        yield f"its mode is {member.mode:04o}, expected {_mode(member):04o}"
    elif member.owner != (NONROOT if member.name == "model" else 0):
        yield f"its owner is {member.owner}"
    elif not member.exact:
        yield "its header is not as a carrier has it (time, group, size or form)"


def _has_place(member: Member) -> bool:
    top, _, rest = member.name.partition("/")
    match member.kind:
        case Kind.FOLDER:
            return member.name in _FOLDERS or top == "models"
        case Kind.LINK:
            return top == "bin" and bool(rest) and "/" not in rest and member.target == "busybox"
        case Kind.FILE:
            return member.name in _PROGRAMS or member.name in _DOCUMENTS or (top == "models" and bool(rest))


def _mode(member: Member) -> int:
    if member.kind is Kind.LINK:
        return _LINK
    return _PROGRAM if member.kind is Kind.FOLDER or member.name in _PROGRAMS else _PLAIN


@dataclass(frozen=True, slots=True)
class Tree:
    """What an image holds when its layers lie one over the other; `problems` as name and fault."""

    files: Mapping[str, Held]
    problems: tuple[tuple[str, str], ...]


def merged(layers: Iterable[LayerContent]) -> Tree:
    """Lay the layers over one another; whatever is hidden, or hides something, is a problem."""
    seen: dict[str, Held] = {}
    problems: list[tuple[str, str]] = []
    for held in (held for layer in layers for held in layer.held):
        before = seen.setdefault(held.name, held)
        if before is not held and not before.kind is held.kind is Kind.FOLDER:
            problems.append((f"/{held.name}", "it is there more than once"))
    problems += _ancestry(seen)
    problems += [(f"/{name}", "missing") for name in _REQUIRED if name not in seen]
    return Tree({name: held for name, held in seen.items() if held.kind is Kind.FILE}, tuple(problems))


def _ancestry(seen: Mapping[str, Held]) -> Iterator[tuple[str, str]]:
    needed = {"model"}
    for name, held in seen.items():
        above = name.rpartition("/")[0] if held.kind is not Kind.FOLDER else ""
        while above and above not in needed:
            needed.add(above)
            above = above.rpartition("/")[0]
    for name, held in seen.items():
        if held.kind is Kind.FOLDER and name not in needed:
            yield f"/{name}", "a folder without a file in it"
        elif held.kind is not Kind.FOLDER and name in needed:
            yield f"/{name}", "other entries are below it, and it is no folder"
