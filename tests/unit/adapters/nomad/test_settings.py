"""Which cluster the environment names: as the `nomad` command reads it."""

import os
import ssl
import subprocess
import sys

import pytest

from mlops_deploy.adapters.nomad.settings import Cluster
from mlops_deploy.errors import UnusableInputError


def cluster(**environ):
    return Cluster.from_environment(environ)


def test_nothing_said_is_this_machine():
    assert cluster() == Cluster(address="http://127.0.0.1:4646", namespace="default")
    assert cluster(NOMAD_ADDR="", NOMAD_TOKEN="", NOMAD_NAMESPACE="", NOMAD_REGION="") == cluster()


def test_every_variable_of_the_nomad_command_is_read():
    found = cluster(
        NOMAD_ADDR="https://nomad.example.com:4646",
        NOMAD_TOKEN="t0k3n",
        NOMAD_NAMESPACE="team",
        NOMAD_REGION="eu",
        NOMAD_HTTP_AUTH="me:secret:with:colons",
        NOMAD_CACERT="/ca.pem",
        NOMAD_CAPATH="/cas",
        NOMAD_CLIENT_CERT="/me.pem",
        NOMAD_CLIENT_KEY="/me-key.pem",
        NOMAD_TLS_SERVER_NAME="server.eu.nomad",
        NOMAD_SKIP_VERIFY="true",
    )
    assert (found.address, found.namespace, found.region) == ("https://nomad.example.com:4646", "team", "eu")
    assert (found.token.reveal(), found.user.reveal()) == ("t0k3n", "me:secret:with:colons")
    assert (found.ca_file, found.ca_folder) == ("/ca.pem", "/cas")
    assert (found.client_cert, found.client_key) == ("/me.pem", "/me-key.pem")
    assert (found.server_name, found.skip_verify) == ("server.eu.nomad", True)
    assert "t0k3n" not in repr(found)
    assert "secret" not in repr(found)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("1", True), ("T", True), ("true", True), ("0", False), ("false", False), ("yes", False), ("", False)],
)
def test_verification_is_skipped_only_by_a_word_for_true(written, meant):
    assert cluster(NOMAD_SKIP_VERIFY=written).skip_verify is meant


def test_the_service_wins_over_the_environment():
    environ = {"NOMAD_NAMESPACE": "mine", "NOMAD_REGION": "eu"}
    found = Cluster.from_environment(environ, namespace="team", region="us")
    assert (found.namespace, found.region) == ("team", "us")
    assert Cluster.from_environment(environ, namespace=None, region=None) == Cluster.from_environment(environ)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("http://127.0.0.1:4646/", "http://127.0.0.1:4646"),
        ("https://proxy.example.com/nomad/", "https://proxy.example.com/nomad"),
        ("http://[::1]:4646", "http://[::1]:4646"),
        ("http://nomad", "http://nomad"),
    ],
)
def test_addresses(written, meant):
    assert cluster(NOMAD_ADDR=written).address == meant


def test_who_asks_may_be_in_the_address_and_is_not_shown():
    found = cluster(NOMAD_ADDR="https://me:p%40ss@nomad.example.com:4646")
    assert (found.address, found.user.reveal()) == ("https://nomad.example.com:4646", "me:p@ss")
    assert found.place == "https://nomad.example.com:4646"
    assert cluster(NOMAD_ADDR="http://a:b@c", NOMAD_HTTP_AUTH="d:e").user.reveal() == "d:e"


def test_a_unix_socket_is_an_address():
    found = cluster(NOMAD_ADDR="unix:///run/my%20nomad.sock")
    assert (found.socket, found.place) == ("/run/my nomad.sock", "unix:///run/my nomad.sock")


@pytest.mark.parametrize(
    "written",
    ["127.0.0.1:4646", "nomad", "http://", "ftp://nomad:21", "http://nomad:port", "http://n?x=1", "http://n#x"],
)
def test_what_is_no_address_is_refused(written):
    with pytest.raises(UnusableInputError, match="which is no address of a Nomad API") as refused:
        cluster(NOMAD_ADDR=written)
    assert refused.value.exit_code == 2
    assert "http://127.0.0.1:4646" in refused.value.hint


