"""A proxy for plain HTTP that alone knows where a name leads."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from urllib.parse import urlsplit

from tests.fakes.recording import Recording, Request, Response, recording


@contextmanager
def forwarding(name: str, to: str) -> Iterator[Recording]:
    """Ask `to` (`HOST:PORT`) what is asked of `http://NAME`, and nobody for anything else."""

    def answer(request: Request) -> Response:
        place = urlsplit(request.path)
        if (place.scheme, place.netloc) != ("http", name):
            return Response(status=502)
        asking = HTTPConnection(to, timeout=20)
        asking.request(request.method, place._replace(scheme="", netloc="").geturl(), headers=dict(request.headers))
        got = asking.getresponse()
        body = got.read()
        asking.close()
        return Response(status=got.status, headers=tuple(got.getheaders()), body=body)

    with recording(answer) as made:
        yield made
