"""What the engine says of two containers, and what Compose says when it fails, becomes a state and a cause."""

import dataclasses
from types import SimpleNamespace

import pytest

from mlops_deploy.adapters.compose.program import Up, down_argv, lost_the_race, router_error, up_argv
from mlops_deploy.adapters.compose.tasks import Container, Past, ending, judge
from mlops_deploy.adapters.docker_engine import Endpoint
from mlops_deploy.adapters.faults import Fault
from mlops_deploy.errors import DeployError, UnreachableError, UnusableInputError

CREATED = 1_000_000.0
INSPECTED = {
    "Id": "f" * 64,
    "Created": "2026-11-21T02:38:13.653257017Z",
    "State": {
        "Status": "restarting",
        "ExitCode": 137,
        "OOMKilled": True,
        "Error": "",
        "StartedAt": "2026-11-21T02:38:15.85618Z",
    },
    "RestartCount": 4,
    "HostConfig": {"RestartPolicy": {"Name": "unless-stopped"}, "Memory": 67_108_864},
    "Config": {"Labels": {"a": "b"}},
}
HEALTHY = Container(
    id="f" * 64,
    status="running",
    code=0,
    starved=False,
    error="",
    restarts=0,
    policy="unless-stopped",
    created=CREATED,
    started=CREATED + 1,
    memory=64 << 20,
    labels={},
)
COPIED = dataclasses.replace(HEALTHY, status="exited", policy="no")


def server(**changes):
    return dataclasses.replace(HEALTHY, **changes)


def bootstrap(**changes):
    return dataclasses.replace(COPIED, **changes)


def judged(one, two, *, past=None, after=2.0, doing=None):
    return judge(one, two, past=past or Past(), now=CREATED + after, doing=doing)


def test_an_inspection_is_read():
    found = Container.read(INSPECTED)
    assert (found.status, found.code, found.starved, found.restarts) == ("restarting", 137, True, 4)
    assert (found.policy, found.memory, found.labels) == ("unless-stopped", 64 << 20, {"a": "b"})
    assert found.started - found.created == pytest.approx(2.202923)


def test_a_container_that_never_started_is_read():
    state = {**INSPECTED["State"], "Status": "created", "StartedAt": "0001-01-01T00:00:00Z"}
    assert Container.read({**INSPECTED, "State": state, "Config": {"Labels": None}}).started < 0


@pytest.mark.parametrize(
    ("one", "two", "doing", "state"),
    [
        (None, None, None, "absent"),
        (None, None, "up", "preparing"),
        (bootstrap(status="running"), None, "up", "preparing"),
        (bootstrap(status="running"), server(status="created"), None, "preparing"),
        (COPIED, server(status="created"), "up", "preparing"),
        (COPIED, server(status="created"), None, "stopped"),
        (bootstrap(status="created"), server(status="created"), None, "stopped"),
        (COPIED, HEALTHY, None, "running"),
        (COPIED, HEALTHY, "up", "running"),
        (None, HEALTHY, None, "running"),
        (COPIED, server(status="restarting", code=1, restarts=1), None, "running"),
        (COPIED, server(status="paused"), None, "running"),
        (COPIED, server(status="exited"), None, "stopped"),
        (COPIED, server(status="exited", code=137), None, "stopped"),
        (COPIED, server(status="exited", code=143), None, "stopped"),
        (COPIED, server(status="exited", code=1, policy="no"), "down", "running"),
        (COPIED, None, "down", "running"),
        (None, None, "down", "absent"),
        (COPIED, None, None, "stopped"),
    ],
)
def test_states(one, two, doing, state):
    assert judged(one, two, doing=doing) == state


@pytest.mark.parametrize(
    ("one", "past", "message"),
    [
        (None, Past(), None),
        (HEALTHY, Past(), None),
        (server(status="created"), Past(), None),
        (server(status="exited", code=137), Past(), "the server was stopped from outside, and ended with 137"),
        (server(status="exited", policy="no"), Past(), "the server ended with 0"),
        (server(restarts=1), Past(code=70), "the server ended with 70, and was started again"),
        (server(restarts=1), Past(), "the server ended, and was started again"),
        (
            server(status="restarting", code=5, restarts=2),
            Past(code=70),
            "the server ended with 5, and was started again",
        ),
        (server(restarts=1, started=CREATED - 90), Past(), None),
    ],
)
def test_how_a_server_ended_that_is_not_given_up(one, past, message):
    assert ending(one, past, CREATED + 2) == message


@pytest.mark.parametrize(
    ("one", "two", "kind", "message", "task"),
    [
        (bootstrap(code=65), None, "bootstrap", "ended with 65: the carrier is damaged, or", "bootstrap"),
        (bootstrap(code=73), None, "bootstrap", "ended with 73: the slot's volume cannot be written", "bootstrap"),
        (bootstrap(code=74), None, "bootstrap", "ended with 74: the slot's volume has no room", "bootstrap"),
        (bootstrap(code=77), None, "bootstrap", "ended with 77: something else stands", "bootstrap"),
        (bootstrap(code=78), None, "bootstrap", "ended with 78: its settings are wrong", "bootstrap"),
        (bootstrap(code=1), None, "bootstrap", "ended with 1: the carrier's script did not", "bootstrap"),
        (bootstrap(code=74, starved=True), None, "memory", "wants more than its 64 MiB", "bootstrap"),
        (bootstrap(status="created", code=127, error="no sh"), None, "start", "cannot be started: no sh", "bootstrap"),
        (COPIED, server(status="exited", code=137, starved=True), "memory", "see `resources.memory`", "server"),
        (COPIED, server(status="restarting", code=137, starved=True, restarts=1), "memory", "64 MiB", "server"),
        (COPIED, server(status="exited", code=3, policy="no"), "crash", "the server ended with 3", "server"),
        (COPIED, server(status="exited", code=3, policy="on-failure"), "crash", "ended with 3", "server"),
        (COPIED, server(status="created", code=127, error="no python"), "start", "started: no python", "server"),
        (
            COPIED,
            server(status="restarting", code=70, restarts=3),
            "crash",
            "again and again: it ended with 70",
            "server",
        ),
    ],
)
def test_causes(one, two, kind, message, task):
    found = judged(one, two)
    assert isinstance(found, Fault)
    assert (found.kind, found.task) == (kind, task)
    assert message in found.message


