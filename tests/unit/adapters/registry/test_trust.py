"""Whom we believe, with real certificates, and what is asked without."""

import json
import shutil
import ssl
from base64 import b64encode

import pytest
from urllib3.exceptions import HTTPWarning, ProtocolError

from mlops_deploy.adapters.registry.troubles import explained
from mlops_deploy.adapters.registry.trust import Trust, UntrustedError
from mlops_deploy.errors import UnreachableError, UnusableInputError
from tests.fakes.recording import Response, recording
from tests.integration.nomad_tls import Certificates
from tests.unit.adapters.registry.network import PUBLIC, SCOPE, Network, channel_to

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on this machine")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("tls") / "tls", names="DNS:r.test,DNS:auth.test")


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Of an authority that nobody knows, for the same names and this machine."""
    return Certificates(tmp_path_factory.mktemp("others") / "tls", names="DNS:r.test,DNS:auth.test,IP:127.0.0.1")


@pytest.fixture
def network(monkeypatch):
    made = Network.instead_of_the_real_one(monkeypatch)
    made.names = {"r.test": [[PUBLIC]], "auth.test": [["8.8.8.8"]], "wrong.test": [[PUBLIC]]}
    return made


def serving(of, client=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(of.folder / "server.pem", of.folder / "server-key.pem")
    if client:
        context.load_verify_locations(client.authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def fine(_):
    return Response()


def ask(host, environ, **more):
    answer = channel_to(host, environ, **more).request(
        "GET", "/v2/team/app/tags/list", step="a test", scope=SCOPE, expect={200}
    )
    answer.read()


def laid(root, host, files):
    folder = root / host
    folder.mkdir(parents=True)
    for name, file in files.items():
        shutil.copy(file, folder / name)


def test_a_certificate_of_an_unknown_authority_is_refused_at_once(tmp_path, certificates, network):
    with recording(fine, tls=serving(certificates)) as registry:
        host = f"r.test:{registry.port}"
        with pytest.raises(UntrustedError) as caught:
            ask(host, {"HOME": str(tmp_path)}, certificates=[tmp_path / "etc"])
        assert (registry.connections, registry.asked) == (1, [])
    assert "not trusted" in str(caught.value)
    assert f"`{tmp_path}/etc/{host}/ca.crt`" in caught.value.hint
    assert "SSL_CERT_FILE" in caught.value.hint


@pytest.mark.parametrize("place", ["etc/containers", "etc/docker", ".config/containers/certs.d"])
def test_an_authority_in_the_registry_s_folder(tmp_path, certificates, network, place):
    system = [tmp_path / "etc/containers", tmp_path / "etc/docker"]
    with recording(fine, tls=serving(certificates)) as registry:
        host = f"r.test:{registry.port}"
        laid(tmp_path / place, host, {"our.crt": certificates.authority})
        ask(host, {"HOME": str(tmp_path)}, certificates=system)
        assert len(registry.asked) == 1


def test_the_authority_of_another_registry_is_not_believed(tmp_path, certificates, network):
    with recording(fine, tls=serving(certificates)) as registry:
        for host in ("other.test", "r.test", f"r.test:{registry.port + 1}"):
            laid(tmp_path / "etc", host, {"our.crt": certificates.authority})
        with pytest.raises(UntrustedError):
            ask(f"r.test:{registry.port}", {"HOME": str(tmp_path)}, certificates=[tmp_path / "etc"])


def test_the_wrong_name_is_refused(tmp_path, certificates, network):
    with recording(fine, tls=serving(certificates)) as registry:
        with pytest.raises(UntrustedError, match=r"wrong\.test"):
            ask(f"wrong.test:{registry.port}", {"HOME": str(tmp_path), "SSL_CERT_FILE": str(certificates.authority)})
        assert registry.asked == []


def test_the_variable_names_authorities(tmp_path, certificates, network):
    environ = {"HOME": str(tmp_path), "SSL_CERT_FILE": str(certificates.authority)}
    with recording(fine, tls=serving(certificates)) as registry:
        ask(f"r.test:{registry.port}", environ)
        with pytest.raises(UnusableInputError, match=r"absent\.pem"):
            ask(f"r.test:{registry.port}", environ | {"SSL_CERT_FILE": str(tmp_path / "absent.pem")})


def test_a_client_s_certificate_is_shown_to_the_registry_alone(tmp_path, certificates, network):
    seen = []

    def token(request):
        seen.append(request)
        return Response(body=b'{"token": "t"}')

    other = serving(certificates)
    other.load_verify_locations(certificates.authority)
    other.verify_mode = ssl.CERT_REQUIRED
    with recording(token, tls=other) as auth:
        realm = f'Bearer realm="https://auth.test:{auth.port}/token"'
        challenge = Response(status=401, headers=(("WWW-Authenticate", realm),))
        with recording(lambda _: challenge, tls=serving(certificates, client=certificates)) as registry:
            host = f"r.test:{registry.port}"
            mine, key = certificates.client
            files = {"ca.crt": certificates.authority, "client.cert": mine, "client.key": key}
            laid(tmp_path / "etc", host, files)
            with pytest.raises(UnreachableError):
                ask(host, {"HOME": str(tmp_path)}, certificates=[tmp_path / "etc"])
            assert len(registry.asked) == 1  # the registry has let us in, the token server not
        assert seen == []


def test_without_the_client_s_certificate_the_hint_says_where_it_goes(tmp_path, certificates, network):
    with recording(fine, tls=serving(certificates, client=certificates)) as registry:
        host = f"r.test:{registry.port}"
        laid(tmp_path / "etc", host, {"ca.crt": certificates.authority})
        with pytest.raises(UnreachableError) as caught:
            ask(host, {"HOME": str(tmp_path)}, certificates=[tmp_path / "etc"])
        assert registry.asked == []
    assert f"`{tmp_path}/etc/{host}`" in caught.value.hint


def test_a_connection_that_ends_without_a_word_may_want_the_client_s_certificate(tmp_path):
    """The alert that says so gets lost where the registry is faster than we are."""
    told = explained(
        ProtocolError("x", ssl.SSLEOFError(8, "EOF occurred in violation of protocol")), "r.test", tmp_path
    )
    assert told.message == "the registry `r.test` does not answer: the connection broke off"
    assert told.hint.startswith("try again; it may want to see our certificate")
    assert f"`{tmp_path}`" in told.hint


def test_the_registry_s_authority_vouches_for_its_token_server(tmp_path, certificates, network):
    def registry_answers(request):
        if request.authorization == "Bearer t":
            return Response()
        return Response(
            status=401, headers=(("WWW-Authenticate", f'Bearer realm="https://auth.test:{auth.port}/token"'),)
        )

    with (
        recording(lambda _: Response(body=b'{"token": "t"}'), tls=serving(certificates)) as auth,
        recording(registry_answers, tls=serving(certificates)) as registry,
    ):
        host = f"r.test:{registry.port}"
        laid(tmp_path / "etc", host, {"ca.crt": certificates.authority})
        ask(host, {"HOME": str(tmp_path)}, certificates=[tmp_path / "etc"])


@pytest.mark.parametrize(
    "files", [{"a.cert": "client.pem"}, {"a.cert": "client.pem", "a.key": "ca-key.pem"}, {"x.crt": "ca-key.pem"}]
)
def test_certificates_that_cannot_be_used(tmp_path, certificates, files):
    laid(tmp_path, "r.test", {name: certificates.folder / file for name, file in files.items()})
    with pytest.raises(UnusableInputError, match=r"a\.cert|x\.crt"):
        Trust("r.test", {}, [tmp_path]).context("r.test", verified=True)


# Without trust: this machine, and what is named.


def login(tmp_path, host):
    (tmp_path / ".docker").mkdir()
    entry = {"auth": b64encode(b"ann:c4nary").decode()}
    (tmp_path / ".docker" / "config.json").write_text(json.dumps({"auths": {host: entry}}))
    return {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}


def test_plain_http_is_not_tried_where_nobody_has_allowed_it(tmp_path, network):
    with recording(fine) as registry:
        host = f"r.test:{registry.port}"
        with pytest.raises(UnreachableError) as caught:
            ask(host, login(tmp_path, host))
        assert registry.asked == []
    assert f"--insecure-registry {host}" in caught.value.hint


@pytest.mark.parametrize("named", ["r.test", "r.test:PORT", "R.test"])
def test_plain_http_where_it_is_allowed(tmp_path, network, named):
    with recording(fine) as registry:
        host = f"r.test:{registry.port}"
        ask(host, {"HOME": str(tmp_path)}, insecure=frozenset({named.replace("PORT", str(registry.port))}))
        assert len(registry.asked) == 1


@pytest.mark.parametrize("named", ["test", "other.test", "r.test:1", "a.r.test"])
def test_another_name_allows_nothing(tmp_path, network, named):
    with recording(fine) as registry:
        with pytest.raises(UnreachableError):
            ask(f"r.test:{registry.port}", {"HOME": str(tmp_path)}, insecure=frozenset({named}))
        assert registry.asked == []


def test_tls_goes_before_plain_http_with_any_certificate(tmp_path, others, network, recwarn):
    with recording(fine, tls=serving(others)) as registry:
        host = f"r.test:{registry.port}"
        ask(host, {"HOME": str(tmp_path)}, insecure=frozenset({"r.test"}))
        assert [one.path for one in registry.asked] == ["/v2/", "/v2/team/app/tags/list"]
    assert not [one for one in recwarn if issubclass(one.category, HTTPWarning)]


def test_a_host_that_may_be_asked_without_trust_does_not_make_others_so(tmp_path, certificates, others, network):
    with recording(lambda _: Response(body=b'{"token": "t"}'), tls=serving(others)) as auth:
        realm = f'Bearer realm="https://auth.test:{auth.port}/token"'
        challenge = Response(status=401, headers=(("WWW-Authenticate", realm),))
        with recording(lambda _: challenge, tls=serving(others)) as registry:
            host = f"r.test:{registry.port}"
            with pytest.raises(UntrustedError):
                ask(host, login(tmp_path, host), insecure=frozenset({"r.test"}))
        assert auth.asked == []


def test_this_machine_is_asked_by_either(tmp_path, others):
    with recording(fine, tls=serving(others)) as secure, recording(fine) as plain:
        ask(f"127.0.0.1:{secure.port}", {"HOME": str(tmp_path)})
        ask(f"127.0.0.1:{plain.port}", {"HOME": str(tmp_path)})
        assert len(secure.asked) == 2
        assert [one.path for one in plain.asked] == ["/v2/team/app/tags/list"]


@pytest.mark.parametrize("verified", [True, False])
def test_authorities_are_read_only_for_what_they_vouch_for(certificates, verified):
    environ = {"SSL_CERT_FILE": str(certificates.authority)}
    context = Trust("r.test", environ).context("r.test", verified=verified)
    assert bool(context.get_ca_certs()) == verified
    assert context.verify_mode == (ssl.CERT_REQUIRED if verified else ssl.CERT_NONE)
    assert context.check_hostname == verified
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
