"""Who is asked for a token, and what is sent there: the registry alone says so, and in the clear only where it may."""

import json
import shutil
import ssl
from base64 import b64encode
from collections import Counter

import pytest

from mlops_deploy.adapters.registry import pools
from mlops_deploy.adapters.registry.addresses import check_url
from mlops_deploy.adapters.registry.hosts import Origin
from mlops_deploy.adapters.registry.repository import HttpRepository
from mlops_deploy.adapters.registry.token_server import TokenServer
from mlops_deploy.errors import UnusableInputError
from tests.fakes.recording import Response, recording
from tests.integration.nomad_tls import Certificates
from tests.unit.adapters.registry.clients import Layer
from tests.unit.adapters.registry.network import PUBLIC, SCOPE, Network, access_to, channel_to

PASSWORD = "c4nary-password"
BASIC = b64encode(f"ann:{PASSWORD}".encode()).decode()


@pytest.fixture
def home(tmp_path):
    """The environment of somebody who is known to these registries."""

    def logged_in(*hosts, **entry):
        file = tmp_path / ".docker" / "config.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"auths": dict.fromkeys(hosts, entry or {"auth": BASIC})}))
        return {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}

    return logged_in


@pytest.fixture
def network(monkeypatch):
    made = Network.instead_of_the_real_one(monkeypatch)
    made.names = {"r.test": [[PUBLIC]], "auth.test": [["8.8.8.8"]]}
    return made


def challenge(realm):
    return Response(status=401, headers=(("WWW-Authenticate", f'Bearer realm="{realm}",service="s"'),))


def foreign(request):
    """Wants a password for whatever it is asked, and takes it itself."""
    if request.path.startswith("/token"):
        return Response(body=b'{"token": "t"}')
    return challenge(f"http://{request.headers['Host']}/token")


def require_no_secret(other, *paths):
    assert {one.path.partition("?")[0] for one in other.asked} == set(paths)
    assert {one.authorization for one in other.asked} == {None}
    assert PASSWORD not in other.text()
    assert BASIC not in other.text()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("asks_itself", [False, True])
def test_a_host_that_we_are_redirected_to_names_no_token_server(home, method, asks_itself):
    """Not for itself, nor for what is asked of the registry later on."""
    with recording(foreign) as other:
        to = Response(status=307, headers=(("Location", f"http://127.0.0.1:{other.port}/x"),))

        def answer(request):
            if request.path.startswith("/token"):
                return Response(body=b'{"token": "t"}')
            return to if request.authorization or not asks_itself else challenge("/token")

        with recording(answer) as registry:
            channel = channel_to(host := f"127.0.0.1:{registry.port}", home(host))
            for _ in range(3):
                with pytest.raises(UnusableInputError, match="denied"):
                    channel.request(method, "/v2/team/app/blobs/1", step="a test", scope=SCOPE, expect={200})
        require_no_secret(other, "/x")
        given = [one.authorization for one in registry.asked if one.path.startswith("/token")]
        assert given == [f"Basic {BASIC}"] * asks_itself


def test_a_host_that_takes_the_upload_names_no_token_server(home):
    """Its 401 comes to requests whose bodies are sent bit by bit, too."""
    with recording(foreign) as other:
        at = Response(status=202, headers=(("Location", f"http://127.0.0.1:{other.port}/up"),))
        with recording(lambda request: at if request.method == "POST" else Response(status=404)) as registry:
            channel = channel_to(host := f"127.0.0.1:{registry.port}", home(host))
            with pytest.raises(UnusableInputError, match="denied"):
                Layer.of(1000).push(HttpRepository(channel, f"{host}/team/app", "team/app"))
        require_no_secret(other, "/up")
        assert Counter(one.method for one in other.asked)["PATCH"] == 1


