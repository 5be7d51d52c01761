"""A push and a read through every fault that a registry has: the bytes are right, or there is one clear error."""

import itertools
import json
import time
from dataclasses import replace

import pytest

from mlops_deploy.errors import ContentMismatchError, DeployError, UnreachableError, UnusableInputError
from mlops_deploy.oci.types import MANIFEST
from tests.contract.registry_blobs import Source, described, digest_of, image, send, small, some
from tests.contract.registry_worlds import QUICK, fake_world
from tests.fakes.registry import (
    Answers,
    Bomb,
    Corrupts,
    CutsAnswer,
    CutsRequest,
    Drips,
    Endless,
    Header,
    Loses,
    Stalls,
    TooLarge,
    WrongSize,
    cloud,
    distribution,
)

MIB = 2**20
SIZE = 3 * MIB
KINDS = {"distribution": distribution, "cloud": cloud}
HTML = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
FAILURES = {
    "500": Answers(status=500, drained=True),
    "502-page": Answers(status=502, body=HTML, headers={"Content-Type": "text/html"}),
    "503": Answers(status=503),
    "429": Answers(status=429, headers={"Retry-After": "0"}, drained=True),
    "cut": CutsRequest(),
    "reset": CutsRequest(reset=True),
    "lost": Loses(),
    "lost-reset": Loses(reset=True),
}


NO_DIGESTS = ["sha256:../../x", "sha256:" + "0" * 63, "sha256:" + "A" * 64, "md5:" + "0" * 32, "x"]
OTHER_BYTES = [Corrupts(at=3), WrongSize(more=1), WrongSize(more=-1), Endless(), Endless(promised=2**40), Bomb()]
ASTRAY = ["", "http://169.254.169.254/latest", "file:///etc/passwd", "//10.0.0.1/x", "http://u:p@[::1]:1/"]


@pytest.fixture(params=KINDS)
def world(request, tmp_path):
    with fake_world(tmp_path, KINDS[request.param]()) as one:
        yield one


def one_of(tmp_path, **options):
    return fake_world(tmp_path, distribution(**options))


def push(world, *, size=SIZE):
    """A layer and the image around it, tagged; everything is right afterwards."""
    repository, data = world.repository("team/digits"), some(size)
    manifest = image(repository, data)
    repository.put_document(str(manifest.descriptor.digest), manifest)
    repository.put_document("1", manifest)
    require_right(world, data, manifest)


def require_right(world, data, manifest):
    content = world.fake.content
    assert content.tags["team/digits"]["1"] == str(manifest.descriptor.digest)
    assert content.read(str(digest_of(data))) == data
    assert content.dangling() == []


def stored(world, data):
    return str(digest_of(data)) in world.fake.content.links["team/digits"]


