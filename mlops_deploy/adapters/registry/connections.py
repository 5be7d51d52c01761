"""Connections that see what a registry says while it is still being sent to, and that notice when it stops reading."""

import errno
import http.client
import select
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.proxy import connection_requires_http_tunnel

from mlops_deploy.adapters.registry.watch import Watch

_TICK: Final = 1.0
_HEAD: Final = 1.0
"""Seconds beyond the silence before an answer that its head may take."""


class _WholeHead:
    """The head of an answer as it comes; the end of the stream is not taken for the end of the head."""

    def __init__(self, file: Any) -> None:  # noqa: ANN401 - as in `http.client`
        self._file = file
        self._lines = 0

    def readline(self, limit: int) -> bytes:
        line: bytes = self._file.readline(limit)
        self._lines += 1
        if not line.endswith(b"\n") and len(line) < limit and (line or self._lines > 1):
            raise ConnectionResetError(errno.ECONNRESET, "it broke off within an answer")
        return line

    def close(self) -> None:
        self._file.close()


class _Answer(http.client.HTTPResponse):
    def begin(self) -> None:
        file: Any = self.fp
        head: Any = _WholeHead(file)
        self.fp = head
        try:
            super().begin()
        finally:
            if self.fp is head:
                self.fp = file
        if not self.headers.get("Content-Length", "0").strip().isdigit():
            raise http.client.HTTPException("the length of its answer is no number")


class _Sending(HTTPConnection):
    """What both kinds have in common; `patience` is how many seconds the other side may take nothing at all."""

    response_class = _Answer
    patience = 60.0
    _has_answered = False

    def begin(self, method: str, target: str, headers: Mapping[str, str]) -> None:
        """Send the head of a request; the body follows by `send`."""
        self.putrequest(method, target, skip_accept_encoding=True)
        for name, value in headers.items():
            self.putheader(name, value)
        self.endheaders()

    def answer(self, silence: float) -> http.client.HTTPResponse:
        """The head of the answer to what was begun, waiting `silence` seconds for its next byte."""
        if self.sock is None:
            raise ConnectionResetError("the connection was closed")
        self.sock.settimeout(silence)
        self._has_answered = True
        with Watch(silence + _HEAD, self.cut):
            return http.client.HTTPConnection.getresponse(self)

    def send(self, data: Any) -> None:  # noqa: ANN401 - as `http.client` declares it
        """Send all of `data`; raises `BrokenPipeError` when the other side has answered already, to be read then."""
        if self.sock is None:
            self.connect()
        if self._may_hear and _readable(self.sock):
            raise BrokenPipeError("answered before the end")
        left, waited, tick = memoryview(data).cast("B"), 0.0, min(_TICK, self.patience)
        self.sock.settimeout(tick)
        while left:
            try:
                left = left[self.sock.send(left) :]
                waited = 0.0
            except TimeoutError:
                waited += tick
                if _readable(self.sock):
                    raise BrokenPipeError("answered before the end") from None
                if waited >= self.patience:
                    raise TimeoutError(f"it has taken nothing for {self.patience:g} s") from None

    def getresponse(self) -> Any:  # noqa: ANN401 - as in urllib3
        """See `urllib3.connection`."""
        with Watch((self.timeout or self.patience) + _HEAD, self.cut):
            found = super().getresponse()
        self._has_answered = True
        return found

    def connect(self) -> None:
        """See `urllib3.connection`."""
        self._has_answered = False
        super().connect()

    def cut(self) -> None:
        """End whatever another thread waits for on this connection."""
        if (sock := self.sock) is not None:
            with suppress(OSError, ValueError):
                # That of a TLS socket would take the encryption away under the other thread.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    @property
    def _may_hear(self) -> bool:
        """Whether bytes to read can only be an answer: a new TLS connection gets session tickets first."""
        return self._has_answered or not isinstance(self, HTTPSConnection)


class PlainConnection(_Sending):
    """Over TCP."""


class TlsConnection(_Sending, HTTPSConnection):
    """Over TLS."""


class PlainPool(HTTPConnectionPool):
    """Lends its connections for bodies that are sent bit by bit."""

    ConnectionCls: Any = PlainConnection

    def lend(self, connect: float) -> Any:  # noqa: ANN401 - one of ours, as `ConnectionCls` says
        """A connection that is up, after at most `connect` seconds of silence; to be closed or given back."""
        connection = self._get_conn()
        connection.timeout = connect
        try:
            if self._tunnels and connection.is_closed:
                self._prepare_proxy(connection)
            if connection.is_closed:
                connection.connect()
        except BaseException:
            connection.close()
            raise
        return connection

    def give_back(self, connection: Any) -> None:  # noqa: ANN401
        """The connection may be used again, or is closed."""
        self._put_conn(connection)

    def absolute_form(self) -> bool:
        """Whether requests name the whole URL, for a proxy that is no tunnel."""
        return self.proxy is not None and not self._tunnels

    @property
    def _tunnels(self) -> bool:
        return connection_requires_http_tunnel(self.proxy, self.proxy_config, self.scheme)


class TlsPool(HTTPSConnectionPool, PlainPool):
    """The same over TLS."""

    ConnectionCls = TlsConnection


def _readable(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