def test_an_identity_token_is_shown_to_its_token_server_alone(home):
    """Neither as a password, where a registry takes only those, nor in the clear to another host."""
    basic = Response(status=401, headers=(("WWW-Authenticate", 'Basic realm="r"'),))
    with recording(lambda _: basic) as registry:
        channel = channel_to(host := f"127.0.0.1:{registry.port}", home(host, identitytoken=PASSWORD))
        with pytest.raises(UnusableInputError):
            channel.request("GET", "/v2/x", step="a test", scope=SCOPE, expect={200})
        assert {one.authorization for one in registry.asked} == {None}
        assert PASSWORD not in registry.text()


@pytest.mark.parametrize("entry", [{"identitytoken": PASSWORD}, {"auth": BASIC}])
def test_nothing_goes_to_a_token_server_elsewhere_in_the_clear(home, network, entry):
    with recording(foreign) as auth, recording(lambda _: challenge(f"http://auth.test:{auth.port}/token")) as registry:
        host = f"r.test:{registry.port}"
        channel = channel_to(host, home(host, **entry), base=f"http://{host}")
        with pytest.raises(UnusableInputError, match="by https alone"):
            channel.request("GET", "/v2/x", step="a test", scope=SCOPE, expect={200})
        assert (auth.connections, auth.asked) == (0, [])


@pytest.mark.parametrize(("headers", "body"), [({}, b"refresh_token=x"), ({"Authorization": "Basic x"}, None)])
def test_a_secret_is_one_wherever_in_a_request_it_stands(home, network, headers, body):
    with recording(foreign) as auth:
        ask = TokenServer(access_to("r.test", home(), base="http://r.test"))
        with pytest.raises(UnusableInputError, match="by https alone"):
            ask("POST", f"http://auth.test:{auth.port}/token", headers, body)
        assert auth.connections == 0
        assert ask("GET", f"http://auth.test:{auth.port}/token", {}, None) == b'{"token": "t"}'


def test_trust_is_waived_for_the_port_that_was_named(home, network):
    with recording(lambda _: Response()) as registry:
        host = f"r.test:{registry.port}"
        assert access_to(host, home(), insecure=frozenset({"r.test:1"})).base == f"https://{host}"
        assert access_to(host, home(), insecure=frozenset({"other.test"})).base == f"https://{host}"
        assert registry.connections == 0
        assert access_to(host, home(), insecure=frozenset({host})).base == f"http://{host}"
        assert access_to(host, home(), insecure=frozenset({"r.test"})).base == f"http://{host}"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on this machine")
def test_a_registry_that_starts_is_asked_by_tls_when_it_has_started(tmp_path, home, network, monkeypatch):
    """That nobody listened yet says nothing of how it will be asked."""
    made = Certificates(tmp_path / "tls", names="DNS:r.test")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(made.folder / "server.pem", made.folder / "server-key.pem")
    tries = []

    def dial(address, *rest, **more):
        tries.append(address)
        if len(tries) == 1:
            raise ConnectionRefusedError
        return network.dial(address, *rest, **more)

    monkeypatch.setattr(pools, "create_connection", dial)
    with recording(lambda _: Response(), tls=tls) as registry:
        access = access_to(host := f"r.test:{registry.port}", home(), insecure=frozenset({"r.test"}))
        assert access.base == f"http://{host}"
        assert access.base == f"https://{host}"
        assert access.base == f"https://{host}"
        assert len(tries) == 2


def test_without_a_port_what_refuses_tls_has_none(home, network, monkeypatch):
    tries = []

    def dial(address, *_, **__):
        tries.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(pools, "create_connection", dial)
    access = access_to("r.test", home(), insecure=frozenset({"r.test"}))
    assert [access.base, access.base] == ["http://r.test"] * 2
    assert tries == [(PUBLIC, 443)]


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("http://r.test/x", "http://r.test:5000/x"),
        ("https://r.test/x", "https://r.test/x"),
        ("https://r.test:8443/x", "https://r.test:8443/x"),
        ("http://cdn.test/x", "http://cdn.test/x"),
    ],
)
def test_the_registry_s_port_is_that_of_its_own_scheme(url, seen):
    assert check_url(url, "http://r.test:5000/v2/", Origin.of("http://r.test:5000")) == seen
