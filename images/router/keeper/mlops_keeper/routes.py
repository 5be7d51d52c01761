"""The committed route on disk, and the map that the proxy loads when it starts."""

import json

from mlops_keeper.folder import Folder
from mlops_keeper.wrong import WrongError

FILE = "route.json"
MAP = "route.map"
KEY = "share_b"
WHOLE = 10_000

NEW = {"share_b": 0, "closed": True, "generation": 0, "token": 0}
"""A new router is closed until a first release opens it."""


def read(folder: Folder) -> dict:
    """Share, closed, generation and token as committed."""
    found = folder.read_object(FILE)
    if found is None:
        # A container runs before its first program has laid out the folders: whoever asks may ask again.
        raise WrongError("silent", f"there is no `{FILE}`: the router has not been started on this state folder")
    try:
        return checked(found)
    except ValueError as wrong:
        raise WrongError("state", f"`{FILE}` in the state folder is damaged") from wrong


def checked(route: dict) -> dict:
    """`route`; raise `ValueError` when it is none."""
    numbers = all(type(route.get(name)) is int for name in ("share_b", "generation", "token"))
    if not numbers or type(route.get("closed")) is not bool or not 0 <= route["share_b"] <= WHOLE:
        raise ValueError(route)
    return route


def write(folder: Folder, committed: dict) -> None:
    """Commit: from here on this is the route, whatever dies."""
    folder.write(FILE, json.dumps(committed).encode())


def advance(folder: Folder, fresh: dict) -> bool:
    """Take over a route that was committed elsewhere, under the lock; False for one that is not newer.

    `created` tells two lives of the same ledger apart, whose generations begin anew.
    """
    present = NEW if folder.read(FILE) is None else read(folder)
    if _age(fresh) <= _age(present):
        return False
    write(folder, fresh)
    return True


def _age(route: dict) -> tuple[int, int]:
    return route.get("created", 0), route["generation"]


def map_value(route: dict) -> int:
    """The route as one number, so that it changes at once: the share, or below zero when closed."""
    return -1 - route["share_b"] if route["closed"] else route["share_b"]


def as_route(value: int) -> dict:
    """The route that a number of the map stands for."""
    return {"share_b": -1 - value, "closed": True} if value < 0 else {"share_b": value, "closed": False}


def write_map(folder: Folder, value: int) -> None:
    """Say `value` in the map file. `init` makes it anew from the route, so that it need not survive a power cut."""
    data = f"{KEY} {value}\n".encode()
    if folder.read(MAP) != data:
        folder.write(MAP, data, durable=False)
