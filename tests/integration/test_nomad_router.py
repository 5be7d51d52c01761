"""The router as a job on a real agent: registered once, in step with the cluster, there again whatever stops it."""

import http.client
import json
import socket
import subprocess
import threading
from contextlib import suppress
from dataclasses import replace

import pytest

from mlops_deploy.adapters.buildx import BuildKit
from mlops_deploy.adapters.docker_engine import DockerEngine
from mlops_deploy.adapters.keeper import KEEPER
from mlops_deploy.adapters.nomad.client import NomadClient
from mlops_deploy.adapters.nomad.execution import exec_stream
from mlops_deploy.adapters.nomad.keeper import NomadKeeper
from mlops_deploy.adapters.nomad.router import NomadRouter
from mlops_deploy.adapters.nomad.settings import Cluster
from mlops_deploy.adapters.process import LocalRunner
from mlops_deploy.api.router_image import find_or_build
from mlops_deploy.errors import DeployError, UnusableInputError
from mlops_deploy.release.effects import Committed
from mlops_deploy.release.state import CLOSED, whole
from mlops_deploy.render.job import PIDS
from mlops_deploy.render.nomad_router import TASK, router_document, router_id, router_variable
from mlops_deploy.render.router import RouterSettings, render_router
from mlops_deploy.spec.nomad import NomadSpec
from mlops_deploy.spec.owner import Owner
from mlops_deploy.spec.rendered import JobImage
from mlops_deploy.spec.secret import Secret
from tests.fakes.ports import free_port
from tests.fakes.routers import until
from tests.integration.nomad_agent import agent

pytestmark = [pytest.mark.nomad, pytest.mark.docker]

