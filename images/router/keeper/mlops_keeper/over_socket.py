"""HTTP over a socket of this machine."""

import http.client
import socket


class OverSocket(http.client.HTTPConnection):
    """A connection to the socket at `path`; no single wait takes longer than `timeout` seconds."""

    def __init__(self, path: str, timeout: float | None = None) -> None:
        super().__init__("router", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect, for the base class."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