def test_a_password_in_a_wrong_address_is_not_shown():
    with pytest.raises(UnusableInputError) as refused:
        cluster(NOMAD_ADDR="htp://me:secret@nomad")
    assert "secret" not in refused.value.message


def test_every_namespace_is_none():
    with pytest.raises(UnusableInputError, match="`\\*` names every namespace"):
        cluster(NOMAD_NAMESPACE="*")


class TestTls:
    def test_it_is_verified_by_default(self):
        context = cluster(NOMAD_ADDR="https://x").tls()
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)

    def test_it_is_not_verified_where_the_user_says_so(self):
        context = cluster(NOMAD_ADDR="https://x", NOMAD_SKIP_VERIFY="1").tls()
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)

    @pytest.mark.parametrize("name", ["NOMAD_CACERT", "NOMAD_CAPATH"])
    def test_authorities_that_cannot_be_read(self, name, tmp_path):
        (tmp_path / "empty").mkdir()
        (tmp_path / "text").mkdir()
        (tmp_path / "text" / "file").write_text("no certificate")
        (tmp_path / "text" / "bytes").write_bytes(b"\xff\xfe")
        folders = (tmp_path / "none", tmp_path / "empty", tmp_path / "text")
        files = (tmp_path / "none", tmp_path, tmp_path / "text" / "file", tmp_path / "text" / "bytes")
        for given in files if name == "NOMAD_CACERT" else folders:
            with pytest.raises(UnusableInputError, match=f"`{name}`") as refused:
                cluster(**{name: str(given)}).tls()
            assert name in refused.value.hint

    def test_a_certificate_needs_its_key(self, tmp_path):
        for one in ({"NOMAD_CLIENT_CERT": "/x"}, {"NOMAD_CLIENT_KEY": "/x"}):
            with pytest.raises(UnusableInputError, match="only of use together"):
                cluster(**one).tls()
        file = tmp_path / "file"
        file.write_text("nothing")
        with pytest.raises(UnusableInputError, match="are no certificate and its key"):
            cluster(NOMAD_CLIENT_CERT=str(file), NOMAD_CLIENT_KEY=str(file)).tls()
        with pytest.raises(UnusableInputError, match="`NOMAD_CLIENT_KEY` names"):
            cluster(NOMAD_CLIENT_CERT=str(file), NOMAD_CLIENT_KEY=str(tmp_path / "none")).tls()


def test_reading_settings_loads_no_library():
    code = "import mlops_deploy.adapters.nomad.settings, sys; assert not {'nomad', 'requests'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
@pytest.mark.parametrize(
    ("variable", "written"),
    [("NOMAD_TOKEN", "67ef50f4"), ("NOMAD_HTTP_AUTH", "me:67ef50f4"), ("NOMAD_ADDR", "http://me:67ef50f4%0A@nomad")],
)
def test_a_secret_with_a_line_break_is_refused_and_not_shown(variable, written, end):
    with pytest.raises(UnusableInputError, match=f"^`{variable}` holds a line break$") as refused:
        cluster(**{variable: written if variable == "NOMAD_ADDR" else written + end})
    assert refused.value.exit_code == 2
    assert "67ef50f4" not in f"{refused.value.message} {refused.value.hint} {refused.value.detail}"


@pytest.mark.parametrize("written", ["67ef50f4\0", "\t67ef50f4", " 67ef50f4", "67ef\x1b50f4", "67ef50f4…"])
def test_a_token_that_no_header_holds_is_refused_and_not_shown(written):
    with pytest.raises(UnusableInputError, match=r"^`NOMAD_TOKEN` holds") as refused:
        cluster(NOMAD_TOKEN=written)
    assert "50f4" not in f"{refused.value.message} {refused.value.hint}"


def test_a_name_and_a_password_may_have_letters_of_any_language():
    assert cluster(NOMAD_HTTP_AUTH="zoë:пароль").user.reveal() == "zoë:пароль"


def test_what_others_say_is_shown_without_our_secrets():
    found = cluster(NOMAD_TOKEN="67ef50f4", NOMAD_HTTP_AUTH="me:secret")
    said = found.redacted("X-Nomad-Token: 67ef50f4, Authorization: Basic bWU6c2VjcmV0, me:secret")
    assert said == "X-Nomad-Token: [redacted], Authorization: Basic [redacted], [redacted]"