def test_what_earlier_runs_ended_with_counts_until_the_server_has_settled():
    again = server(restarts=1, started=CREATED + 5)
    assert judged(COPIED, again, past=Past(starved=True), after=6).kind == "memory"
    assert judged(COPIED, again, past=Past(starved=True), after=5 + 61) == "running"


def test_three_quick_crashes_are_final_and_three_in_a_year_are_not():
    quick = server(restarts=3, started=CREATED + 5)
    assert judged(COPIED, quick, past=Past(code=70), after=6).message.endswith("it ended with 70")
    assert judged(COPIED, quick, after=6).message.endswith("it ended")
    assert judged(COPIED, server(restarts=2, started=CREATED + 5), after=6) == "running"
    rare = server(restarts=3, started=CREATED + 3e7)
    assert judged(COPIED, rare, after=3e7 + 1) == "running"
    assert judged(COPIED, server(restarts=3, started=CREATED + 3e7, status="restarting"), after=3e7) == "running"


def failed(*lines, code=1):
    return Up(None, SimpleNamespace(wait=lambda _: code, last_lines=lines))


def test_what_compose_fails_for():
    absent = failed("Error response from daemon: No such image: digits:0123456789ab").fault()
    assert (absent.kind, absent.message) == ("image", "the image `digits:0123456789ab` is not in the engine")
    other = failed("first", "Error response from daemon: network x not found", "").fault()
    assert (other.kind, other.message) == ("start", "compose does not start it: network x not found")
    assert other.lines == ("first", "Error response from daemon: network x not found")


@pytest.mark.parametrize(
    "line",
    [
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
        "error during connect: Post http://%2Fvar: EOF",
    ],
)
def test_an_engine_that_went_away_is_no_cause(line):
    assert failed(line).fault() is None
    assert isinstance(router_error([line], 1), UnreachableError)


def test_an_up_is_over_when_its_program_is():
    assert (failed(code=None).running, failed(code=None).failed) == (True, False)
    assert (failed(code=0).running, failed(code=0).failed) == (False, False)
    assert (failed(code=1).running, failed(code=1).failed) == (False, True)


@pytest.mark.parametrize(
    "line",
    [
        "Error response from daemon: driver failed: Bind for 127.0.0.1:9000 failed: port is already allocated",
        "Error starting userland proxy: listen tcp4 127.0.0.1:9000: bind: address already in use",
    ],
)
def test_a_taken_port_is_named(line):
    error = router_error(["x", line], 9000)
    assert isinstance(error, UnusableInputError)
    assert error.message == "port 9000 is taken on the machine of the engine"
    assert "`port`" in error.hint


def test_who_was_slower_is_told_from_who_failed():
    said = 'Conflict. The container name "/x-router-router-1" is already in use by container "f00"'
    assert lost_the_race(said)
    assert not lost_the_race("Bind for 127.0.0.1:9000 failed: port is already allocated")
    assert not lost_the_race("listen tcp4 127.0.0.1:9000: bind: address already in use")


def test_other_troubles_of_the_router_are_told_in_compose_s_words():
    assert router_error(["a", "b: c"], 1).message == "the router cannot be started: b: c"
    assert type(router_error([], 1)) is DeployError
    assert router_error(["docker: 'compose' is not a docker command."], 1).exit_code == 8
    assert router_error(["Error: No such image: mlops-router:1"], 1).exit_code == 2


def test_nothing_but_the_file_counts():
    for argv in (up_argv("digits-a"), down_argv("digits-a", 12.4)):
        assert argv[:2] == ("docker", "compose")
        assert argv[argv.index("--env-file") + 1] == "/dev/null"
        assert argv[argv.index("--project-name") + 1] == "digits-a"
    assert down_argv("digits-a", 12.4)[-2:] == ("--timeout", "13")


class TestEndpoint:
    """One engine for both: the SDK, which knows no contexts, and the docker program, which does."""

    @pytest.fixture(autouse=True)
    def clean(self, monkeypatch):
        for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG"):
            monkeypatch.delenv(name, raising=False)

    def test_a_host_rules_out_contexts(self, monkeypatch):
        monkeypatch.setenv("DOCKER_HOST", "unix:///x.sock")
        monkeypatch.setenv("DOCKER_CONTEXT", "other")
        variables = Endpoint.resolve().variables()
        assert variables["DOCKER_HOST"] == "unix:///x.sock"
        assert "DOCKER_CONTEXT" not in variables

    def test_what_steers_compose_is_left_out(self, monkeypatch):
        monkeypatch.setenv("COMPOSE_PROJECT_NAME", "x")
        monkeypatch.setenv("COMPOSE_FILE", "y")
        variables = Endpoint.resolve().variables()
        assert not [name for name in variables if name.startswith("COMPOSE_")]
        assert variables["DOCKER_CONTEXT"] == "default"

    def test_a_context_that_is_not_there(self, monkeypatch, tmp_path):
        monkeypatch.setenv("DOCKER_CONTEXT", "nope")
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        with pytest.raises(UnreachableError, match="there is no docker context `nope`"):
            Endpoint.resolve()
