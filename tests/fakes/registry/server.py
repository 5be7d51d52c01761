"""The HTTP side: sockets, bodies in all their forms, and the faults between the wire and the deed."""

import itertools
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.fakes.registry.content import Content
from tests.fakes.registry.faults import Fault
from tests.fakes.registry.messages import Answer, Asked, BrokenError, HangUpError, RefusalError
from tests.fakes.registry.personality import Personality, distribution
from tests.fakes.registry.routes import PIECE, Routes, place_of
from tests.fakes.registry.tokens import Tokens


@dataclass(slots=True, kw_only=True)
class _Planned:
    step: str
    fault: Fault
    where: Callable[[Asked], bool]
    skip: int
    times: int


_READS_BODY = frozenset({"patch", "put", "whole", "manifest-put", "token"})


class FakeRegistry:
    """A registry at `host`. `folder`: where blobs are kept, for tests of large ones; else in memory.

    `asked` has all requests, also those to the second port of a personality with a CDN (their step is `cdn`).
    """

    def __init__(
        self, personality: Personality | None = None, *, folder: Path | None = None, tls: ssl.SSLContext | None = None
    ):
        self.personality = personality or distribution()
        self.content = Content(folder)
        self.asked: list[Asked] = []
        self.errors: list[BaseException] = []
        """What went wrong in the double itself."""
        self._faults: list[_Planned] = []
        self._lock = threading.Lock()
        self._servers = tuple(_server(self, tls, cdn=cdn) for cdn in (False, True))
        self.host, self.cdn = (f"127.0.0.1:{server.server_address[1]}" for server in self._servers)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://{self.host}"
        self.tokens = Tokens(self.personality, f"{self.url}/token", self.host)
        self.routes = Routes(self.personality, self.content, self.tokens, self.url, f"{scheme}://{self.cdn}")

    @contextmanager
    def running(self) -> Iterator["FakeRegistry"]:
        """Meanwhile it answers."""
        threads = [threading.Thread(target=one.serve_forever, args=(0.02,)) for one in self._servers]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            for server, thread in zip(self._servers, threads, strict=True):
                server.shutdown()
                server.server_close()
                thread.join()
                server.end_connections()
            wrong = tuple(self.errors)  # what still works on a session stumbles over its end
            self.content.close()
        assert not wrong, wrong

    def fault(
        self,
        step: str,
        fault: Fault,
        *,
        times: int = 1,
        skip: int = 0,
        where: Callable[[Asked], bool] = lambda asked: True,
    ) -> None:
        """Do `fault` to requests of that step, `times` of them, after `skip` that go well; steps: see `routes`.

        Several faults take their turns in the order in which they were told.
        """
        with self._lock:
            self._faults.append(_Planned(step=step, fault=fault, where=where, skip=skip, times=times))

    def heal(self) -> None:
        """No faults any more."""
        with self._lock:
            self._faults.clear()

    def steps(self, *names: str) -> list[Asked]:
        """The requests of these steps."""
        with self._lock:
            return [one for one in self.asked if one.step in names]

    @property
    def story(self) -> list[tuple[str, int | None]]:
        """Step and status of each request."""
        with self._lock:
            return [(one.step, one.status) for one in self.asked]

    def uploaded(self) -> int:
        """Bytes of blobs that came, also those that were of no use."""
        return sum(one.received for one in self.steps("patch", "put", "whole"))

    def downloaded(self) -> int:
        """Bytes of blobs that went."""
        return sum(one.sent for one in self.steps("blob", "cdn") if one.status in {200, 206})

    def expire_tokens(self) -> None:
        """No token is good any more that was given before."""
        self.tokens.expire()

    def note(self, asked: Asked) -> Fault:
        """Take down a request; the fault that is its turn."""
        with self._lock:
            self.asked.append(asked)
            for planned in self._faults:
                if planned.step not in {asked.step, "*"} or not planned.times or not planned.where(asked):
                    continue
                if planned.skip:
                    planned.skip -= 1
                    continue
                planned.times -= 1
                return planned.fault
        return Fault()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def __init__(self, registry: FakeRegistry, handler: type[BaseHTTPRequestHandler]):
        super().__init__(("127.0.0.1", 0), handler)
        self.registry = registry
        self.connections: set[socket.socket] = set()
        self.numbers = itertools.count()
        self.to_reset: set[socket.socket] = set()

    def shutdown_request(self, request: Any) -> None:
        # An orderly end would come before the reset.
        if request in self.to_reset:
            self.to_reset.discard(request)
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError):
            self.registry.errors.append(error)

    def end_connections(self) -> None:
        for one in tuple(self.connections):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


