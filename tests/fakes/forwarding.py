"""A proxy for plain HTTP that alone knows where a name leads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class Forwarding:
    """A running proxy; `asked` has the URL of every request."""

    url: str
    asked: list[str] = field(default_factory=list)


@contextmanager
def forwarding(name: str, to: str) -> Iterator[Forwarding]:
    """Ask `to` (`HOST:PORT`) what is asked of `http://NAME`, and nobody for anything else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append(self.path)
            place = urlsplit(self.path)
            if (place.scheme, place.netloc) != ("http", name):
                self.send_error(502)
                return
            asking = HTTPConnection(to, timeout=20)
            path = place._replace(scheme="", netloc="").geturl()
            asking.request(self.command, path, headers=dict(self.headers))
            got = asking.getresponse()
            self.send_response(got.status)
            for key, value in got.getheaders():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(got.read())
            asking.close()

        do_HEAD = do_GET  # noqa: N815 - as `http.server` calls them

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Forwarding(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
