"""TLS with a cluster: the certificates of either side, right and wrong; with the double at once, and with an agent."""

import ssl
from contextlib import closing

import pytest

from mlops_deploy.adapters.nomad.client import NomadClient
from mlops_deploy.adapters.nomad.execution import exec_stream
from mlops_deploy.adapters.nomad.settings import Cluster
from mlops_deploy.errors import UnreachableError
from tests.fakes.nomad_api import NomadApi
from tests.integration.nomad_agent import agent
from tests.integration.nomad_tls import ELSEWHERE, HERE, Certificates

NOTHING = "7cd46b30-26ab-1e48-0f35-1ad4a8e8b9d0"


def client(address, **environ):
    return NomadClient(Cluster.from_environment({"NOMAD_ADDR": address, **environ}))


def refusals(address, **environ):
    """Why nothing comes of it: of requests, and of programs."""
    one = client(address, **environ)
    with pytest.raises(UnreachableError) as refused:
        one.check()
    one.__dict__["_session"] = None
    with pytest.raises(UnreachableError) as spoken:
        exec_stream(one, NOTHING, "main", ["true"])
    assert (refused.value.exit_code, spoken.value.exit_code) == (8, 8)
    assert refused.value.hint == spoken.value.hint
    return refused.value, spoken.value


def refusal(address, **environ):
    """Why, where it is the same for both."""
    refused, spoken = refusals(address, **environ)
    assert refused.message == spoken.message
    return refused


def served(certificates):
    """What the double shows, and asks for."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates.authority))
    context.load_cert_chain(certificates.folder / "server.pem", certificates.folder / "server-key.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """An authority that nobody asked."""
    return Certificates(tmp_path_factory.mktemp("other") / "tls")


@pytest.fixture(scope="module", params=["double", pytest.param("agent", marks=pytest.mark.nomad)])
def right(request, tmp_path_factory):
    """A cluster whose certificate is for the address that we use."""
    yield from _cluster(request.param, HERE, tmp_path_factory.mktemp("right"))


@pytest.fixture(scope="module", params=["double", pytest.param("agent", marks=pytest.mark.nomad)])
def wrong(request, tmp_path_factory):
    """One whose certificate is for another name."""
    yield from _cluster(request.param, ELSEWHERE, tmp_path_factory.mktemp("wrong"))


def _cluster(kind, names, folder):
    certificates = Certificates(folder / "tls", names)
    if kind == "double":
        with NomadApi(served(certificates)).running() as api:
            yield api.address, certificates
    else:
        (folder / "agent").mkdir()
        with agent(folder / "agent", tls=certificates) as one:
            yield one.address, certificates


def test_with_the_right_certificates_all_is_well(request, right):
    address, certificates = right
    one = client(address, **certificates.variables)
    assert one.job("none") is None
    assert one.put_variable("tls/x", {"a": "b"}, 0)
    if "agent" in request.node.callspec.params.values():
        absent = pytest.raises(ConnectionError, match="Unknown allocation")
        with closing(exec_stream(one, NOTHING, "main", ["true"])) as stream, absent:
            stream.receive(5)


def test_an_authority_may_be_in_a_folder(right, tmp_path):
    address, certificates = right
    (tmp_path / "any-name").write_text(certificates.authority.read_text())
    environ = certificates.variables | {"NOMAD_CAPATH": str(tmp_path)}
    del environ["NOMAD_CACERT"]
    assert client(address, **environ).job("none") is None


def test_an_unknown_authority(right, other):
    address, certificates = right
    for environ in ({"NOMAD_CACERT": str(other.authority)}, {}):
        refused = refusal(address, **(certificates.variables | {"NOMAD_CACERT": ""} | environ))
        assert f"the certificate at `{address}` is not to be trusted" in refused.message
        assert "`NOMAD_CACERT`" in refused.hint


def test_authorities_of_other_programs_are_not_ours(right, monkeypatch):
    address, certificates = right
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "WEBSOCKET_CLIENT_CA_BUNDLE"):
        monkeypatch.setenv(name, str(certificates.authority))
    assert "is not to be trusted" in refusal(address, **(certificates.variables | {"NOMAD_CACERT": ""})).message


def test_a_certificate_for_another_name(wrong):
    address, certificates = wrong
    refused = refusal(address, **certificates.variables)
    assert refused.message == f"the certificate at `{address}` is for another name than `127.0.0.1`"
    assert "`NOMAD_TLS_SERVER_NAME`" in refused.hint


def test_another_name_may_be_told(wrong):
    address, certificates = wrong
    name = ELSEWHERE.removeprefix("DNS:")
    assert client(address, **certificates.variables, NOMAD_TLS_SERVER_NAME=name).job("none") is None
    refused = refusal(address, **certificates.variables, NOMAD_TLS_SERVER_NAME="third.example")
    assert "for another name than `third.example`" in refused.message


def test_verification_is_skipped_where_the_user_says_so(wrong, other):
    address, certificates = wrong
    environ = certificates.variables | {"NOMAD_CACERT": str(other.authority), "NOMAD_SKIP_VERIFY": "true"}
    assert client(address, **environ).job("none") is None


def test_a_certificate_of_ours_is_asked_for(right, other):
    address, certificates = right
    without = {"NOMAD_CACERT": str(certificates.authority)}
    for environ in (without, other.variables | without):
        for refused in refusals(address, **environ):
            assert f"the cluster at `{address}` " in refused.message
            assert refused.message.endswith("a certificate that it trusts")
            assert "`NOMAD_CLIENT_CERT`" in refused.hint


def test_http_where_https_is_spoken(right):
    address, _ = right
    plain = address.replace("https", "http")
    with pytest.raises(UnreachableError) as refused:
        client(plain).check()
    assert plain in refused.value.message
    assert refused.value.exit_code == 8


def test_https_where_http_is_spoken():
    with NomadApi().running() as api:
        address = api.address.replace("http", "https")
        refused = refusal(address)
    assert refused.message == f"`{address}` does not speak TLS"
    assert "`http://`" in refused.hint
