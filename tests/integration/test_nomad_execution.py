"""Programs in the tasks of a real agent, spoken with through its API."""

import time
from contextlib import closing

import pytest

from mlops_deploy.adapters.keeper import KeeperClient
from mlops_deploy.adapters.nomad import execution
from mlops_deploy.adapters.nomad.client import NomadClient
from mlops_deploy.adapters.nomad.execution import exec_stream
from mlops_deploy.adapters.nomad.settings import Cluster
from mlops_deploy.errors import UnreachableError
from tests.contract.test_nomad_api import job, running

pytestmark = pytest.mark.nomad

NAME = "execution"


@pytest.fixture(scope="module")
def client(nomad_agent):
    return NomadClient(Cluster.from_environment(nomad_agent.variables))


@pytest.fixture(scope="module")
def allocation(client):
    """One whose task `main` does nothing."""
    client.register(job(NAME), None)
    yield running(client, NAME)[0]["ID"]
    client.deregister(NAME, purge=True)


@pytest.fixture
def start(client, allocation):
    """Start a program there."""
    return lambda *argv: closing(exec_stream(client, allocation, "main", argv))


def line(stream):
    got = b""
    while not got.endswith(b"\n"):
        part = stream.receive(20)
        assert part
        got += part
    return got


@pytest.mark.parametrize("size", [1, 2048, 65_536, 1 << 20])
def test_lines_of_any_length_come_back(start, size):
    with start("cat") as stream:
        for letter in (b"a", b"\xff"):
            sent = letter * size + b"\n"
            stream.send(sent, 20)
            assert line(stream) == sent


def test_many_short_lines_are_quick(start):
    with start("cat") as stream:
        begun = time.monotonic()
        for number in range(100):
            stream.send(b"%d\n" % number, 20)
            assert line(stream) == b"%d\n" % number
        assert time.monotonic() - begun < 10


def test_a_program_ends_with_its_stream(start, tmp_path):
    """It reads the end of its input, however the stream was left."""
    left = tmp_path / "left"
    with start("sh", "-c", f"echo here; cat; touch {left}") as stream:
        assert line(stream) == b"here\n"
    until = time.monotonic() + 60
    while not left.exists():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_what_goes_wrong_is_told(start, client, allocation, monkeypatch):
    failing = ("sh", "-c", "echo first >&2; sleep 0.1; echo second >&2; exit 3")
    with monkeypatch.context() as patient, start(*failing) as stream:
        patient.setattr(execution, "_LAST_WORDS", 3.0)  # a node that stalls may bring the second line late
        with pytest.raises(ConnectionError, match="first\nsecond"):
            stream.receive(20)
    with start("no-such-program") as stream, pytest.raises(ConnectionError, match="executable file not found"):
        stream.receive(20)
    unknown = exec_stream(client, allocation, "nobody", ["cat"])
    with closing(unknown) as stream, pytest.raises(ConnectionError, match="task not found"):
        stream.receive(20)


def test_a_keeper_that_is_none_is_told_within_its_time(client, allocation):
    keeper = KeeperClient(lambda: exec_stream(client, allocation, "main", ["sh", "-c", "echo no keeper >&2; exit 1"]))
    with closing(keeper), pytest.raises(UnreachableError, match="the router's keeper does not answer: no keeper"):
        keeper.observed()
