"""One blob down: taken up where it broke, never more than promised, never longer than it makes sense."""

import time
import tracemalloc
from collections import deque
from dataclasses import replace

import pytest

from mlops_deploy.errors import ContentMismatchError, UnreachableError, UnusableInputError
from mlops_deploy.spec.refs import Digest
from tests.contract.registry_worlds import environ_for
from tests.fakes.registry import FakeRegistry, cloud, distribution
from tests.fakes.registry.faults import Answers, Bomb, CutsAnswer, Drips, Endless, Header, Stalls, WrongSize
from tests.unit.adapters.registry.clients import PATH, QUICK, Layer, repository

MIB = 2**20
SIZE = 3 * MIB + 11


@pytest.fixture(params=["distribution", "cdn"])
def fake(request):
    kind = distribution() if request.param == "distribution" else cloud(auth="none")
    with FakeRegistry(kind).running() as running:
        running.bodies = "blob" if request.param == "distribution" else "cdn"
        yield running


@pytest.fixture
def layer(fake):
    found = Layer.of(SIZE)
    fake.content.plant_blob(PATH, found.data)
    return found


def got(fake, layer, **options):
    return b"".join(repository(fake.host).read(layer.digest, **options))


@pytest.mark.parametrize("size", [None, SIZE])
@pytest.mark.parametrize("start", [0, 1, MIB, SIZE - 1])
def test_a_blob_comes_down_from_any_byte_on(fake, layer, start, size):
    assert got(fake, layer, start=start, size=size) == layer.data[start:]
    assert [one.headers.get("range") for one in fake.steps("blob")] == [f"bytes={start}-" if start else None]


def test_from_its_end_on_there_is_nothing(fake, layer):
    assert got(fake, layer, start=SIZE, size=SIZE) == b""
    assert got(fake, layer, start=SIZE) == b""


def test_pieces_are_of_bounded_size(fake, layer):
    assert max(len(piece) for piece in repository(fake.host).read(layer.digest)) <= MIB


@pytest.mark.parametrize("size", [None, SIZE])
@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("after", [0, 1, 65_536, MIB + 1, SIZE - 1])
def test_what_breaks_goes_on_where_it_broke(fake, layer, after, reset, size):
    fake.fault(fake.bodies, CutsAnswer(after=after, reset=reset), times=3)
    assert got(fake, layer, start=5, size=size) == layer.data[5:]
    # A reset takes with it what had arrived and was not read yet.
    assert reset or fake.downloaded() < 2 * SIZE


@pytest.mark.parametrize("size", [None, SIZE])
def test_a_registry_without_ranges_begins_anew_and_loses_nothing(fake, layer, size):
    fake.fault(fake.bodies, CutsAnswer(after=MIB), times=1)
    # The double does not look at a range whose unit it does not know, as the specification of HTTP wants.
    fake.fault(fake.bodies, IgnoresRange(), times=99)
    assert got(fake, layer, start=5, size=size) == layer.data[5:]


class IgnoresRange(Header):
    def __init__(self):
        super().__init__(name="Content-Range", value=None)

    def instead(self, asked):
        asked.headers.pop("range", None)


@pytest.mark.parametrize(
    "told", [None, "bytes 0-9/10", f"bytes 7-{SIZE - 1}/{SIZE}", "bytes x-y/z", "bytes 5-6", "lines 5-9/10"]
)
def test_another_part_than_was_asked_for_is_an_error_or_skipped(fake, layer, told):
    fake.fault(fake.bodies, Header(name="Content-Range", value=told), times=99)
    with pytest.raises(ContentMismatchError, match=f"the registry `{fake.host}`"):
        got(fake, layer, start=5, size=SIZE)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_trouble_passes(fake, layer, status):
    fake.fault(fake.bodies, Answers(status=status), times=3)
    assert got(fake, layer, size=SIZE) == layer.data


def test_what_is_not_there_is_told_as_such(fake):
    with pytest.raises(FileNotFoundError):
        b"".join(repository(fake.host).read(Digest("0" * 64)))


