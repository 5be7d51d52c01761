"""Nomad's difference between two jobs as a list of changes: of every kind, at every depth. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from mlops_deploy.release.forecast import Change, ChangeKind

_KINDS: Final[Mapping[str, ChangeKind]] = {"Added": "added", "Deleted": "deleted", "Edited": "edited"}
_NESTED: Final = (("Objects", ""), ("TaskGroups", "group "), ("Tasks", "task "))


def changes(difference: Mapping[str, Any]) -> tuple[Change, ...]:
    """The changes in the `Diff` of a job's plan, what is added or deleted as a whole before its parts."""
    return tuple(_of(difference, ""))


def _of(node: Mapping[str, Any], place: str) -> Iterator[Change]:
    for field in node.get("Fields") or ():
        kind = _KINDS.get(field["Type"])
        if kind is not None:
            notes = "; ".join(field.get("Annotations") or ())
            at, old, new = _joined(place, field["Name"]), field["Old"], field["New"]
            yield Change(kind=kind, place=at, old=old, new=new, note=notes)
    for name, word in _NESTED:
        for child in node.get(name) or ():
            yield from _child(child, _joined(place, f"{word}{child['Name']}"))


def _child(node: Mapping[str, Any], place: str) -> Iterator[Change]:
    kind = _KINDS.get(node["Type"])
    if kind is None:
        return
    notes = "; ".join(node.get("Annotations") or ())
    if kind != "edited" or notes:
        yield Change(kind=kind, place=place, note=notes)
    yield from _of(node, place)


def _joined(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
