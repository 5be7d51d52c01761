"""A stream that ends without a word: what only looks is asked again over a new one, what writes never."""

import json
from contextlib import closing

import pytest

from mlops_deploy.adapters.keeper import KeeperClient
from mlops_deploy.adapters.nomad.keeper import NomadKeeper
from mlops_deploy.adapters.nomad.ledger import Ledger
from mlops_deploy.errors import UnreachableError
from mlops_deploy.release.codec import encode
from mlops_deploy.release.effects import Answered, Lines, Stored
from mlops_deploy.release.state import CLOSED, Counters, Lane, RouterView
from tests.fakes.variables import MemoryVariables

NOTHING = Counters()
SILENT = Lane(up=False, verdict="silent", sessions=0, counters=NOTHING)
SEEN = RouterView(
    route=CLOSED, applied=CLOSED, generation=1, token=0, a=SILENT, b=SILENT, entry=NOTHING, started="once"
)


class Carrier:
    """Opens streams, each of which does one of `ends`; one that is None answers every request."""

    def __init__(self, *ends):
        self.ends, self.opened, self.asked = list(ends), 0, []

    def __call__(self):
        self.opened += 1
        return Line(self, self.ends.pop(0) if self.ends else None)


class Line:
    def __init__(self, carrier, end):
        self.carrier, self.end, self.waiting, self.closed = carrier, end, [], False

    def send(self, data, seconds):
        assert seconds > 0
        request = json.loads(data)
        self.carrier.asked.append(request["op"])
        self.waiting.append(json.dumps({"id": request["id"], "ok": ANSWERS[request["op"]]}).encode() + b"\n")

    def receive(self, seconds):
        assert not self.closed
        if seconds == 0 and not self.waiting:
            raise BlockingIOError
        match self.end:
            case None:
                return self.waiting.pop(0)
            case bytes(said):
                self.end = b""
                return said
            case error:
                raise error

    def close(self):
        self.closed = True


ANSWERS = {
    "observed": encode(SEEN),
    "get": {"value": 1, "index": 2, "age": 3},
    "keys": {"names": ["x"]},
    "journals": {"names": ["x"]},
    "read": {"lines": ["x"], "damaged": False},
    "ask": {"status": 200, "body": None},
    "put": {"index": 1},
    "append": {"index": 1},
    "commit": {"generation": 2},
    "configure": {"changed": True},
}

LOOKS = {
    "observed": (lambda keeper: keeper.observed(), SEEN),
    "get": (lambda keeper: keeper.get("x"), Stored(value=1, index=2, age=3)),
    "keys": (lambda keeper: keeper.keys("x"), ("x",)),
    "journals": (lambda keeper: keeper.journals(), ("x",)),
    "read": (lambda keeper: keeper.read("x"), Lines(lines=("x",), damaged=False)),
    "ask": (lambda keeper: keeper.ask("a", "/", None, 1), Answered(status=200, body=None)),
}
WRITES = {
    "put": lambda keeper: keeper.put("x", 1, 0, 1),
    "append": lambda keeper: keeper.append("x", "line", 0, 1),
    "commit": lambda keeper: keeper.commit(CLOSED, 1, 1),
    "configure": lambda keeper: keeper.configure("text"),
}


@pytest.mark.parametrize("op", LOOKS)
def test_what_only_looks_is_asked_again_over_a_new_stream(op):
    carrier, (look, found) = Carrier(b"", b""), LOOKS[op]
    with closing(KeeperClient(carrier)) as keeper:
        assert look(keeper) == found
        assert (carrier.opened, carrier.asked) == (3, [op] * 3)
        assert look(keeper) == found
    assert carrier.opened == 3


def test_a_keeper_that_never_says_a_word_is_not_asked_for_ever():
    carrier = Carrier(*[b""] * 9)
    with closing(KeeperClient(carrier)) as keeper, pytest.raises(UnreachableError, match="it has ended"):
        keeper.get("x")
    assert carrier.opened == 5


@pytest.mark.parametrize("op", WRITES)
def test_what_writes_is_never_sent_twice(op):
    carrier = Carrier(b"")
    with closing(KeeperClient(carrier)) as keeper, pytest.raises(UnreachableError, match="it has ended"):
        WRITES[op](keeper)
    assert carrier.asked == [op]


@pytest.mark.parametrize(
    "end", [b"half", b"Traceback", TimeoutError("its time is over"), ConnectionError("exit code 3")]
)
def test_an_end_with_a_word_or_by_an_error_is_told_at_once(end):
    carrier = Carrier(end)
    with closing(KeeperClient(carrier)) as keeper, pytest.raises(UnreachableError):
        keeper.get("x")
    assert carrier.asked == ["get"]


def test_a_configuration_is_sent_once_and_only_over_a_stream_that_has_answered():
    carrier = Carrier(b"")
    variables = MemoryVariables()
    Ledger(variables, "toy-router").lay_out("before")
    with closing(NomadKeeper(variables, "toy-router", carrier)) as keeper:
        assert keeper.configure("text")
    assert carrier.asked == ["observed", "observed", "configure"]
