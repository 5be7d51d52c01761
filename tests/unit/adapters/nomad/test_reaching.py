"""What may answer instead of a Nomad API, or not at all; and what every request carries."""

import base64
import socket
import socketserver
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from mlops_deploy.adapters.nomad import session
from mlops_deploy.adapters.nomad.client import NomadClient
from mlops_deploy.adapters.nomad.router import NomadRouter
from mlops_deploy.adapters.nomad.settings import Cluster
from mlops_deploy.errors import DeployError, UnreachableError, UnusableInputError
from mlops_deploy.spec.nomad import NomadSpec
from mlops_deploy.spec.owner import Owner
from mlops_deploy.spec.rendered import JobImage
from mlops_deploy.spec.secret import Secret
from tests.fakes.nomad_api import NomadApi

PAGE = "<!DOCTYPE html><html><head><title>Please sign in</title></head><body>Sign in</body></html>"


def client(address, **environ):
    return NomadClient(Cluster.from_environment({"NOMAD_ADDR": address, **environ}))


@contextmanager
def serving(server, scheme="http"):
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"{scheme}://127.0.0.1:{server.server_address[1]}" if scheme == "http" else None
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def answering(status, body, **headers):
    """A server that answers everything alike, and remembers what it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            asked.append((self.command, self.path, dict(self.headers)))
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815  # names of the standard library

        def log_message(self, *_):
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as address:
        yield address, asked


def unreachable(deed):
    with pytest.raises(UnreachableError) as refused:
        deed()
    assert refused.value.exit_code == 8
    assert refused.value.hint
    return refused.value.message


class TestNobody:
    def test_nothing_listens(self):
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        message = unreachable(client(f"http://127.0.0.1:{port}").check)
        assert message == f"no Nomad API answers at `http://127.0.0.1:{port}`: nothing listens there"

    def test_a_name_that_nobody_knows(self):
        assert "its name is not known" in unreachable(client("http://nobody.invalid:4646").check)

    def test_a_socket_that_is_not_there(self, tmp_path):
        message = unreachable(client(f"unix://{tmp_path}/nomad.sock").check)
        assert message == f"no Nomad API answers at `unix://{tmp_path}/nomad.sock`: there is no such socket"

    def test_a_silent_one(self, monkeypatch):
        monkeypatch.setattr(session, "PATIENCE", 0.3)
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            one.listen()
            message = unreachable(client(f"http://127.0.0.1:{one.getsockname()[1]}").check)
        assert message.endswith("it is silent")

    def test_one_that_hangs_up(self):
        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                self.request.recv(1)

        with serving(socketserver.TCPServer(("127.0.0.1", 0), Handler)) as address:
            assert f"no Nomad API answers at `{address}`" in unreachable(client(address).check)

    def test_an_agent_that_goes_away_meanwhile(self):
        with NomadApi().running() as api:
            one = client(api.address)
            one.check()
        for deed in (lambda: one.job("x"), lambda: one.put_variable("x", {"a": "b"}, 0), lambda: one.services("x")):
            assert "no Nomad API answers" in unreachable(deed)


class TestStrangers:
    @pytest.mark.parametrize("status", [200, 401, 403, 404, 500, 502, 503])
    def test_a_web_page(self, status):
        with answering(status, PAGE, Content_Type="text/html; charset=utf-8") as (address, _):
            message = unreachable(client(address).check)
        assert f"what answers at `{address}` is not a Nomad API: status {status}" in message
        assert "Please sign in" in message
        assert "<" not in message

    @pytest.mark.parametrize("status", [200, 403, 500])
    @pytest.mark.parametrize("kind", ["text/html", "text/plain"])
    def test_one_that_shows_what_it_was_asked_shows_no_secret(self, status, kind):
        shown = "X-Nomad-Token: T0ken Basic bWU6cEFzcw=="
        with answering(status, shown, Content_Type=kind) as (address, _), pytest.raises(DeployError) as refused:
            client(address, NOMAD_TOKEN="T0ken", NOMAD_HTTP_AUTH="me:pAss").check()
        shown = f"{refused.value.message} {refused.value.hint} {refused.value.detail}"
        assert "[redacted]" in shown
        assert not any(secret in shown for secret in ("T0ken", "bWU6cEFzcw=="))

    def test_what_a_library_says_is_said_without_the_token(self):
        one = Cluster(address="http://127.0.0.1:1", token=Secret("T0ken\n"))
        message = unreachable(NomadClient(one).check)
        assert "[redacted]" in message
        assert "t0ken" not in message.lower()

    @pytest.mark.parametrize("status", [301, 302, 307])
    def test_a_redirection_is_not_followed_with_the_token(self, status):
        with answering(200, '"leader"') as (elsewhere, asked):
            headers = {"Location": f"{elsewhere}/v1/status/leader"}
            with answering(status, "", **headers) as (address, _):
                assert "is not a Nomad API" in unreachable(client(address, NOMAD_TOKEN="secret").check)
        assert asked == []

    @pytest.mark.parametrize(
        ("status", "body", "kind"),
        [
            (200, "ok", "text/plain"),
            (200, "{not json", "application/json"),
            (200, "", "application/json"),
            (200, '{"status": "up"}', "application/json"),
            (204, "", "text/plain"),
            (404, "404 page not found\n", "text/plain"),
            (404, '{"error": "not found"}', "application/json"),
        ],
    )
    def test_another_service(self, status, body, kind):
        with answering(status, body, Content_Type=kind) as (address, _):
            assert f"what answers at `{address}` is not a Nomad API" in unreachable(client(address).check)

    @pytest.mark.parametrize("body", ["", "{", "[1", '"text"', "7", PAGE])
    def test_nonsense_in_the_middle_is_no_exception_of_a_library(self, body):
        """A proxy may begin to say something else at any time."""
        with answering(200, body, Content_Type="application/json") as (address, _):
            one = client(address)
            one.__dict__["_session"] = session.Session(one.cluster)
            for deed in (
                lambda: one.job("x"),
                lambda: one.register({"ID": "x"}, 0),
                lambda: one.plan({"ID": "x"}),
                lambda: one.allocations("x"),
                lambda: one.allocation("x"),
                lambda: one.variable("x"),
                lambda: one.put_variable("x", {"a": "b"}, 0),
                lambda: one.variables("x"),
                lambda: one.services("x"),
            ):
                unreachable(deed)

    @pytest.mark.parametrize("status", [429, 502, 503, 504])
    def test_one_that_cannot_answer_now(self, status):
        with answering(status, "later", Content_Type="text/plain") as (address, _):
            assert "cannot answer now: later" in unreachable(client(address).check)

    @pytest.mark.parametrize(
        "text", ["No cluster leader", "rpc error: EOF", "1 error: leadership lost while committing log"]
    )
    def test_servers_that_look_for_a_leader(self, text):
        with answering(500, text, Content_Type="text/plain") as (address, _):
            assert "cannot answer now" in unreachable(client(address).check)

    def test_an_unknown_trouble_is_told_as_it_was_said(self):
        text = "1 error occurred:\n\t* something odd\n\n"
        with answering(500, text, Content_Type="text/plain") as (address, _), pytest.raises(DeployError) as refused:
            client(address).check()
        assert refused.value.exit_code == 1
        assert refused.value.message.endswith(": 1 error occurred: something odd")

    def test_what_the_cluster_allows_to_nobody_is_no_missing_right(self):
        text = "Job registration, dispatch, and scale are disabled by the scheduler configuration"
        with answering(403, text, Content_Type="text/plain") as (address, _):
            one = client(address, NOMAD_TOKEN="t")
            one.__dict__["_session"] = session.Session(one.cluster)
            with pytest.raises(DeployError) as refused:
                one.register({"ID": "x"}, 0)
        assert refused.value.message == f"the cluster refuses to register the job: {text}"

    @pytest.mark.parametrize("text", ["ACL token not found", "ACL token expired", "rpc error: ACL token is invalid"])
    def test_a_token_that_older_servers_do_not_know(self, text):
        with answering(403, text, Content_Type="text/plain") as (address, _):
            one = client(address, NOMAD_TOKEN="t")
            with pytest.raises(UnusableInputError, match="refuses the token in `NOMAD_TOKEN`: it "):
                one.check()

    def test_an_unknown_region(self):
        known = pytest.raises(UnusableInputError, match="there is no region `mars`")
        with answering(500, "No path to region", Content_Type="text/plain") as (address, _), known:
            client(address, NOMAD_REGION="mars").check()


class TestOldServers:
    def test_a_version_that_is_too_old(self):
        with NomadApi().running() as api:
            one = client(api.address)
            for version, since, enough in (
                ("1.9.7", "1.10", False), ("1.10.0", "1.10", True), ("1.10.0-rc.1", "1.10", True),
                ("2.0.5", "1.10", True), ("1.4.0+ent", "1.5", False),
            ):  # fmt: skip
                api.state.version = version
                if enough:
                    one.require("a dynamic host volume", since)
                    continue
                with pytest.raises(UnusableInputError) as refused:
                    one.require("a dynamic host volume", since)
                assert refused.value.message == (
                    f"a dynamic host volume needs Nomad {since} or later: the cluster runs Nomad {version}"
                )
                assert refused.value.exit_code == 2

    def test_servers_without_variables(self, monkeypatch):
        monkeypatch.setattr("tests.fakes.nomad_api.server._ROUTES", ())
        with NomadApi().running() as api:
            one = client(api.address)
            one.__dict__["_session"] = session.Session(one.cluster)
            with pytest.raises(UnusableInputError, match=r"a Variable needs Nomad 1\.4 or later"):
                one.put_variable("x", {"a": "b"}, 0)


class TestRequests:
    def test_each_carries_the_namespace_the_region_and_who_asks(self):
        environ = {
            "NOMAD_NAMESPACE": "team",
            "NOMAD_REGION": "eu",
            "NOMAD_TOKEN": "t0k3n",
            "NOMAD_HTTP_AUTH": "me:pa:ss",
        }
        with answering(200, "{}", Content_Type="application/json") as (address, asked):
            one = client(address, **environ)
            one.__dict__["_session"] = session.Session(one.cluster)
            for deed in (
                lambda: one.job("x"),
                lambda: one.plan({"ID": "x"}),
                lambda: one.deregister("x", purge=True),
                lambda: one.allocation("x"),
                lambda: one.evaluation("x"),
                lambda: one.promote("x"),
                lambda: one.delete_variable("x"),
                lambda: one.raw("GET", "service/x", params={"index": 3, "wait": "1s"}),
                lambda: one.raw("PUT", "volume/host/create", body={}),
            ):
                deed()
        assert len(asked) == 9
        for _, url, headers in asked:
            query = parse_qs(urlsplit(url).query)
            assert (query["namespace"], query["region"]) == (["team"], ["eu"])
            assert headers["X-Nomad-Token"] == "t0k3n"
            assert headers["Authorization"] == "Basic " + base64.b64encode(b"me:pa:ss").decode()

    def test_the_environment_of_this_process_adds_nothing(self, monkeypatch, tmp_path):
        """python-nomad reads it by itself, and requests reads a `.netrc`."""
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login other password word\n")
        for name, value in {
            "NOMAD_TOKEN": "other", "NOMAD_NAMESPACE": "other", "NOMAD_REGION": "other", "NOMAD_ADDR": "http://other",
            "HOME": str(tmp_path), "HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        with answering(200, "{}", Content_Type="application/json") as (address, asked):
            one = client(address)
            one.__dict__["_session"] = session.Session(one.cluster)
            one.job("x")
            one.evaluation("x")
        for _, url, headers in asked:
            assert parse_qs(urlsplit(url).query) == {"namespace": ["default"]}
            assert not {"X-Nomad-Token", "Authorization"} & set(headers)

    def test_a_proxy_of_the_environment_is_used_to_other_machines(self, monkeypatch):
        with answering(502, PAGE, Content_Type="text/html") as (proxy, asked):
            monkeypatch.setenv("http_proxy", proxy)
            monkeypatch.delenv("no_proxy", raising=False)
            monkeypatch.delenv("NO_PROXY", raising=False)
            message = unreachable(client("http://nomad.invalid:4646").check)
        assert "is not a Nomad API: status 502" in message
        assert asked[0][1].startswith("http://nomad.invalid:4646/v1/status/leader")

    def test_an_address_may_have_a_path(self):
        with answering(404, "no", Content_Type="text/plain") as (address, asked), suppress(UnreachableError):
            client(f"{address}/nomad/").check()
        assert asked[0][1].startswith("/nomad/v1/status/leader?")

    def test_a_unix_socket_is_as_good(self, tmp_path):
        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                asked.append(self.path)
                data = b'"leader"' if "leader" in self.path else b'{"ID": "x"}'
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

            def address_string(self):
                return "unix"

        asked = []
        path = tmp_path / "nomad.sock"
        with serving(Server(str(path), Handler), "unix"):
            one = client(f"unix://{path}")
            assert one.job("x") == {"ID": "x"}
            one._session.close()
        assert [one.split("?")[0] for one in asked] == ["/v1/status/leader", "/v1/namespace/default", "/v1/job/x"]

    def test_who_may_not_see_the_namespace_is_asked_once_more_who_he_is(self):
        with NomadApi().running() as api:
            api.ask_for_tokens()
            nobody = api.token()
            with pytest.raises(UnusableInputError, match="lacks `read-job`"):
                client(api.address, NOMAD_TOKEN=nobody).check()
            with pytest.raises(UnusableInputError, match="it is not known there"):
                client(api.address, NOMAD_TOKEN="7cd46b30-26ab-1e48-0f35-1ad4a8e8b9d0").check()


def test_a_router_is_not_begun_on_servers_that_it_could_not_ask():
    with NomadApi().running() as api:
        api.state.version = "1.4.12"
        image = JobImage(ref="router:1", local=True)
        router = NomadRouter(Owner(service="shop"), 8080, image, NomadSpec(), client(api.address))
        with pytest.raises(UnusableInputError, match=r"needs Nomad 1\.5 or later: the cluster runs Nomad 1\.4\.12"):
            router.make("")
        assert (api.state.jobs, api.state.variables) == ({}, {})