def _server(registry: FakeRegistry, tls: ssl.SSLContext | None, *, cdn: bool) -> _Server:
    server = _Server(registry, _Cdn if cdn else _Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return server


class _Incoming:
    """The body of a request, by length or in chunks, with the fault that happens to it."""

    def __init__(self, handler: "_Handler", asked: Asked, fault: Fault):
        self._file, self._asked, self._fault = handler.rfile, asked, fault
        self._chunked = asked.headers.get("transfer-encoding", "").lower() == "chunked"
        self._length = int(asked.headers.get("content-length") or 0)
        self.ended = not self._chunked and not self._length

    def pieces(self) -> Iterator[bytes]:
        """To its promised end."""
        return self._fault.incoming(self._raw())

    def drain(self) -> None:
        """Read what nobody wanted."""
        for _ in self._raw():
            pass

    def _raw(self) -> Iterator[bytes]:
        for piece in self._chunks() if self._chunked else self._exactly(self._length):
            self._asked.received += len(piece)
            yield piece
        self.ended = True

    def _exactly(self, size: int) -> Iterator[bytes]:
        left = size
        while left:
            piece = self._file.read1(min(PIECE, left))  # type: ignore[attr-defined]
            if not piece:
                raise BrokenError
            left -= len(piece)
            yield piece

    def _chunks(self) -> Iterator[bytes]:
        while True:
            line = self._file.readline(1000)
            if not line.endswith(b"\n"):
                raise BrokenError
            size = int(line.partition(b";")[0], 16)
            yield from self._exactly(size)
            if not self._file.readline(1000).endswith(b"\n"):
                raise BrokenError
            if not size:
                return


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.number = next(self.server.numbers)
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        with suppress(OSError):
            super().finish()

    def log_message(self, *args: Any) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def do_GET(self) -> None:
        asked = self._asked()
        fault = self.server.registry.note(asked)
        body = _Incoming(self, asked, fault)
        try:
            answer = fault.instead(asked) or fault.outgoing(self._answer(asked, body))
            if not body.ended and not answer.early:
                body.drain()
            asked.status = answer.status
            self._send(asked, answer)
            if not body.ended:
                self._linger(asked)
        except BrokenError:
            self.close_connection = True
        except HangUpError as end:
            self._hang_up(reset=end.reset)

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - names that http.server looks for

    def _answer(self, asked: Asked, body: _Incoming) -> Answer:
        try:
            return self._do(asked, body)
        except RefusalError as refusal:
            answer = refusal.answer()
            answer.early = not body.ended
            return answer

    def _do(self, asked: Asked, body: _Incoming) -> Answer:
        if asked.step not in _READS_BODY:
            for _ in body.pieces():
                pass
        return self.server.registry.routes.answer(asked, body)

    def _asked(self) -> Asked:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query, keep_blank_values=True)) | {"*": url.query}
        step, repository, name = self._place(unquote(url.path), query)
        return Asked(
            step=step,
            method=self.command,
            path=url.path,
            query=query,
            repository=repository,
            name=name,
            headers={key.lower(): value for key, value in self.headers.items()},
            connection=self.number,
        )

    def _place(self, path: str, query: dict[str, str]) -> tuple[str, str, str]:
        return place_of(self.command, path, query)

    def _send(self, asked: Asked, answer: Answer) -> None:
        self.send_response(answer.status)
        for key, value in answer.headers.items():
            self.send_header(key, value)
        bodiless = self.command == "HEAD" or answer.status in {204, 304}
        chunked = answer.size is None and not bodiless
        if answer.size is not None:
            self.send_header("Content-Length", str(answer.size))
        elif chunked:
            self.send_header("Transfer-Encoding", "chunked")
        if answer.early:
            self.send_header("Connection", "close")
        self.end_headers()
        if bodiless:
            return
        for piece in answer.body:
            asked.sent += len(piece)  # beforehand: whoever gets the last piece may look at once
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _linger(self, asked: Asked) -> None:
        """Close so that the answer is read by a client that still sends: a close at once would reset it."""
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(5)
            while piece := self.connection.recv(PIECE):
                asked.received += len(piece)

    def _hang_up(self, *, reset: bool) -> None:
        self.close_connection = True
        with suppress(OSError):
            if reset:
                self.server.to_reset.add(self.connection)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                self.connection.shutdown(socket.SHUT_RDWR)


class _Cdn(_Handler):
    def _place(self, path: str, query: dict[str, str]) -> tuple[str, str, str]:
        repository, _, digest = path.removeprefix("/").rpartition("/")
        return "cdn", repository, digest

    def _do(self, asked: Asked, body: _Incoming) -> Answer:
        for _ in body.pieces():
            pass
        return self.server.registry.routes.cdn(asked)