def test_a_refusal_is_told_with_the_words_of_the_registry(fake, layer):
    fake.fault(fake.bodies, Answers(status=403, body=b"<Error><Code>Expired</Code></Error>"), times=99)
    with pytest.raises(UnusableInputError, match="Expired"):
        got(fake, layer)


@pytest.mark.parametrize("more", [1, MIB])
def test_more_than_promised_is_refused_before_it_comes(fake, layer, more):
    fake.fault(fake.bodies, WrongSize(more=more), times=99)
    with pytest.raises(ContentMismatchError, match="more than its"):
        next(repository(fake.host).read(layer.digest, size=SIZE))


def test_less_than_promised_is_an_error(fake, layer):
    fake.fault(fake.bodies, WrongSize(more=-1), times=99)
    with pytest.raises(ContentMismatchError, match="1 bytes less"):
        got(fake, layer, size=SIZE)


@pytest.mark.parametrize("promised", [None, 10**15])
def test_a_body_without_end_is_left_when_there_is_enough(fake, layer, promised):
    fake.fault(fake.bodies, Endless(promised=promised), times=99)
    tracemalloc.start()
    with pytest.raises(ContentMismatchError, match="more"):
        deque(repository(fake.host).read(layer.digest, size=SIZE), maxlen=0)
    assert tracemalloc.get_traced_memory()[1] < 16 * MIB
    tracemalloc.stop()


def test_a_bomb_is_not_defused_but_refused(fake, layer):
    fake.fault(fake.bodies, Bomb(size=2**24))
    with pytest.raises(ContentMismatchError, match="encoded as `gzip`"):
        got(fake, layer, size=SIZE)


def test_silence_ends_and_the_rest_is_asked_for(fake, layer):
    fake.fault(fake.bodies, Stalls(seconds=30, after=MIB))
    pace, begun = replace(QUICK, silence=0.5), time.monotonic()
    assert b"".join(repository(fake.host, pace=pace).read(layer.digest, size=SIZE)) == layer.data
    assert time.monotonic() - begun < 20


def test_a_drip_is_as_silence(fake, layer):
    fake.fault(fake.bodies, Drips(size=1, seconds=0.05), times=99)
    pace = replace(QUICK, tries=1, silence=1)  # a drip that is late by that is silence itself
    begun = time.monotonic()
    with pytest.raises(UnreachableError, match="next to nothing"):
        b"".join(repository(fake.host, pace=pace).read(layer.digest, size=SIZE))
    assert time.monotonic() - begun < 20


def test_a_registry_that_breaks_off_each_time_is_given_up(fake, layer):
    fake.fault(fake.bodies, CutsAnswer(after=10), times=999)
    with pytest.raises(UnreachableError, match="did not answer to the blob"):
        got(fake, layer, size=SIZE)
    assert len(fake.steps("blob")) <= QUICK.tries + 1


def test_progress_is_never_given_up(fake, layer):
    fake.fault(fake.bodies, CutsAnswer(after=300_000), times=999)
    assert got(fake, layer, size=SIZE) == layer.data


def test_the_right_to_read_stays_with_the_registry(tmp_path):
    with FakeRegistry(cloud()).running() as fake:
        layer = Layer.of(MIB)
        fake.content.plant_blob(PATH, layer.data)
        environ = environ_for(tmp_path, fake.host)
        pieces = repository(fake.host, environ=environ).read(layer.digest, start=7, size=MIB)
        assert b"".join(pieces) == layer.data[7:]
        (asked,) = fake.steps("cdn")
        assert "authorization" not in asked.headers
        assert asked.headers["range"] == "bytes=7-"
        assert asked.headers["accept-encoding"] == "identity"


def test_who_stops_reading_frees_the_connection(fake, layer):
    used = repository(fake.host)
    pieces = used.read(layer.digest, size=SIZE)
    next(pieces)
    pieces.close()
    assert b"".join(used.read(layer.digest)) == layer.data
