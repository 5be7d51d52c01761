"""A program in a running task, spoken with over one WebSocket of the Nomad API: only that API must be reachable."""

import base64
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import websocket

from mlops_deploy.adapters.nomad.client import NomadClient
from mlops_deploy.adapters.nomad.errors import forbidden, silence
from mlops_deploy.adapters.nomad.session import PATIENCE, headers, is_loopback
from mlops_deploy.adapters.nomad.settings import Cluster
from mlops_deploy.adapters.nomad.unix import connected
from mlops_deploy.errors import UnreachableError

_CHUNK: Final = 64 << 10
_LAST_WORDS: Final = 0.5
"""Seconds of silence after which what a program says on standard error is told, although it has not ended."""

_SHOWN: Final = 300


def exec_stream(client: NomadClient, alloc_id: str, task: str, argv: Sequence[str]) -> "Execution":
    """Start `argv` in a task; what it says on standard error, or its end by an error, is raised by `receive`.

    `UnreachableError` when no such connection can be made.
    """
    client.check()
    return Execution(client.cluster, f"client/allocation/{alloc_id}/exec", {"task": task, "command": _json(list(argv))})


class Execution:
    """A program in a task, as a stream of the keeper's kind; `code` is what it ended with, None until that is known.

    A connection that ends says nothing of how the program did. Nor does a zero without a word: Nomad's Docker driver
    (2.0.5) looks whether a program runs as soon as the engine has taken the request, and takes one that the engine has
    not started yet for one that has ended well.
    """

    def __init__(self, cluster: Cluster, path: str, what: dict[str, str]) -> None:
        self._cluster = cluster
        self._path = path
        self._socket: Any = _connected(cluster, f"{path}?{urlencode({**what, **_where(cluster)}, quote_via=quote)}")
        self._ended = False
        self.code: int | None = None

    def send(self, data: bytes, seconds: float) -> None:
        """See `adapters.keeper.Stream`."""
        self._socket.settimeout(seconds)
        for start in range(0, len(data), _CHUNK):
            self._put({"data": base64.b64encode(data[start : start + _CHUNK]).decode()})

    def receive(self, seconds: float) -> bytes:
        """See `adapters.keeper.Stream`; the time is for each piece of a frame."""
        while not self._ended:
            frame = self._frame(seconds)
            if out := _data(frame, "stdout"):
                return out
            if err := _data(frame, "stderr"):
                raise ConnectionError(self._all_of(err))
            self._end(frame)
        return b""

    def close(self) -> None:
        """End the program's input, so that it ends too, and the connection."""
        with suppress(OSError):
            self._put({"close": True})
        with suppress(OSError, websocket.WebSocketException):
            self._socket.close(timeout=1)
        self._socket.shutdown()  # the library leaves it open when the other end was the first to close

    def _put(self, operation: dict[str, str | bool]) -> None:
        self._done(lambda: self._socket.send(_json({"stdin": operation})))

    def _frame(self, seconds: float) -> dict[str, Any]:
        self._socket.settimeout(seconds)
        opcode, data = self._done(self._socket.recv_data)
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            self._ended = True
            self._refuse(data[2:].decode(errors="replace"))
            return {}
        try:
            frame = json.loads(data)
        except ValueError as error:
            raise ConnectionError(f"cannot be understood: {data[:100]!r}") from error
        return frame if isinstance(frame, dict) else {}

    def _refuse(self, reason: str) -> None:
        if "Permission denied" in reason:
            raise forbidden(self._cluster, "GET", self._path, reason)
        if reason:
            raise ConnectionError(reason)

    def _end(self, frame: dict[str, Any]) -> None:
        if frame.get("exited"):
            self._ended = True
            self.code = (frame.get("result") or {}).get("exit_code") or 0  # Nomad leaves a zero out
            if self.code:
                raise ConnectionError(f"it has ended with exit code {self.code}")

    def _all_of(self, err: bytes) -> str:
        """What else comes on standard error, as long as it comes quickly."""
        with suppress(OSError):
            until = time.monotonic() + _LAST_WORDS
            while not self._ended and time.monotonic() < until:
                frame = self._frame(_LAST_WORDS)
                err += _data(frame, "stderr")
                self._end(frame)
        return err.decode(errors="replace").strip()[-_SHOWN:] or "it has ended"

    @staticmethod
    def _done(deed: Callable[[], Any]) -> Any:  # noqa: ANN401  # what an untyped library gives
        try:
            return deed()
        except websocket.WebSocketTimeoutException as error:
            raise TimeoutError("its time is over") from error
        except websocket.WebSocketException as error:
            raise ConnectionError(str(error) or "the connection is lost") from error


def _connected(cluster: Cluster, resource: str) -> object:
    url = f"ws{cluster.address.removeprefix('http')}/v1/{resource}"
    options: dict[str, Any] = {"header": _header(cluster), "redirect_limit": 0, "skip_utf8_validation": True}
    host = urlsplit(cluster.address).hostname or ""
    if is_loopback(host):
        options["http_no_proxy"] = ["*"]
    try:
        if cluster.socket:
            options["socket"] = connected(cluster.socket, PATIENCE)
        if url.startswith("wss:"):
            options["sslopt"] = {"context": cluster.tls(), "server_hostname": cluster.server_name}
        return websocket.create_connection(url, timeout=PATIENCE, **options)
    except websocket.WebSocketBadStatusException as error:
        raise _no_way(cluster, f"status {error.status_code}") from error
    except (OSError, websocket.WebSocketTimeoutException, websocket.WebSocketAddressException) as error:
        raise silence(cluster, error) from error
    except websocket.WebSocketConnectionClosedException as error:
        raise silence(cluster, ConnectionResetError(str(error))) from error
    except websocket.WebSocketException as error:
        raise _no_way(cluster, str(error)) from error


def _no_way(cluster: Cluster, why: str) -> UnreachableError:
    return UnreachableError(
        f"no program can be spoken with through `{cluster.place}`: {cluster.redacted(why)}",
        hint="let WebSocket connections pass the proxy in between, or set `NOMAD_ADDR` to an agent itself",
    )


def _header(cluster: Cluster) -> dict[str, str]:
    if cluster.user is None:
        return headers(cluster)
    basic = base64.b64encode(cluster.user.reveal().encode()).decode()
    return headers(cluster) | {"Authorization": f"Basic {basic}"}


def _where(cluster: Cluster) -> dict[str, str]:
    always = {"namespace": cluster.namespace, "tty": "false"}
    return always if cluster.region is None else always | {"region": cluster.region}


def _data(frame: dict[str, Any], name: str) -> bytes:
    return base64.b64decode((frame.get(name) or {}).get("data") or "")


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
