"""What a user reads who names the wrong cluster, or comes with the wrong token: one error, and nothing is changed."""

import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mlops_deploy.adapters.nomad.router import NomadRouter
from mlops_deploy.errors import UnusableInputError
from mlops_deploy.spec.nomad import NomadSpec
from mlops_deploy.spec.owner import Owner
from mlops_deploy.spec.rendered import JobImage
from tests.fakes.nomad_api import Grant

SERVICE = "commands"
STATE = f"nomad/jobs/{SERVICE}-router"
PARTS = ("a", "b", "router")
VERBS = (("release",), ("status",), ("down",), ("freeze", "-m", "why"))


@pytest.fixture
def folder(tmp_path):
    """A service on target `nomad`."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("1")
    configure(tmp_path)
    return tmp_path


def configure(folder, **nomad):
    said = {
        "service": SERVICE,
        "target": "nomad",
        "port": 18080,
        "model": {"path": "model", "name": SERVICE},
        "server": {"image": "server:1"},
        "nomad": nomad,
    }
    (folder / "mlops.yml").write_text(json.dumps({key: value for key, value in said.items() if value != {}}))


def refused(folder, code, verb, address, **environ):
    """A command that ends with `code` and one error of one line, with a hint: what it says."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NOMAD_")}
    command = [sys.executable, "-m", "mlops_deploy", *verb]
    env = clean | {"NOMAD_ADDR": address, **environ}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    error, hint = (
        [line.removeprefix(start) for line in done.stderr.splitlines() if line.startswith(start)]
        for start in ("error: ", "hint: ")
    )
    assert len(error) == len(hint) == 1, done.stderr
    return error[0], hint[0]


@pytest.fixture(params=VERBS, ids=lambda one: one[0])
def verb(request):
    return request.param


@pytest.fixture
def untouched(world):
    """The cluster has the same before and after: no job of the service, no Variable more or less."""
    client = world.client()
    before = client.variables("")
    yield world
    assert client.variables("") == before
    assert [client.job(f"{SERVICE}-{part}") for part in PARTS] == [None, None, None]


@contextmanager
def page(status):
    """A proxy that answers a page of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<html><body><h1>Welcome to the proxy</h1></body></html>")

        do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815  # names of the standard library

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_no_cluster_at_the_address(folder, verb):
    error, hint = refused(folder, 8, verb, "http://127.0.0.1:9")
    assert error == "no Nomad API answers at `http://127.0.0.1:9`: nothing listens there"
    assert "`NOMAD_ADDR`" in hint


@pytest.mark.parametrize("status", [200, 502])
def test_a_proxy_that_answers_html(folder, verb, status):
    with page(status) as address:
        error, hint = refused(folder, 8, verb, address)
    expected = f"what answers at `{address}` is not a Nomad API: status {status}, `Welcome to the proxy`"
    assert error == expected
    assert "proxy" in hint


def test_an_address_that_is_none(folder, verb):
    error, hint = refused(folder, 2, verb, "127.0.0.1:4646")
    assert error == "`NOMAD_ADDR` is `127.0.0.1:4646`, which is no address of a Nomad API"
    assert "http://127.0.0.1:4646" in hint


def test_no_token(folder, verb, untouched):
    error, hint = refused(folder, 2, verb, untouched.address)
    assert "without a token: `read-job` in namespace `default` is needed" in error
    assert "`NOMAD_TOKEN`" in hint


def test_an_unknown_token(folder, verb, untouched):
    token = "7cd46b30-26ab-1e48-0f35-1ad4a8e8b9d0"
    error, hint = refused(folder, 2, verb, untouched.address, NOMAD_TOKEN=token)
    assert error.endswith("refuses the token in `NOMAD_TOKEN`: it is not known there")
    assert token not in error + hint


@pytest.mark.parametrize(
    ("capabilities", "variables", "lacks"),
    [
        ({"read-job"}, set(), "`submit-job` in namespace `default`"),
        ({"read-job", "submit-job"}, set(), f"`read` on variables `{STATE}*` in namespace `default`"),
        ({"read-job", "submit-job"}, {"read"}, f"`write` on variables `{STATE}*` in namespace `default`"),
        ({"read-job"}, {"read", "write"}, "`submit-job` in namespace `default`"),
    ],
)
def test_a_token_that_may_do_a_part_begins_nothing(untouched, capabilities, variables, lacks):
    grant = Grant(
        capabilities=frozenset(capabilities), variables={f"{STATE}*": frozenset(variables)} if variables else {}
    )
    client, image = untouched.client(token=untouched.token(grant)), JobImage(ref="router:1", local=True)
    router = NomadRouter(Owner(service=SERVICE), 18080, image, NomadSpec(), client)
    with pytest.raises(UnusableInputError) as told:
        router.make("global\n")
    assert f"the token in `NOMAD_TOKEN` lacks {lacks}" in told.value.message
    assert told.value.exit_code == 2


@pytest.mark.parametrize("by", ["environment", "mlops.yml"])
def test_a_namespace_that_is_not_there(folder, verb, untouched, by):
    environ = {"NOMAD_TOKEN": untouched.root}
    if by == "mlops.yml":
        configure(folder, namespace="nowhere")
        environ["NOMAD_NAMESPACE"] = "default"
    else:
        environ["NOMAD_NAMESPACE"] = "nowhere"
    error, hint = refused(folder, 2, verb, untouched.address, **environ)
    assert error == "there is no namespace `nowhere` on the cluster"
    assert "`nomad namespace apply nowhere`" in hint
    assert untouched.client().raw("GET", "vars", params={"namespace": "nowhere"}).body == []


@pytest.mark.nomad
@pytest.mark.parametrize("world", ["agent"], indirect=True)
def test_a_region_that_is_not_there(folder, verb, untouched):
    environ = {"NOMAD_TOKEN": untouched.root, "NOMAD_REGION": "mars"}
    error, _ = refused(folder, 2, verb, untouched.address, **environ)
    assert error == "there is no region `mars`"