SPEC = NomadSpec(shutdown_delay=0.0)
SETTINGS = RouterSettings(service="svc", listen=None, a=None, b=None, by_name=False, check_path="/", paths=("/v2",))
CONFIG = render_router(SETTINGS)
SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = os.environ["VERSION"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["NOMAD_PORT_http"])), Handler).serve_forever()
"""


class Quiet:
    def say(self, text):
        pass

    warn = say


class Routed:
    """A router of a test's own, and small servers in its slots."""

    def __init__(self, agent, image, name, namespace="default"):
        self.agent, self.image, self.owner, self.port = agent, image, Owner(service=name), free_port()
        self.namespace, self.generation = f"?namespace={namespace}", 0
        self.path = f"/v1/var/{router_variable(self.owner)}{self.namespace}"
        token = Secret(agent.token) if agent.token else None
        self.cluster = Cluster(address=agent.address, namespace=namespace, token=token)
        self.client = NomadClient(self.cluster)

    def router(self, **other):
        chosen = {"port": self.port, "image": self.image, "nomad": SPEC, **other}
        return NomadRouter(self.owner, client=NomadClient(self.cluster), **chosen)

    def serve(self, slot):
        name = f"{self.owner.project}-{slot}"
        task = {
            "Name": "server",
            "Driver": "raw_exec",
            "Config": {"command": "/usr/bin/env", "args": ["python3", "-c", SERVER]},
            "Env": {"VERSION": slot},
            "Resources": {"CPU": 20, "MemoryMB": 64},
            "Services": [{"Name": name, "Provider": "nomad", "PortLabel": "http"}],
        }
        group = {"Name": "slot", "Networks": [{"DynamicPorts": [{"Label": "http"}]}], "Tasks": [task]}
        job = {"ID": name, "Name": name, "Type": "service", "Datacenters": ["*"], "TaskGroups": [group]}
        self.agent.ask("POST", f"/v1/jobs{self.namespace}", {"Job": job})

    def restarts(self, allocation):
        return self.agent.ask("GET", f"/v1/allocation/{allocation}")["TaskStates"][TASK]["Restarts"]

    def items(self):
        return self.agent.ask("GET", self.path)["Items"]

    def commit(self, share_b, *, closed=False):
        self.generation += 1
        route = {"share_b": share_b, "closed": closed, "generation": self.generation, "token": 1}
        self.agent.ask("PUT", self.path, {"Items": self.items() | {"route": json.dumps(route)}})

    def version(self):
        """What answers at the entry, a status that is not 200, or None."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/v2")
            answer = connection.getresponse()
            body = answer.read().decode()
        except OSError:
            return None
        else:
            return body if answer.status == 200 else answer.status
        finally:
            connection.close()

    def container(self):
        return f"{TASK}-{self.router().allocation()}"

    def keeper(self):
        found = self.router().allocation()
        return NomadKeeper(self.client, router_id(self.owner), lambda: exec_stream(self.client, found, TASK, KEEPER))

    def end(self):
        for part in ("a", "b", "router"):
            with suppress(OSError):
                self.agent.ask("DELETE", f"/v1/job/{self.owner.project}-{part}{self.namespace}&purge=true")
        self.agent.ask("DELETE", self.path)


@pytest.fixture(scope="module")
def image(server_base):
    return find_or_build(DockerEngine(), BuildKit(LocalRunner()), LocalRunner(), Quiet())


@pytest.fixture
def routed(nomad_agent, image, request):
    made = Routed(nomad_agent, image, f"rt-{abs(hash(request.node.name)) % 10**6}")
    yield made
    made.end()


@pytest.fixture(scope="module")
def shared(nomad_agent, image):
    made = Routed(nomad_agent, image, "rt-shared")
    made.router().make(CONFIG)
    for slot in "ab":
        made.serve(slot)
    yield made
    made.end()


@pytest.fixture
def live(shared):
    """A router that sends everything to slot b."""
    shared.commit(10_000)
    until(lambda: shared.version() == "b", 60)
    return shared


def refused(action, match):
    with pytest.raises(DeployError, match=match) as raised:
        action()
    return raised.value


def test_of_several_first_releases_one_registers_and_all_find_it(routed):
    done = []

    def make():
        routed.router().make(CONFIG)
        done.append(routed.version())

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [503] * 4
    assert routed.agent.ask("GET", f"/v1/job/{router_id(routed.owner)}")["Version"] == 0
    assert routed.items()["config"] == CONFIG


def test_what_was_registered_is_what_would_be(live):
    assert live.router().differs() is None
    document = router_document(live.owner, live.port, live.image, SPEC)
    assert live.client.plan(document)["Diff"]["Type"] == "None"


def test_its_task_may_do_as_little_as_possible(live):
    shown = json.loads(subprocess.run(["docker", "inspect", live.container()], capture_output=True, check=True).stdout)
    (found,) = shown
    host = found["HostConfig"]
    assert (host["NetworkMode"], host["ReadonlyRootfs"], host["Privileged"]) == ("host", True, False)
    assert (host["CapDrop"], host["SecurityOpt"], host["CapAdd"]) == (["ALL"], ["no-new-privileges"], None)
    assert (host["Memory"], host["PidsLimit"]) == (256 << 20, PIDS)
    assert found["Config"]["User"] == "65532:65532"
    assert "ROUTER_CONFIG" not in str(found["Config"]["Env"])


def test_an_address_follows_its_server_and_one_that_is_gone_is_nobodys(live):
    live.agent.ask("DELETE", f"/v1/job/{live.owner.project}-b")
    until(lambda: live.version() == 503, 60)
    live.serve("b")
    until(lambda: live.version() == "b", 60)
    (there,) = live.client.services(f"{live.owner.project}-b")
    live.agent.ask("POST", f"/v1/allocation/{there['AllocID']}/stop")
    until(lambda: live.client.services(f"{live.owner.project}-b") not in ([], [there]), 60)
    until(lambda: live.version() == "b", 60)


def test_a_router_that_was_started_again_has_the_committed_share(live):
    before = live.router().allocation()
    live.agent.ask("PUT", f"/v1/client/allocation/{before}/restart", {"TaskName": TASK})
    until(lambda: live.restarts(before) == 1 and live.router().allocation() == before, 60)
    assert until(live.version, 60) == "b"
    subprocess.run(["docker", "kill", live.container()], capture_output=True, check=True)
    until(lambda: live.restarts(before) == 2 and live.router().allocation() == before, 60)
    assert until(live.version, 60) == "b"


def test_a_router_on_another_allocation_has_the_committed_share(live):
    before = live.router().allocation()
    live.agent.ask("POST", f"/v1/allocation/{before}/stop")
    until(lambda: live.router().allocation() not in {None, before}, 60)
    assert until(live.version, 60) == "b"


def test_its_keeper_is_spoken_with_through_the_api_alone(live):
    keeper = live.keeper()
    try:
        view = keeper.observed()
        assert (view.route, view.applied, view.generation) == (whole("b"), whole("b"), live.generation)
        assert keeper.ask("a", "/v2", None, 5.0).status == 200
        index = keeper.get("lease").index
        keeper.put("lease", {"token": 9, "holder": "test", "ttl": 60.0}, index, 0)
        assert keeper.commit(CLOSED, live.generation, 9) == Committed(generation=live.generation + 1)
        live.generation += 1
        until(lambda: keeper.observed().applied == CLOSED, 60)
        assert keeper.configure(render_router(replace(SETTINGS, answer=77)))
        assert live.version() == 503
        assert keeper.configure(CONFIG)
        assert live.items()["config"] == CONFIG
    finally:
        keeper.close()


def test_another_job_takes_the_place_with_the_same_share(live):
    other = live.router(nomad=replace(SPEC, priority=60))
    assert other.differs() == "its job is not as it would be registered now"
    other.replace(CONFIG)
    assert live.version() == "b"
    assert other.differs() is None
    before = other.allocation()
    other.replace(CONFIG)
    assert other.allocation() != before, "asked for, so made anew although nothing differs"
    live.router().replace(CONFIG)
    assert live.version() == "b"


def test_a_job_that_does_not_come_up_gives_its_place_back(live):
    absent = live.router(image=JobImage(ref="mlops-router:nowhere", local=True))
    assert absent.differs() == f"it runs the image `{live.image.ref}`, not `mlops-router:nowhere`"
    error = refused(lambda: absent.replace("nonsense"), "image `mlops-router:nowhere` is not in the engine of node")
    assert error.exit_code == 2
    assert live.router().differs() is None
    assert live.version() == "b"
    assert live.items()["config"] == CONFIG


def test_a_router_that_was_stopped_is_registered_again_as_it_was_left(live):
    router = live.router()
    live.agent.ask("DELETE", f"/v1/job/{router_id(live.owner)}")
    until(lambda: live.version() is None, 60)
    assert router.allocation() is None
    router.make("another configuration, which a router that was there before does not take")
    assert live.version() == "b"
    assert live.items()["config"] == CONFIG


def test_a_port_that_a_job_has_is_told(live, routed):
    # A node with a second address gives the port on that one, where no client would look for the router.
    told = f"has given port {live.port} to another job|cannot listen at 127.0.0.1:{live.port}: address already in use"
    error = refused(lambda: routed.router(port=live.port).make(CONFIG), told)
    assert isinstance(error, UnusableInputError)
    assert error.hint == "stop what has it, or set another `port`"
    assert nothing_of(routed)


def test_a_port_that_a_stranger_has_is_told(routed):
    with socket.create_server(("127.0.0.1", routed.port)):
        error = refused(
            lambda: routed.router().make(CONFIG), f"cannot listen at 127.0.0.1:{routed.port}: address already in use"
        )
    assert isinstance(error, UnusableInputError)
    assert nothing_of(routed)


def test_an_image_that_is_not_there_is_told(routed):
    absent = routed.router(image=JobImage(ref="mlops-router:nowhere", local=True))
    error = refused(lambda: absent.make(CONFIG), "image `mlops-router:nowhere` is not in the engine of node")
    assert isinstance(error, UnusableInputError)
    assert nothing_of(routed)


def test_a_configuration_that_is_none_is_told_with_the_proxys_words(routed):
    error = refused(lambda: routed.router().make("nonsense"), "the router ended with 2 on node")
    assert any("unknown keyword 'nonsense'" in line for line in error.detail)
    assert nothing_of(routed)


def test_a_place_that_does_not_exist_is_told(routed):
    nowhere = routed.router(nomad=replace(SPEC, datacenters=("nowhere",)))
    error = refused(lambda: nowhere.make(CONFIG), "no node is ready in datacenter `nowhere`")
    assert error.exit_code == 2
    assert nothing_of(routed)


def test_a_job_that_is_not_ours_is_left_alone(routed):
    name = router_id(routed.owner)
    task = {"Name": "x", "Driver": "raw_exec", "Config": {"command": "/bin/sleep", "args": ["600"]}}
    group = {"Name": "x", "Tasks": [task | {"Resources": {"CPU": 20, "MemoryMB": 16}}]}
    job = {"ID": name, "Name": name, "Type": "service", "Datacenters": ["*"], "TaskGroups": [group]}
    routed.agent.ask("POST", "/v1/jobs", {"Job": job})
    router = routed.router()
    actions = (lambda: router.make(CONFIG), lambda: router.replace(CONFIG), router.differs, router.remove)
    for action in (*actions, router.allocation):
        assert refused(action, f"there is a job `{name}`").exit_code == 2
    assert not routed.agent.ask("GET", f"/v1/job/{name}")["Stop"]
    assert routed.client.variable(router_variable(routed.owner)) is None


def test_under_acls_its_own_identity_is_all_that_it_needs(image, tmp_path_factory):
    with agent(tmp_path_factory.mktemp("n"), acl=True) as guarded:
        guarded.ask("PUT", "/v1/namespace/apart", {"Name": "apart"})
        routed = Routed(guarded, image, "rt-apart", namespace="apart")
        try:
            routed.router().make(CONFIG)
            assert routed.version() == 503
            routed.serve("a")
            routed.commit(0)
            until(lambda: routed.version() == "a", 60)
        finally:
            routed.end()


def test_it_serves_on_while_the_agent_is_away_and_follows_again_afterwards(image, tmp_path_factory):
    with agent(tmp_path_factory.mktemp("n")) as restarted:
        routed = Routed(restarted, image, "rt-away")
        try:
            routed.router().make(CONFIG)
            routed.serve("a")
            routed.commit(0)
            until(lambda: routed.version() == "a", 60)
            restarted.stop()
            assert routed.version() == "a"
            restarted.start()
            routed.serve("b")
            routed.commit(10_000)
            until(lambda: routed.version() == "b", 60)
        finally:
            routed.end()


def test_what_was_removed_is_gone_and_may_be_made_again_with_its_share(live):
    router = live.router()
    router.remove()
    assert live.version() is None
    assert (router.allocation(), router.differs()) == (None, None)
    router.remove()
    router.make(render_router(replace(SETTINGS, answer=78)))
    assert live.version() == "b"
    assert "timeout server 78s" in live.items()["config"]


def nothing_of(routed):
    """Whether a first release that failed has left neither job nor variable."""
    job = routed.client.job(router_id(routed.owner))
    return job is None and routed.client.variable(router_variable(routed.owner)) is None
