"""An agent's HTTP API on a Unix socket."""

import socket

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection


def connected(path: str, seconds: float | None) -> socket.socket:
    """A connection to the socket `path`; `OSError` when there is none."""
    one = socket.socket(socket.AF_UNIX)
    one.settimeout(seconds)
    try:
        one.connect(path)
    except OSError:
        one.close()
        raise
    return one


class UnixAdapter(HTTPAdapter):
    """Asks whoever listens at the socket `path`, whatever the address says."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._pool = _Pool(path)

    def get_connection_with_tls_context(self, *_: object, **__: object) -> HTTPConnectionPool:
        """The connections to the socket."""
        return self._pool

    def close(self) -> None:
        """End them."""
        self._pool.close()
        super().close()


class _Pool(HTTPConnectionPool):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def _new_conn(self) -> HTTPConnection:
        return _Connection(self._path)


class _Connection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        seconds = self.timeout if isinstance(self.timeout, (int, float)) else None
        self.sock = connected(self._path, seconds)
