"""A web server of any behaviour, which remembers all that it was asked."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, kw_only=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def authorization(self) -> str | None:
        return self.headers.get("Authorization")


@dataclass(frozen=True, kw_only=True)
class Response:
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


Answering = Callable[[Request], Response]


@dataclass
class Recording:
    """A running server; `asked` has every request, `connections` counts also those that asked nothing."""

    port: int = 0
    asked: list[Request] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        """Where it is reached without TLS."""
        return f"http://127.0.0.1:{self.port}"

    def text(self) -> str:
        """All that arrived."""
        return "\n".join(f"{one.method} {one.path} {dict(one.headers)} {one.body!r}" for one in self.asked)


@contextmanager
def recording(
    answer: Answering, *, address: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> Iterator[Recording]:
    """A server that answers by `answer` while the context lasts."""
    made = Recording()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            request = Request(
                method=self.command, path=self.path, headers=dict(self.headers), body=self.rfile.read(length)
            )
            made.asked.append(request)
            response = answer(request)
            self.send_response(response.status)
            for name, value in response.headers:
                self.send_header(name, value)
            if "content-length" not in {name.lower() for name, _ in response.headers}:
                self.send_header("Content-Length", str(len(response.body)))
            self.end_headers()
            if self.command != "HEAD":  # the client would take it for the next answer
                self.wfile.write(response.body)

        do_POST = do_PUT = do_PATCH = do_HEAD = do_GET  # noqa: N815 - as `http.server` calls them

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

        def get_request(self):
            got = super().get_request()
            made.connections += 1
            return got

        def handle_error(self, *_: object) -> None:
            pass  # clients that do not trust us hang up

    server = Server((address, 0), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
