"""The protocol: one request a line, one answer a line."""

import json
import os
import select
import sys
from collections.abc import Iterator

from mlops_keeper import journals, keys, routes
from mlops_keeper.folder import Folder
from mlops_keeper.proxy import Proxy
from mlops_keeper.view import view
from mlops_keeper.wrong import RefusedError, WrongError

VERSION = 1
LIMIT = 8 << 20
"""Bytes of one request."""

IDLE = 3600.0
"""Seconds without a request after which nobody is there any more."""


class Keeper:
    """The requests, each of them a method: fields in, fields of the answer out."""

    def __init__(self, state: str, run: str) -> None:
        self.folder = Folder(os.path.abspath(state))
        self.proxy = Proxy(run)

    def heal(self) -> None:
        """Make the map in force, and the one on disk, what is committed: whoever committed may have died meanwhile."""
        value = routes.map_value(routes.read(self.folder))
        if self.proxy.route_value() not in {value, None} or not self._on_disk(value):
            with self.folder:
                self._apply(routes.read(self.folder))

    def observed(self, _request: dict) -> dict:
        """The committed route, and what the proxy sees and counts."""
        with self.folder:
            committed = routes.read(self.folder)
            seen = view(self.proxy)
        route = {"share_b": committed["share_b"], "closed": committed["closed"]}
        return {"route": route, "generation": committed["generation"], "token": committed["token"], **seen}

    def commit(self, request: dict) -> dict:
        """Write the route, and tell the proxy."""
        route, generation = _field(request, "route", dict), _field(request, "generation", int)
        share, closed = _field(route, "share_b", int), _field(route, "closed", bool)
        if not 0 <= share <= routes.WHOLE:
            raise WrongError("input", f"`share_b` is 0 to {routes.WHOLE}")
        token = _field(request, "token", int)
        with self.folder:
            keys.require_lease(self.folder, token)
            present = routes.read(self.folder)["generation"]
            if present != generation:
                raise RefusedError(f"the route has generation {present}, not {generation}")
            fresh = {"share_b": share, "closed": closed, "generation": generation + 1, "token": token}
            routes.write(self.folder, fresh)
            self._apply(fresh)
        return {"generation": generation + 1}

    def ask(self, request: dict) -> dict:
        """One request through the proxy."""
        from mlops_keeper.probe import ask  # noqa: PLC0415 - its libraries cost as much as all the rest

        slot = request.get("slot")
        if slot not in ("a", "b", None):
            raise WrongError("input", "`slot` is a, b or null")
        timeout = float(_field(request, "timeout", int | float))
        return ask(self.proxy.run, slot, _field(request, "path", str), request.get("body"), timeout)

    def get(self, request: dict) -> dict:
        """One value."""
        return keys.get(self.folder, _field(request, "key", str))

    def keys(self, request: dict) -> dict:
        """Names of keys."""
        return {"names": keys.names(self.folder, _field(request, "prefix", str))}

    def put(self, request: dict) -> dict:
        """Write one value."""
        key, index, token = _field(request, "key", str), _field(request, "index", int), _field(request, "token", int)
        with self.folder:
            return {"index": keys.put(self.folder, key, request.get("value"), index, token)}

    def append(self, request: dict) -> dict:
        """Append one line to a journal."""
        journal, line = _field(request, "journal", str), _field(request, "line", str)
        position, token = _field(request, "position", int), _field(request, "token", int)
        with self.folder:
            keys.require_lease(self.folder, token)
            return {"index": journals.append(self.folder, journal, line, position)}

    def journals(self, _request: dict) -> dict:
        """Names of journals."""
        return {"names": journals.names(self.folder)}

    def read(self, request: dict) -> dict:
        """The lines of a journal."""
        lines, damaged = journals.read(self.folder, _field(request, "journal", str))
        return {"lines": lines, "damaged": damaged}

    def configure(self, request: dict) -> dict:
        """Put a configuration in force."""
        from mlops_keeper.configuration import configure  # noqa: PLC0415 - as for `ask`

        with self.folder:
            changed = configure(self.folder, self.proxy, _field(request, "config", str))
            self._apply(routes.read(self.folder))
        return {"changed": changed}

    def _apply(self, committed: dict) -> None:
        value = routes.map_value(committed)
        routes.write_map(self.folder, value)
        self.proxy.set_route(value)

    def _on_disk(self, value: int) -> bool:
        return self.folder.read(routes.MAP) == f"{routes.KEY} {value}\n".encode()


OPS = ("observed", "commit", "ask", "get", "keys", "put", "append", "journals", "read", "configure")


def serve(state: str, run: str) -> int:
    """Answer requests until nobody asks any more; the exit code."""
    os.umask(0o077)
    keeper = Keeper(state, run)
    try:
        for line in _lines():
            _send(answer(keeper, line))
    except (BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        return 0
    return 0


def answer(keeper: Keeper, line: bytes) -> dict:
    """The answer to one line, whatever it holds."""
    request_id = None
    try:
        request = _parsed(line)
        request_id = request.get("id")
        op = _checked_op(request)
        keeper.heal()
        return {"id": request_id, "ok": getattr(keeper, op)(request)}
    except RefusedError as refusal:
        return {"id": request_id, "refused": {"reason": refusal.reason, "fenced": refusal.fenced}}
    except WrongError as wrong:
        error = {"kind": wrong.kind, "message": wrong.message, "lines": wrong.lines}
    except UnicodeError:
        error = {"kind": "input", "message": "a text holds half of a surrogate pair", "lines": ()}
    except Exception as failure:  # noqa: BLE001 - a fault of ours is an answer too
        error = {"kind": "state", "message": f"{type(failure).__name__}: {failure}", "lines": ()}
    return {"id": request_id, "error": error}


def _checked_op(request: dict) -> str:
    if request.get("keeper") != VERSION:
        raise WrongError("version", f"this router's keeper speaks version {VERSION} of its protocol")
    op = request.get("op")
    if op not in OPS:
        raise WrongError("input", f"there is no request `{str(op)[:80]}`")
    return op


def _parsed(line: bytes) -> dict:
    if len(line) >= LIMIT:
        raise WrongError("input", f"a request has less than {LIMIT >> 20} MiB")
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise WrongError("input", "a request is one line of JSON") from error
    if not isinstance(request, dict):
        raise WrongError("input", "a request is a JSON object")
    return request


def _field(request: dict, name: str, kind: type) -> object:
    value = request.get(name)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise WrongError("input", f"`{name}` is missing or of another type")
    return value


def _lines() -> Iterator[bytes]:
    """The requests, of one that is too long the beginning, until the stream ends or nobody has asked for an hour."""
    waiting = bytearray()
    while select.select((0,), (), (), IDLE)[0]:
        part = os.read(0, 1 << 16)
        if not part:
            return
        waiting += part
        if b"\n" in part:
            *whole, rest = waiting.split(b"\n")
            waiting = rest
            yield from whole
        del waiting[LIMIT:]


def _send(answer_: dict) -> None:
    sys.stdout.buffer.write(json.dumps(answer_).encode() + b"\n")
    sys.stdout.buffer.flush()
