"""Where an https source may lead, and what of a part is believed; against real servers on loopback."""

import shutil
import ssl

import pytest

from mlops_deploy.adapters import web
from mlops_deploy.adapters.web import HttpWeb
from mlops_deploy.errors import UnusableInputError
from mlops_deploy.oci.inventory import Remote
from tests.fakes.recording import Response, recording
from tests.integration.nomad_tls import Certificates

DATA = bytes(range(200))


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(web, "_PAUSES", (0.0,))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("tls") / "tls")


@pytest.fixture
def secure(certificates, monkeypatch):
    """What makes a server one of TLS, whose authority is believed meanwhile."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificates.folder / "server.pem", certificates.folder / "server-key.pem")
    return made


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on this machine")


def to(place):
    return Response(status=302, headers=(("Location", place),))


@needs_openssl
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_https_does_not_lead_to_http(secure, host):
    with recording(lambda _: Response(body=DATA)) as plain:
        place = f"http://{host}:{plain.port}/m.bin"
        with recording(lambda _: to(place), tls=secure) as server:
            url = f"https://{host}:{server.port}/m.bin?token=c4nary"
            for fetch in (HttpWeb().look, lambda url: list(HttpWeb().read(Remote(url=url, size=len(DATA))))):
                with pytest.raises(UnusableInputError, match="leads nowhere") as raised:
                    fetch(url)
                assert "c4nary" not in f"{raised.value} {raised.value.hint} {raised.value.detail}"
        assert (plain.connections, len(server.asked)) == (0, 2)


@needs_openssl
def test_https_leads_to_https(secure):
    def answer(request):
        return Response(body=DATA) if request.path == "/there" else to("/there")

    with recording(answer, tls=secure) as server:
        url = f"https://127.0.0.1:{server.port}/here"
        remote = HttpWeb().look(url)
        assert (remote.url, remote.size) == (url, len(DATA))
        assert b"".join(HttpWeb().read(remote)) == DATA


@pytest.mark.parametrize(
    ("told", "believed"),
    [
        ("bytes 100-199/200", True),
        ("bytes 100-199/201", False),
        ("bytes 100-199/2000", False),
        ("bytes 99-199/200", False),
        ("bytes 0-99/200", False),
        ("bytes 100-199/*", False),
        ("", False),
    ],
)
def test_a_part_is_of_the_file_that_was_looked_at(told, believed):
    """Its server names no version: the file's size, as the part tells it, says that it is another one."""
    part = Response(status=206, headers=(("Content-Range", told),), body=DATA[100:])
    with recording(lambda _: part) as server:
        reading = HttpWeb().read(Remote(url=f"http://127.0.0.1:{server.port}/m", size=200), 100)
        if believed:
            assert b"".join(reading) == DATA[100:]
        else:
            with pytest.raises(UnusableInputError, match="changed while it was read"):
                list(reading)
    assert [one.headers["Range"] for one in server.asked] == ["bytes=100-"]
