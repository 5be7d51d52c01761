"""The router's image in a real engine: built once, nothing of this machine in it, spoken with over one exec stream."""

import json
import subprocess
import time
import urllib.error
import urllib.request

import docker
import pytest

from mlops_deploy.adapters.buildx import BuildKit
from mlops_deploy.adapters.docker_engine import DockerEngine
from mlops_deploy.adapters.keeper_exec import KeeperExec
from mlops_deploy.adapters.process import LocalRunner
from mlops_deploy.api.router_image import find_or_build, machine_secrets, router_tag
from mlops_deploy.errors import UnreachableError
from mlops_deploy.release.effects import Committed
from mlops_deploy.release.state import CLOSED, whole
from mlops_deploy.render.router import RouterSettings, render_router
from mlops_deploy.spec.secret import Secret
from tests.fakes.ports import free_port
from tests.fakes.routers import until

pytestmark = pytest.mark.docker

NAME = "mlops-test-router"
SERVER = """
import http.server, json, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"version": os.environ["VERSION"]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""


class Quiet:
    def say(self, text):
        pass

    warn = say


def sh(*argv):
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def build():
    return find_or_build(DockerEngine(), BuildKit(LocalRunner()), LocalRunner(), Quiet())


@pytest.fixture(scope="module")
def image(server_base):
    return build().ref


def clean():
    for thing in ("", "-a", "-b", "-wall"):
        subprocess.run(["docker", "rm", "--force", NAME + thing], capture_output=True, check=False)
    subprocess.run(["docker", "volume", "rm", f"{NAME}-state"], capture_output=True, check=False)
    subprocess.run(["docker", "network", "rm", NAME], capture_output=True, check=False)


@pytest.fixture
def router(image):
    clean()
    port = free_port()
    settings = RouterSettings(
        service="test",
        listen="*:8080",
        a=f"{NAME}-a:8080",
        b=f"{NAME}-b:8080",
        by_name=True,
        check_path="/",
        paths=("/v2",),
    )
    sh("docker", "network", "create", NAME)
    sh(
        "docker", "run", "--detach", "--name", NAME, "--network", NAME, "--read-only", "--cap-drop", "ALL",
        "--security-opt", "no-new-privileges", "--volume", f"{NAME}-state:/state",
        "--tmpfs", "/run/router:uid=65532,gid=65532,mode=0700", "--env", f"ROUTER_CONFIG={render_router(settings)}",
        "--publish", f"127.0.0.1:{port}:8080", image,
    )  # fmt: skip
    yield port
    clean()


@pytest.fixture
def keeper(router):
    client = docker.from_env()
    made = KeeperExec(client.api, NAME)
    until(lambda: answers(made))
    yield made
    made.close()
    client.close()


def answers(keeper):
    try:
        return keeper.observed().applied is not None
    except Exception:  # noqa: BLE001 - whatever it is, the test waits for it to pass
        return False


def serve(slot, version, image):
    sh("docker", "run", "--detach", "--name", f"{NAME}-{slot}", "--network", NAME, "--env", f"VERSION={version}", image,
       "python3", "-c", SERVER)  # fmt: skip


def asked(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2", timeout=20) as answer:
            return json.loads(answer.read())["version"]
    except urllib.error.HTTPError as refused:
        refused.close()
        return refused.code


def test_it_is_built_once(image):
    began = time.monotonic()
    assert build().ref == image == str(router_tag())
    assert time.monotonic() - began < 10


def test_nothing_of_this_machine_is_in_it(image):
    secrets = machine_secrets(LocalRunner())
    values = [line for value in secrets.values() if isinstance(value, Secret) for line in value.reveal().splitlines()]
    hosts = {word.split("/")[2] for line in values for word in line.split() if "://" in word}
    history = sh("docker", "history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
    assert not [host for host in hosts if host in history]
    looks = [
        f"grep -rlF '{host}' /etc /opt /root /run /tmp /usr/lib/python3* /usr/local /usr/share /var" for host in hosts
    ]
    looks += [
        "find /etc/apt /etc/ssl -type f -exec sha256sum {} +",
        "find /var/lib/apt/lists /var/log /run /tmp -type f",
    ]
    both = (image, base_of(image))
    for look in looks:
        ours, bases = (sh("docker", "run", "--rm", "--user", "0", of, "sh", "-c", f"{look} || true") for of in both)
        assert sorted(ours.splitlines()) == sorted(bases.splitlines())


def base_of(image):
    layers = json.loads(sh("docker", "image", "inspect", "--format", "{{json .RootFS.Layers}}", image))
    for base in ("mlops-base:bookworm", "python:3.11-slim-bookworm"):
        done = subprocess.run(
            ["docker", "image", "inspect", "--format", "{{json .RootFS.Layers}}", base],
            capture_output=True,
            check=False,
        )
        if done.returncode == 0 and layers[: len(json.loads(done.stdout))] == json.loads(done.stdout):
            return base
    raise AssertionError("the image stands on no base that is here")


def test_it_runs_as_nobody_on_a_read_only_root_and_keeps_its_route(router, keeper, image):
    assert sh("docker", "exec", NAME, "id", "-u").strip() == "65532"
    assert (
        sh("docker", "exec", NAME, "stat", "-c", "%u %a", "/state", "/run/router").split("\n")[:2] == ["65532 700"] * 2
    )
    view = keeper.observed()
    assert (view.route, view.a.up, view.a.verdict) == (CLOSED, False, "MAINT (resolution)")
    assert asked(router) == 503
    keeper.put("lease", {"token": 1, "holder": "test", "ttl": 600}, 0, 0)
    serve("b", "one", image)
    until(lambda: keeper.observed().b.up)
    assert keeper.ask("b", "/v2", None, 20.0).body == {"version": "one"}
    assert keeper.commit(whole("b"), 0, 1) == Committed(generation=1)
    assert asked(router) == "one"
    began = time.monotonic()
    sh("docker", "stop", "--time", "60", NAME)
    assert time.monotonic() - began < 30
    with pytest.raises(UnreachableError, match="no keeper can be started"):
        keeper.observed()
    sh("docker", "start", NAME)
    until(lambda: answers(keeper))
    assert keeper.observed().applied == whole("b")
    until(lambda: asked(router) == "one")


def test_a_server_that_is_made_anew_is_found_at_its_new_address(router, keeper, image):
    keeper.put("lease", {"token": 1, "holder": "test", "ttl": 600}, 0, 0)
    keeper.commit(whole("a"), 0, 1)
    serve("a", "one", image)
    until(lambda: keeper.observed().a.up)
    address = sh(
        "docker", "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", f"{NAME}-a"
    )
    sh("docker", "rm", "--force", f"{NAME}-a")
    serve("wall", "nobody's", image)  # takes the address that has become free
    serve("a", "two", image)
    began = time.monotonic()
    assert address != sh(
        "docker", "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", f"{NAME}-a"
    )
    until(lambda: asked(router) == "two")
    assert time.monotonic() - began < 10


def test_twenty_switches_over_the_exec_stream(router, keeper, image):
    keeper.put("lease", {"token": 1, "holder": "test", "ttl": 600}, 0, 0)
    for slot in "ab":
        serve(slot, slot, image)
    until(lambda: keeper.observed().a.up and keeper.observed().b.up)
    for generation in range(20):
        slot = "ab"[generation % 2]
        assert keeper.commit(whole(slot), generation, 1) == Committed(generation=generation + 1)
        assert keeper.ask(None, "/v2", None, 20.0).body == {"version": slot}
        assert asked(router) == slot
    view = keeper.observed()
    assert (view.entry.requests, view.entry.failed) == (40, 0)
