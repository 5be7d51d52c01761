"""A TCP proxy in front of a real server, that cuts, resets, delays and drips, and counts what goes through it."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Literal

Direction = Literal["up", "down"]
_PIECE = 2**16


@dataclass(slots=True, kw_only=True)
class _Cut:
    direction: Direction
    left: int
    reset: bool
    done: threading.Event


class FaultProxy:
    """Listens at `host` for `target`, both `host:port`. `up` is towards the target. Counts are over all connections."""

    def __init__(self, target: str):
        name, _, port = target.rpartition(":")
        self._target = (name, int(port))
        self._server = _Server(self)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.connections = 0
        self.bytes: dict[Direction, int] = {"up": 0, "down": 0}
        self.delay = 0.0
        """Seconds before each piece goes on."""
        self.drip: int | None = None
        """The most bytes in a piece."""
        self.refuses = False
        """New connections end at once."""
        self.most: int | None = None
        """When so many bytes have gone the way of `held`, the rest waits."""
        self.held: Direction = "up"
        self._cuts: list[_Cut] = []
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()

    @contextmanager
    def running(self) -> Iterator["FaultProxy"]:
        """Meanwhile it passes everything on."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()
            self.cut_all()
            self.heal()  # who holds something back waits for ever otherwise

    def cut(self, after: int, *, direction: Direction = "up", reset: bool = False) -> threading.Event:
        """End the connection in which, counted from now on, byte `after` would go that way; set when it has ended.

        Several cuts come one after the other, each counted from the one before.
        """
        cut = _Cut(direction=direction, left=after, reset=reset, done=threading.Event())
        with self._lock:
            self._cuts.append(cut)
        return cut.done

    def heal(self) -> None:
        """From now on everything goes well."""
        with self._lock:
            self._cuts.clear()
        self.delay, self.drip, self.refuses, self.most = 0.0, None, False, None

    def cut_all(self) -> None:
        """End all connections."""
        with self._lock:
            open_ = tuple(self._open)
        for one in open_:
            _end(one)

    def serve(self, client: socket.socket) -> None:
        """Pass one connection on until either side ends it."""
        with self._lock:
            self.connections += 1
        if self.refuses:
            return
        with suppress(OSError), socket.create_connection(self._target, timeout=5) as server:
            server.settimeout(None)
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open |= {client, server}
            back = threading.Thread(target=self._pump, args=(server, client, "down"), daemon=True)
            back.start()
            self._pump(client, server, "up")
            back.join()
            with self._lock:
                self._open -= {client, server}

    def _pump(self, source: socket.socket, sink: socket.socket, direction: Direction) -> None:
        try:
            while piece := source.recv(min(_PIECE, self.drip or _PIECE)):
                if self.delay:
                    time.sleep(self.delay)
                while direction == self.held and self.most is not None and self.bytes[direction] >= self.most:
                    time.sleep(0.01)
                passed, cut = self._passed(piece, direction)
                sink.sendall(passed)
                if cut is not None:
                    _end(source, reset=cut.reset)
                    _end(sink, reset=cut.reset)
                    cut.done.set()
                    return
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            _end(source)
            _end(sink)

    def _passed(self, piece: bytes, direction: Direction) -> tuple[bytes, _Cut | None]:
        with self._lock:
            cut = self._cuts[0] if self._cuts and self._cuts[0].direction == direction else None
            if cut is None or cut.left >= len(piece):
                if cut is not None:
                    cut.left -= len(piece)
                self.bytes[direction] += len(piece)
                return piece, None
            self._cuts.pop(0)
            self.bytes[direction] += cut.left
            return piece[: cut.left], cut


class _Server(ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, proxy: FaultProxy):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        # Not the orderly end that comes first otherwise: it would take the reset's place.
        self.close_request(request)


class _Handler(BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        self.server.proxy.serve(self.request)


def _end(one: socket.socket, *, reset: bool = False) -> None:
    with suppress(OSError):
        if reset:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # Who waits in `recv` wakes up, and then the socket is closed, which resets the connection.
            one.shutdown(socket.SHUT_RD)
        else:
            one.shutdown(socket.SHUT_RDWR)
