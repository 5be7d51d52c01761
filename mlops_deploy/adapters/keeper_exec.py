"""The keeper in the router's container, spoken with over one exec stream of the Docker SDK, wherever the engine is."""

import struct
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import requests.exceptions
from docker import APIClient
from docker.errors import DockerException

from mlops_deploy.adapters.keeper import KEEPER, KeeperClient
from mlops_deploy.errors import UnreachableError

_HEADER: Final = struct.Struct(">BxxxL")
_OUTPUT: Final = 1


class KeeperExec(KeeperClient):
    """A keeper in the running container `container`; its environment is the container's."""

    def __init__(self, api: APIClient, container: str, argv: Sequence[str] = KEEPER) -> None:
        super().__init__(lambda: _Exec(api, container, argv))


class _Exec:
    """The stream without the engine's frames; what the program says on standard error ends it as its reason."""

    def __init__(self, api: APIClient, container: str, argv: Sequence[str]) -> None:
        try:
            created = api.exec_create(container, list(argv), stdin=True)
            self._held: Any = api.exec_start(created["Id"], socket=True)
        except (DockerException, requests.exceptions.RequestException) as error:
            raise UnreachableError(f"no keeper can be started in `{container}`: {_first_line(error)}") from error
        # Over plain HTTP the SDK gives a file around the socket, over TLS and SSH the socket itself.
        self._socket: Any = getattr(self._held, "_sock", self._held)
        self._arrived = bytearray()
        self._parts: deque[bytes] = deque()

    def send(self, data: bytes, seconds: float) -> None:
        self._socket.settimeout(seconds)
        self._socket.sendall(data)

    def receive(self, seconds: float) -> bytes:
        """Wait for some output; the time is for each piece of a frame."""
        self._socket.settimeout(seconds)
        while not self._parts:
            piece = self._socket.recv(1 << 16)
            if not piece:
                return b""
            self._arrived += piece
            self._unframe()
        return self._parts.popleft()

    def close(self) -> None:
        for thing in (self._socket, self._held):
            with suppress(OSError):
                thing.close()

    def _unframe(self) -> None:
        while len(self._arrived) >= _HEADER.size:
            stream, size = _HEADER.unpack_from(self._arrived)
            end = _HEADER.size + size
            if len(self._arrived) < end:
                return
            text = bytes(self._arrived[_HEADER.size : end])
            del self._arrived[:end]
            if stream != _OUTPUT:
                raise ConnectionError(text.decode(errors="replace").strip()[-300:])
            if text:
                self._parts.append(text)


def _first_line(error: Exception) -> str:
    explanation = getattr(error, "explanation", None)
    return (str(explanation or error).splitlines() or [type(error).__name__])[0]
