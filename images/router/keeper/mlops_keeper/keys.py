"""Values by name, each with an index that grows by every write, and an age by a clock that nobody can set."""

import json
import time

from mlops_keeper.folder import Folder, checked_name
from mlops_keeper.wrong import RefusedError, WrongError

LEASE = "lease"
UNFENCED = (LEASE, "freeze")
"""What is written without a lease: the lease itself, and what must work while another has it."""


def get(folder: Folder, key: str) -> dict:
    """Value, index and age of `key`; null with index 0 when it was never written."""
    entry = _entry(folder, key)
    if entry is None:
        return {"value": None, "index": 0, "age": 0.0}
    return {"value": entry["value"], "index": entry["index"], "age": _age(entry)}


def names(folder: Folder, prefix: str) -> list[str]:
    """The keys that begin with `prefix`."""
    found = (name.removesuffix(".json").replace("%", "/") for name in folder.names("keys"))
    return sorted(name for name in found if name.startswith(prefix))


def put(folder: Folder, key: str, value: object, index: int, token: int) -> int:
    """Write `key` if its index is `index`, under the lock that the caller has; the new index."""
    name = checked_name(key)
    if key not in UNFENCED:
        require_lease(folder, token)
    entry = _entry(folder, key)
    present = 0 if entry is None else entry["index"]
    if present != index:
        raise RefusedError(f"`{key}` has index {present}, not {index}")
    if key == LEASE:
        _check_lease(value, None if entry is None else entry["value"])
    fresh = {"value": value, "index": index + 1, "boot": _boot(), "since": _elapsed(), "wall": time.time()}
    folder.write(f"keys/{name}.json", json.dumps(fresh).encode())
    return index + 1


def require_lease(folder: Folder, token: int) -> None:
    """Refuse whoever does not hold the lease, or no longer."""
    entry = _entry(folder, LEASE)
    lease = None if entry is None else entry["value"]
    if entry is None or lease is None or lease["holder"] is None:
        raise RefusedError("nobody holds the lease", fenced=True)
    if lease["token"] != token:
        raise RefusedError(f"the lease has the token {lease['token']}, not {token}", fenced=True)
    if _age(entry) > lease["ttl"]:
        raise RefusedError("the lease has expired", fenced=True)


def _entry(folder: Folder, key: str) -> dict | None:
    name = f"keys/{checked_name(key)}.json"
    entry = folder.read_object(name)
    if entry is None:
        return None
    shapes = {"index": int, "boot": str, "since": int | float, "wall": int | float}
    whole = "value" in entry and all(isinstance(entry.get(part), kind) for part, kind in shapes.items())
    if not whole or (key == LEASE and not _is_lease(entry["value"])):
        raise WrongError("state", f"`{name}` in the state folder is damaged")
    return entry


def _is_lease(value: object) -> bool:
    return value is None or (
        isinstance(value, dict)
        and type(value.get("token")) is int
        and isinstance(value.get("holder", 0), str | dict | None)
        and type(value.get("ttl")) in {int, float}
    )


def _check_lease(value: object, before: dict | None) -> None:
    if value is None or not _is_lease(value):
        raise WrongError("input", "a lease is an object: token (int), holder (text, object, null), ttl (seconds)")
    if before is not None and value["token"] < before["token"]:
        raise RefusedError(f"the token of the lease is {before['token']} and never goes back")


def _age(entry: dict) -> float:
    if entry["boot"] == _boot():
        return max(0.0, _elapsed() - entry["since"])
    # Written before this boot, so at least as old as it is; a date that was set back cannot make it young again.
    return max(_elapsed(), time.time() - entry["wall"])


def _elapsed() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _boot() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()