class TestPush:
    @pytest.mark.parametrize("fault", FAILURES)
    @pytest.mark.parametrize("step", ["start", "patch", "put", "blob-head", "manifest-put", "ping", "token"])
    def test_what_fails_is_tried_again(self, world, step, fault):
        for skip in (0, 2):
            world.fake.fault(step, FAILURES[fault], skip=skip)
        push(world)
        assert world.fake.content.stored[str(digest_of(some(SIZE)))] == 1

    @pytest.mark.parametrize("step", ["start", "patch", "put", "blob-head", "manifest-put", "token"])
    def test_three_times_500(self, world, step):
        world.fake.fault(step, Answers(status=500), times=3)
        push(world)

    @pytest.mark.parametrize("after", [0, 1, 65_536, MIB, SIZE - 1])
    @pytest.mark.parametrize("reset", [False, True])
    def test_a_stream_that_breaks(self, world, after, reset):
        world.fake.fault("patch", CutsRequest(after=after, reset=reset))
        push(world)
        most = 2 * SIZE if world.kind == "distribution" else SIZE + MIB
        assert world.fake.uploaded() <= most + 1000

    def test_a_stream_that_breaks_again_and_again(self, world):
        for after in (MIB, 2 * MIB, 10, SIZE - 10):
            world.fake.fault("patch", CutsRequest(after=after))
        push(world)

    def test_the_end_was_done_and_nobody_was_told(self, world):
        """The registry has the blob: nothing is sent twice."""
        world.fake.fault("put", Loses())
        world.fake.fault("manifest-put", Loses())
        push(world)
        assert world.fake.uploaded() < SIZE + 1000
        assert set(world.fake.content.stored.values()) == {1}

    def test_the_end_times_out_at_the_registry(self, world):
        world.fake.fault("put", Header(name="X", value=None, status=504))
        push(world)
        assert world.fake.uploaded() < SIZE + 1000

    def test_no_answer_to_the_end(self, world):
        world.fake.fault("put", Stalls(seconds=30))
        repository, data = world.repository("team/digits", pace=replace(QUICK, commit=1)), some(SIZE)
        send(repository, data)
        assert world.fake.content.stored[str(digest_of(data))] == 1

    @pytest.mark.parametrize("step", ["patch", "put"])
    @pytest.mark.parametrize("status", [404, 416])
    def test_a_session_that_is_forgotten(self, world, step, status):
        world.fake.fault(step, Answers(status=status, body=b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}'))
        push(world)

    @pytest.mark.parametrize("told", ["0-1023", "0-99999999", "bytes=0-5", "junk", "5-1", "0--1", "0-" + "9" * 40, ""])
    def test_a_wrong_range(self, world, told):
        world.fake.fault("patch", Header(name="Range", value=told))
        push(world)

    def test_a_token_that_ends_between_two_requests(self, tmp_path):
        with fake_world(tmp_path, cloud(chunk_max=MIB)) as world:
            repository, data = world.repository("team/digits"), some(SIZE)
            upload = repository.upload(SIZE, Source(data).again)
            for at in range(0, SIZE, MIB // 2):
                upload.write(memoryview(data)[at : at + MIB // 2])
                world.fake.expire_tokens()
            upload.commit(digest_of(data))
            assert world.fake.content.read(str(digest_of(data))) == data

    def test_a_token_of_a_second(self, tmp_path):
        with fake_world(tmp_path, cloud(token_seconds=1)) as world:
            push(world)
            time.sleep(1.1)
            push(world, size=1000)

    @pytest.mark.parametrize("step", ["start", "patch", "put", "manifest-put"])
    def test_401_out_of_nowhere(self, tmp_path, step):
        with fake_world(tmp_path, cloud()) as world:
            challenge = {
                "WWW-Authenticate": f'Bearer realm="{world.fake.url}/token",scope="repository:team/digits:pull,push"'
            }
            world.fake.fault(step, Answers(status=401, headers=challenge))
            push(world)

    @pytest.mark.parametrize("header", ["0", "1", "junk", "-5", "Thu, 01 Jan 1970 00:00:00 GMT"])
    def test_429_waits_as_long_as_it_is_told(self, world, header):
        world.fake.fault("patch", Answers(status=429, headers={"Retry-After": header}))
        began = time.monotonic()
        push(world)
        assert time.monotonic() - began > (0.9 if header == "1" else 0)
        assert world.repository("team/digits").held_back == 0

    def test_429_is_counted(self, world):
        repository = world.repository("team/digits")
        world.fake.fault("*", Answers(status=429, headers={"Retry-After": "0"}), times=2)
        repository.put_blob(small(b"{}"))
        assert repository.held_back == 2

    def test_chunks_of_what_a_proxy_lets_through(self, tmp_path):
        """413 for what is above ten MiB, as of nginx; the second upload knows it beforehand."""
        with one_of(tmp_path) as world:
            for step in ("patch", "put", "whole"):
                world.fake.fault(step, TooLarge(limit=10 * MIB), times=99)
            data = some(20 * MIB)
            send(world.repository("team/digits"), data)
            assert world.fake.content.read(str(digest_of(data))) == data
            world.fake.asked.clear()
            send(world.repository("team/digits"), some(20 * MIB, 1))
            assert 413 not in [status for _, status in world.fake.story]

    @pytest.mark.parametrize(
        "options",
        [
            {"longest_patch": 4 * MIB},
            {"first_patch_status": 201},
            {"one_patch_only": True},
            {"streams": False},
            {"chunk_max": MIB},
            {"chunk_min": 5 * MIB, "chunk_max": 6 * MIB},
            {"chunk_max": MIB, "longest_patch": MIB, "checks_range": True, "location": "relative"},
        ],
        ids=str,
    )
    def test_what_clouds_do(self, tmp_path, options):
        with one_of(tmp_path, **options) as world:
            push(world, size=17 * MIB + 5)
            world.fake.asked.clear()
            send(world.repository("team/digits"), some(9 * MIB, 1))
            assert not [one for one in world.fake.asked if one.step != "blob-head" and (one.status or 999) >= 400]

    def test_no_way_is_left(self, tmp_path):
        """Each way to send is refused: one error, soon, that names the registry."""
        with one_of(tmp_path) as world:
            for step in ("patch", "put", "whole"):
                world.fake.fault(step, TooLarge(limit=10), times=999)
            with pytest.raises(UnusableInputError, match=f"`{world.host}`.*413"):
                send(world.repository("team/digits"), some(SIZE))
            assert len(world.fake.asked) < 60

    @pytest.mark.parametrize("fault", ["500", "502-page", "503", "429", "cut", "reset"])
    @pytest.mark.parametrize("step", ["start", "patch", "put", "manifest-put"])
    def test_what_goes_on_failing_ends(self, world, step, fault):
        for one in {step, "put" if step == "patch" else step}:
            world.fake.fault(one, FAILURES[fault], times=9999)
        with pytest.raises(UnreachableError, match=f"`{world.host}`"):
            push(world, size=1000)
        assert len(world.fake.asked) < 120
        assert world.fake.content.tags["team/digits"] == {}

    @pytest.mark.parametrize("status", [400, 403, 405])
    @pytest.mark.parametrize("step", ["start", "manifest-put"])
    def test_what_is_refused_ends_at_once(self, world, step, status):
        body = b'{"errors":[{"code":"DENIED","message":"your plan\\u001b[2J is over"}]}'
        world.fake.fault(step, Answers(status=status, body=body), times=99)
        with pytest.raises(UnusableInputError, match=f"{status}.*your plan") as caught:
            push(world, size=1000)
        assert "\x1b" not in str(caught.value)
        assert len([one for one in world.fake.steps(step) if one.status == status]) <= 2
        assert world.fake.content.tags["team/digits"] == {}

    def test_other_bytes_arrive_once(self, world):
        world.fake.fault("patch", Corrupts(at=SIZE // 2))
        push(world)

    def test_other_bytes_arrive_always(self, world):
        world.fake.fault("patch", Corrupts(at=SIZE // 2), times=99)
        world.fake.fault("put", Corrupts(at=SIZE // 2), times=99)
        with pytest.raises(ContentMismatchError):
            push(world)
        assert world.fake.content.tags["team/digits"] == {}

    @pytest.mark.parametrize("step", ["put", "manifest-put"])
    def test_it_says_that_it_has_stored_something_else(self, world, step):
        world.fake.fault(step, Header(name="Docker-Content-Digest", value=f"sha256:{'1' * 64}"), times=99)
        with pytest.raises(ContentMismatchError):
            push(world)
        if step == "put":
            assert world.fake.content.tags["team/digits"] == {}

    @pytest.mark.parametrize(("step", "location"), [("start", None), *itertools.product(("start", "patch"), ASTRAY)])
    def test_a_location_that_leads_astray(self, world, step, location):
        world.fake.fault(step, Header(name="Location", value=location), times=99)
        with pytest.raises(DeployError) as caught:
            push(world)
        assert caught.value.exit_code in {2, 8, 12}
        assert world.fake.content.tags["team/digits"] == {}

    def test_a_source_that_is_not_the_same_when_it_is_read_again(self, world):
        data = some(SIZE)
        world.fake.fault("patch", CutsRequest(after=MIB))
        world.fake.fault("status", Answers(status=404), times=9)
        with pytest.raises(DeployError):
            send(world.repository("team/digits"), data, source=Source(some(SIZE // 2)))
        assert not stored(world, data)


class TestReading:
    @pytest.fixture
    def data(self, world):
        data = some(SIZE)
        world.fake.content.plant_blob("team/digits", data)
        return data

    def step(self, world):
        return "cdn" if world.kind == "cloud" else "blob"

    def read(self, world, data, **options):
        return b"".join(world.repository("team/digits").read(digest_of(data), **options))

    @pytest.mark.parametrize("fault", FAILURES)
    @pytest.mark.parametrize("start", [0, 1000])
    def test_what_fails_is_tried_again(self, world, data, fault, start):
        world.fake.fault(self.step(world), FAILURES[fault], times=2)
        assert self.read(world, data, start=start) == data[start:]

    @pytest.mark.parametrize("after", [0, 1, 65_537, MIB, SIZE - 1])
    @pytest.mark.parametrize("sized", [True, False])
    @pytest.mark.parametrize("reset", [True, False])
    def test_what_breaks_is_taken_up_where_it_broke(self, world, data, after, sized, reset):
        world.fake.fault(self.step(world), CutsAnswer(after=after, reset=reset))
        assert self.read(world, data, size=SIZE if sized else None) == data
        # A reset may take with it what was on the way.
        assert world.fake.downloaded() <= (2 * SIZE if reset else SIZE + MIB)

    def test_a_token_ends_meanwhile(self, tmp_path):
        with fake_world(tmp_path, cloud(cdn=False)) as world:
            data = some(SIZE)
            world.fake.content.plant_blob("team/digits", data)
            world.fake.fault("blob", CutsAnswer(after=MIB))
            reading = world.repository("team/digits").read(digest_of(data))
            got = next(reading)
            world.fake.expire_tokens()
            assert got + b"".join(reading) == data

    def test_200_for_a_range(self, world, data):
        """The whole again: what is known is left out."""
        world.fake.fault(self.step(world), CutsAnswer(after=MIB))
        world.fake.fault(self.step(world), Whole(data))
        assert self.read(world, data, size=SIZE) == data

    @pytest.mark.parametrize("told", ["bytes 5-10/20", "bytes 0-3145727/3145728", "junk", None])
    def test_a_part_that_was_not_asked_for(self, world, data, told):
        world.fake.fault(self.step(world), CutsAnswer(after=MIB))
        world.fake.fault(self.step(world), Header(name="Content-Range", value=told), times=99)
        try:
            found = self.read(world, data, size=SIZE)
        except DeployError as error:
            assert error.exit_code in {8, 12}  # noqa: PT017 - either is right
        else:
            # It says that it is another part, from which ours can be had.
            assert len(found) <= SIZE

    @pytest.mark.parametrize("more", [1, 1000, -1, -1000])
    def test_longer_or_shorter_than_it_should_be(self, world, data, more):
        world.fake.fault(self.step(world), WrongSize(more=more), times=99)
        pieces = []
        with pytest.raises(DeployError) as caught:
            pieces.extend(world.repository("team/digits").read(digest_of(data), size=SIZE))
        assert caught.value.exit_code in {8, 12}
        assert sum(map(len, pieces)) <= SIZE

    @pytest.mark.parametrize("promised", [None, 2**40, SIZE])
    def test_it_does_not_end(self, world, data, promised):
        world.fake.fault(self.step(world), Endless(promised=promised), times=99)
        got = 0
        try:
            for piece in world.repository("team/digits").read(digest_of(data), size=SIZE):
                got += len(piece)
        except ContentMismatchError:
            pass
        assert got <= SIZE
        assert world.fake.downloaded() < 100 * MIB

    def test_packed_although_nobody_asked(self, world, data):
        world.fake.fault(self.step(world), Bomb(), times=99)
        with pytest.raises(ContentMismatchError):
            self.read(world, data, size=SIZE)

    def test_it_stalls(self, world, data):
        world.fake.fault(self.step(world), Stalls(seconds=30, after=MIB))
        repository = world.repository("team/digits", pace=replace(QUICK, silence=0.5))
        assert b"".join(repository.read(digest_of(data), size=SIZE)) == data

    def test_next_to_nothing_comes(self, world, data):
        world.fake.fault(self.step(world), Drips(size=1, seconds=0.05), times=99)
        repository = world.repository("team/digits", pace=replace(QUICK, silence=0.4, tries=2))
        began = time.monotonic()
        with pytest.raises(UnreachableError):
            list(repository.read(digest_of(data), size=SIZE))
        assert time.monotonic() - began < 30

    def test_other_bytes_are_not_its_affair(self, world, data):
        """Who reads hashes; the length is right all the same."""
        world.fake.fault(self.step(world), Corrupts(at=5))
        assert len(self.read(world, data, size=SIZE)) == SIZE


class Whole(Answers):
    """200 with all of it, whatever was asked for."""

    def __init__(self, data):
        super().__init__(status=200, body=data)


class TestDocuments:
    @pytest.fixture
    def manifest(self, world):
        data = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "annotations": {"a": "b" * 100}}).encode()
        world.fake.content.plant_manifest("team/digits", data, MANIFEST, "1")
        return small(data, MANIFEST)

    @pytest.mark.parametrize("fault", FAILURES)
    def test_what_fails_is_tried_again(self, world, manifest, fault):
        for step in ("manifest", "manifest-head"):
            world.fake.fault(step, FAILURES[fault], times=2)
        repository = world.repository("team/digits")
        assert repository.resolve("1") == manifest.descriptor
        assert repository.document(manifest.descriptor.digest) == manifest.data

    @pytest.mark.parametrize("after", [0, 1, 60])
    def test_what_breaks_is_asked_for_again(self, world, manifest, after):
        world.fake.fault("manifest", CutsAnswer(after=after), times=2)
        assert world.repository("team/digits").document(manifest.descriptor.digest) == manifest.data

    def test_a_head_that_says_little(self, world, manifest):
        world.fake.fault("manifest-head", Header(name="Docker-Content-Digest", value=None))
        assert world.repository("team/digits").resolve("1") == manifest.descriptor

    @pytest.mark.parametrize(
        "told", ["sha256:../../x", "sha256:" + "0" * 63, "sha256:" + "A" * 64, "md5:" + "0" * 32, "x"]
    )
    @pytest.mark.parametrize("step", ["manifest-head", "manifest"])
    def test_what_is_no_digest(self, world, manifest, told, step):
        world.fake.fault(step, Header(name="Docker-Content-Digest", value=told), times=99)
        repository = world.repository("team/digits")
        if step == "manifest-head":
            with pytest.raises(ContentMismatchError):
                repository.resolve("1")
        else:
            assert repository.document(manifest.descriptor.digest) == manifest.data

    @pytest.mark.parametrize("fault", OTHER_BYTES, ids=str)
    def test_other_bytes(self, world, manifest, fault):
        world.fake.fault("manifest", fault, times=99)
        with pytest.raises(ContentMismatchError):
            world.repository("team/digits").document(manifest.descriptor.digest)
        assert sum(one.sent for one in world.fake.steps("manifest")) < 100 * MIB

    def test_another_digest_than_was_asked_for(self, world, manifest):
        other = described(b"other").digest
        world.fake.content.plant_manifest("team/digits", manifest.data, MANIFEST, str(other))
        with pytest.raises(ContentMismatchError):
            world.repository("team/digits").document(other)
