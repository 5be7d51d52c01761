"""Registries behind the proxy that the environment names."""

import socket
import threading
from base64 import b64encode
from contextlib import contextmanager, suppress

import pytest

from mlops_deploy.adapters.registry.hosts import Origin
from mlops_deploy.adapters.registry.proxies import proxy_for
from mlops_deploy.errors import UnreachableError, UnusableInputError
from tests.fakes.recording import Response, recording
from tests.integration.nomad_tls import Certificates
from tests.unit.adapters.registry.network import SCOPE, channel_to
from tests.unit.adapters.registry.test_trust import fine, serving

PASSWORD = "c4nary:p@ss"
PROXY_BASIC = "Basic " + b64encode(f"ann:{PASSWORD}".encode()).decode()


@contextmanager
def tunnelling(to, require=PROXY_BASIC):
    """A proxy for CONNECT that leads everything to the port `to`; gives its port and the heads that it got."""
    heads, clients = [], []
    server = socket.create_server(("127.0.0.1", 0))

    def pump(source, sink):
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def serve():
        with suppress(OSError):
            while True:
                client, _ = server.accept()
                clients.append(client)
                head = b""
                while b"\r\n\r\n" not in head and (data := client.recv(4096)):
                    head += data
                heads.append(head.decode())
                if require and f"Proxy-Authorization: {require}\r\n".lower() not in head.decode().lower():
                    client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                    client.close()
                    continue
                client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                upstream = socket.create_connection(("127.0.0.1", to))
                back = threading.Thread(target=pump, args=(upstream, client), daemon=True)
                back.start()
                pump(client, upstream)
                back.join(5)
                client.close()
                upstream.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1], heads
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        for client in clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def ask(host, environ, path="/v2/team/app/tags/list", **more):
    channel = channel_to(host, environ, **more)
    channel.request("GET", path, step="a test", scope=SCOPE, expect={200}).read()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("tls") / "tls", names="DNS:r.test")


def environ(tmp_path, certificates, **more):
    return {"HOME": str(tmp_path), "SSL_CERT_FILE": str(certificates.authority), **more}


def test_a_registry_is_asked_through_a_tunnel_and_its_name_is_left_to_the_proxy(tmp_path, certificates):
    with recording(fine, tls=serving(certificates)) as registry, tunnelling(registry.port) as (port, heads):
        proxy = f"http://ann:c4nary%3Ap%40ss@127.0.0.1:{port}"
        ask("r.test", environ(tmp_path, certificates, HTTPS_PROXY=proxy))
        assert heads[0].startswith("CONNECT r.test:443 ")
        assert "Proxy-Authorization" not in registry.text()
        assert len(registry.asked) == 1


def test_a_proxy_that_does_not_let_us_through(tmp_path, certificates):
    with recording(fine) as registry, tunnelling(registry.port) as (port, _):
        proxy = f"http://ann:{PASSWORD.replace('@', '%40')}x@127.0.0.1:{port}"
        with pytest.raises(UnreachableError) as caught:
            ask("r.test", environ(tmp_path, certificates, https_proxy=proxy))
        assert registry.asked == []
    told = f"{caught.value}{caught.value.hint}{caught.value.detail}"
    assert "c4nary" not in told
    assert "HTTPS_PROXY" in told


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1:1/", "https://169.254.169.254/", "https://10.0.0.1/", "https://localhost/"]
)
def test_addresses_are_looked_at_also_behind_a_proxy(tmp_path, certificates, url):
    moved = Response(status=307, headers=(("Location", url),))
    with (
        recording(lambda _: moved, tls=serving(certificates)) as registry,
        tunnelling(registry.port, "") as (port, heads),
    ):
        with pytest.raises(UnusableInputError):
            ask("r.test", environ(tmp_path, certificates, HTTPS_PROXY=f"127.0.0.1:{port}"))
        assert len(heads) == 1


def test_plain_http_goes_to_the_proxy_whole(tmp_path):
    with recording(fine) as proxy:
        url = f"http://ann:c4nary%3Ap%40ss@127.0.0.1:{proxy.port}"
        found = {"HOME": str(tmp_path), "http_proxy": url}
        ask("r.test:5000", found, base="http://r.test:5000", insecure=frozenset({"r.test"}))
        (asked,) = proxy.asked
    assert asked.path == "http://r.test:5000/v2/team/app/tags/list"
    assert asked.headers["Host"] == "r.test:5000"
    assert asked.headers["proxy-authorization"] == PROXY_BASIC


@pytest.mark.parametrize(
    ("url", "no_proxy", "expected"),
    [
        ("https://r.test", "", True),
        ("https://r.test", "r.test", False),
        ("https://a.r.test", "r.test", False),
        ("https://a.r.test", ".r.test", False),
        ("https://a.r.test", "*.r.test", False),
        ("https://r.test", ".r.test", True),
        ("https://ar.test", "r.test", True),
        ("https://r.test", "x, R.TEST ,y", False),
        ("https://r.test", "*", False),
        ("https://r.test:5000", "r.test:5000", False),
        ("https://r.test:5001", "r.test:5000", True),
        ("https://10.1.2.3", "10.0.0.0/8", False),
        ("https://11.1.2.3", "10.0.0.0/8", True),
        ("https://10.1.2.3:5000", "10.1.2.3", False),
        ("https://[fd00::1]:5000", "fd00::/8", False),
        ("https://127.0.0.1:5000", "", False),
        ("https://localhost:5000", "", False),
        ("http://r.test", "", False),  # there is a proxy for https alone
    ],
)
def test_who_is_asked_directly(url, no_proxy, expected):
    found = proxy_for(Origin.of(url), {"HTTPS_PROXY": "proxy.test:3128", "NO_PROXY": no_proxy})
    assert found == (("http://proxy.test:3128", {}) if expected else None)


@pytest.mark.parametrize("said", ["socks5://ann:c4nary@x", "http://", "http://ann:c4nary@x:99999", "ann:c4nary@x:y"])
def test_what_is_no_proxy_is_an_error_that_does_not_show_it(said):
    with pytest.raises(UnusableInputError) as caught:
        proxy_for(Origin.of("https://r.test"), {"https_proxy": said})
    assert "`HTTPS_PROXY`" in str(caught.value)
    assert "c4nary" not in f"{caught.value}{caught.value.hint}"
