"""What a job says of itself, so that one that somebody has edited is known as such: a sum over what it runs. Pure.

A cluster fills defaults in and leaves what was given as it was. So only what we give is counted, and what is empty
counts as what is not there.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from mlops_deploy.render.layout import Document
from mlops_deploy.spec.owner import LABEL

FINGERPRINT: Final = f"{LABEL}job"
"""The label that holds it."""

_TASK: Final = ("Name", "Driver", "User", "Config", "Meta", "Templates", "Artifacts", "KillSignal")
_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "Lifecycle": ("Hook", "Sidecar"),
    "Resources": ("MemoryMB", "MemoryMaxMB"),
}
_LISTS: Final[Mapping[str, tuple[str, ...]]] = {
    "VolumeMounts": ("Volume", "Destination", "ReadOnly"),
    "Services": ("Name", "PortLabel", "Provider", "Tags", "CanaryTags"),
}
_PORT: Final = ("Label", "To")
_VOLUME: Final = ("Name", "Type", "Source")

Json = Mapping[str, Any]


def signed(job: Document) -> Document:
    """`job` with its own fingerprint in its meta."""
    meta = job.get("Meta")
    return {**job, "Meta": {**(meta if isinstance(meta, dict) else {}), FINGERPRINT: fingerprint(job)}}


def is_edited(job: Json) -> bool:
    """Whether a job, as a cluster holds it, runs otherwise than it was registered by us."""
    return (job.get("Meta") or {}).get(FINGERPRINT) != fingerprint(job)


def fingerprint(job: Json) -> str:
    """64 hex digits over what `job` runs: of its tasks, volumes and ports what is given and never filled in."""
    text = json.dumps(_normal([_group(one) for one in job["TaskGroups"]]), sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()


def _group(group: Json) -> Json:
    networks = group.get("Networks") or ()
    return {
        "Name": group["Name"],
        "Ports": [_only(port, _PORT) for network in networks for port in network.get("DynamicPorts") or ()],
        "Volumes": {name: _only(one, _VOLUME) for name, one in (group.get("Volumes") or {}).items()},
        "Tasks": [_task(one) for one in group["Tasks"]],
    }


def _task(task: Json) -> Json:
    parts = {name: _only(task.get(name) or {}, fields) for name, fields in _PARTS.items()}
    lists = {name: [_only(one, fields) for one in task.get(name) or ()] for name, fields in _LISTS.items()}
    # As pairs: an empty text is another value than none.
    pairs = sorted((task.get("Env") or {}).items())
    return {**_only(task, _TASK), **parts, **lists, "Env": pairs}


def _only(found: Json, fields: tuple[str, ...]) -> Json:
    return {name: found.get(name) for name in fields}


def _normal(value: object) -> object:
    """Without what is empty, at any depth; a number is the same however it is written."""
    match value:
        case dict():
            parts = {key: _normal(one) for key, one in value.items()}
            return {key: one for key, one in parts.items() if one not in _EMPTY}
        case list() | tuple():
            return [_normal(one) for one in value]
        case float() if value.is_integer():
            return int(value)
        case _:
            return value


_EMPTY: Final[tuple[object, ...]] = (None, "", 0, [], {})
