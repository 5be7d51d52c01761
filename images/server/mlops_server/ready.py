"""`python -m mlops_server.ready`: does this very model answer? One line, exit code 0 or 1. Standard library only.

Four levels, the first that fails is named: the process answers, the endpoint says the model is ready, the model has the
identity that the environment names, and every golden request (`GOLDEN`, a JSON list of `{request, expect, tolerance}`)
gets its expected answer. All of it together takes at most `READY_TIMEOUT` seconds (default 30).
"""

import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlops_server.choice import SHORT, ChoiceError, choose
from mlops_server.golden import difference

_TIMEOUT: Final = 30.0
_LONGEST: Final = 3600.0
_OK: Final = 200


class NotReadyError(Exception):
    """Why the model is not ready, by level."""

    def __init__(self, level: str, reason: str) -> None:
        super().__init__(f"not ready ({level}): {reason}")


def check(environ: Mapping[str, str]) -> str:
    """Check all levels and say what was checked; raise `NotReadyError` at the first that fails."""
    name, version = _expected(environ)
    goldens = _goldens(environ.get("GOLDEN"))
    server = _Server(port=int(_number(environ, "PORT", 8080, (1 << 16) - 1)), end=_end(environ))
    base = f"/v2/models/{name}"
    status, _ = server.ask(f"{base}/ready")
    if status != _OK:
        raise NotReadyError("endpoint", f"`{base}/ready` answers {status}")
    status, metadata = server.ask(base)
    if status != _OK or metadata.get("versions") != [version]:
        raise NotReadyError("identity", f"expected version {version}, it serves {metadata.get('versions')}")
    for number, golden in enumerate(goldens, 1):
        _check_golden(server, base, version, golden, number)
    return f"ready: {name}@{version}, {_checked(len(goldens))}"


def _checked(count: int) -> str:
    if not count:
        return "golden requests: not checked"
    return "1 golden request" if count == 1 else f"{count} golden requests"


def _expected(environ: Mapping[str, str]) -> tuple[str, str]:
    """Name and version from the environment alone if it has both, otherwise from the volume as the server reads it."""
    name = environ.get("MODEL_NAME") or (environ.get("MODEL") or "").partition("@")[0]
    identity = environ.get("MODEL_ID") or Path(environ.get("MODEL_PATH") or "").name
    if name and identity:
        return name, identity[:SHORT]
    try:
        choice = choose(environ)
    except ChoiceError as error:
        raise NotReadyError("identity", str(error).splitlines()[0]) from error
    return choice.name, choice.version


def _goldens(text: str | None) -> list[dict[str, Any]]:
    try:
        goldens = json.loads(text or "[]")
    except ValueError as error:
        raise NotReadyError("golden", f"`GOLDEN` is not JSON: {error}") from error
    if not isinstance(goldens, list) or not all(_is_golden(golden) for golden in goldens):
        raise NotReadyError("golden", "`GOLDEN` is not a list of objects with `request` and `expect`")
    return goldens


def _is_golden(golden: object) -> bool:
    return isinstance(golden, dict) and {"request", "expect"} <= golden.keys()


def _check_golden(server: "_Server", base: str, version: str, golden: Mapping[str, Any], number: int) -> None:
    status, answer = server.ask(f"{base}/infer", json.dumps(golden["request"]).encode())
    if status != _OK:
        raise NotReadyError("golden", f"request {number} is answered with {status}: {answer.get('error', '')}")
    if answer.get("model_version") != version:
        raise NotReadyError("identity", f"expected version {version}, {answer.get('model_version')} answers")
    if problem := difference(golden["expect"], answer.get("outputs", []), float(golden.get("tolerance") or 0.0)):
        raise NotReadyError("golden", f"request {number}: {problem}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Server:
    """The local server, over a bare socket: an HTTP library doubles the time of the check."""

    port: int
    end: float

    def ask(self, path: str, body: bytes | None = None) -> tuple[int, dict[str, Any]]:
        """One HTTP exchange: status and JSON."""
        head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body or b'')}\r\n\r\n"
        try:
            return _parse(self._exchange(head.encode() + (body or b"")))
        except OSError as error:
            raise NotReadyError("process", f"port {self.port} does not answer: {error}") from error

    def _exchange(self, request: bytes) -> bytes:
        answer = bytearray()
        with socket.create_connection(("127.0.0.1", self.port), self._left()) as connection:
            connection.settimeout(self._left())
            connection.sendall(request)
            while part := self._receive(connection):
                answer += part
        return bytes(answer)

    def _receive(self, connection: socket.socket) -> bytes:
        """The next part; each may take only what is left of the whole time, however slowly they come."""
        connection.settimeout(self._left())
        return connection.recv(1 << 16)

    def _left(self) -> float:
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left


def _end(environ: Mapping[str, str]) -> float:
    return time.monotonic() + _number(environ, "READY_TIMEOUT", _TIMEOUT, _LONGEST)


def _number(environ: Mapping[str, str], name: str, default: float, most: float) -> float:
    text = environ.get(name)
    try:
        number = float(text) if text else default
    except ValueError:
        number = 0.0
    if not 0 < number <= most:
        raise NotReadyError("environment", f"`{name}` is `{text}`: expected a number above 0, at most {most:g}")
    return number


def _parse(answer: bytes) -> tuple[int, dict[str, Any]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    try:
        status = int(head.split(b" ", 2)[1])
    except (IndexError, ValueError) as error:
        raise NotReadyError("process", "the port is not answered by an HTTP server") from error
    try:
        content = json.loads(body)
    except ValueError:
        content = {}
    return status, content if isinstance(content, dict) else {}


def main() -> int:
    """Print the one line."""
    try:
        sys.stdout.write(check(os.environ) + "\n")
    except NotReadyError as error:
        sys.stdout.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
