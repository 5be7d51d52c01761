"""One blob up: whatever breaks, it arrives once and whole, or there is one clear error and nothing is left."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Thread, Timer

import pytest

from mlops_deploy.adapters.registry import modes as modes_module
from mlops_deploy.adapters.registry.modes import STREAM, UNSIZED, WHOLE, Mode, Modes
from mlops_deploy.errors import ContentMismatchError, DeployError, UnreachableError, UnusableInputError
from tests.contract.registry_worlds import environ_for
from tests.fakes.registry import FakeRegistry, cloud, distribution
from tests.fakes.registry.faults import Answers, Corrupts, CutsRequest, Header, Loses, Stalls, TooLarge
from tests.unit.adapters.registry.clients import QUICK, Layer, half_done, repository, stored

MIB = 2**20
KINDS = {"distribution": distribution, "cloud": lambda **options: cloud(auth="none", **options)}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.fixture
def fake(kind):
    with FakeRegistry(kind()).running() as running:
        yield running


def with_options(**options):
    return FakeRegistry(cloud(auth="none", **options)).running()


@pytest.mark.parametrize("size", [0, 1, 3 * MIB + 7])
def test_a_blob_goes_up_in_one_pass(fake, size):
    layer = Layer.of(size)
    layer.push(repository(fake.host))
    assert stored(fake, layer)
    assert [step for step, _ in fake.story] == ["start", "patch", "put"][:: 1 if size else 2]
    assert fake.uploaded() == size
    assert layer.reread == 0


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("after", [0, 1, 65_536, 1_500_000, 3 * MIB - 1, 3 * MIB])
def test_a_connection_that_is_cut_costs_nothing_but_time(fake, after, reset):
    fake.fault("patch", CutsRequest(after=after, reset=reset))
    layer = Layer.of(3 * MIB)
    layer.push(repository(fake.host))
    assert stored(fake, layer)


def test_a_session_that_the_registry_kept_goes_on_where_it_broke():
    with with_options() as fake:
        fake.fault("patch", CutsRequest(after=5 * MIB))
        layer = Layer.of(8 * MIB)
        layer.push(repository(fake.host))
        assert stored(fake, layer)
        assert len(fake.steps("start")) == 1
        assert fake.uploaded() < 8 * MIB + MIB


@pytest.mark.parametrize("step", ["start", "put"])
@pytest.mark.parametrize("fault", [CutsRequest(), CutsRequest(reset=True), Loses(), Answers(status=500)])
def test_any_step_may_fail(fake, step, fault):
    fake.fault(step, fault)
    layer = Layer.of(MIB)
    layer.push(repository(fake.host))
    assert fake.content.has("team/digits", str(layer.digest))


@pytest.mark.parametrize(("fault", "commit"), [(Loses(), 10), (Stalls(seconds=30), 1.5)])
def test_a_lost_answer_to_the_end_sends_nothing_twice(fake, fault, commit):
    fake.fault("put", fault)
    layer = Layer.of(MIB)
    layer.push(repository(fake.host, pace=replace(QUICK, commit=commit)))
    assert stored(fake, layer)
    assert fake.uploaded() == MIB
    assert layer.reread == 0
    assert len(fake.steps("put")) == 1


def test_a_lost_answer_to_the_bytes_is_asked_for():
    with with_options() as fake:
        fake.fault("patch", Loses())
        layer = Layer.of(2 * MIB)
        layer.push(repository(fake.host))
        assert stored(fake, layer)
        assert fake.uploaded() == 2 * MIB


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_trouble_of_the_registry_passes(fake, status):
    for step in ("start", "patch", "put"):
        fake.fault(step, Answers(status=status, body=b"<html><title>Bad Gateway</title>", drained=True), times=3)
    layer = Layer.of(MIB)
    used = repository(fake.host)
    layer.push(used)
    assert fake.content.has("team/digits", str(layer.digest))
    assert used.held_back == (9 if status in {429, 503} else 0)


def test_trouble_that_does_not_pass_is_told_with_registry_step_and_reason(fake):
    for step in ("patch", "put"):
        fake.fault(step, Answers(status=502, body=b"<title>502 Bad Gateway</title>more", drained=True), times=999)
    layer = Layer.of(MIB)
    with pytest.raises(UnreachableError) as caught:
        layer.push(repository(fake.host))
    assert caught.value.message.startswith(f"the registry `{fake.host}`")
    assert "a layer of `team/digits`: 502 Bad Gateway" in caught.value.message
    assert not half_done(fake)


def test_what_is_asked_for_is_waited(fake):
    fake.fault("patch", Answers(status=429, headers={"Retry-After": "1"}, drained=True))
    begun = time.monotonic()
    Layer.of(MIB).push(repository(fake.host))
    assert time.monotonic() - begun >= 0.05


def test_a_refusal_in_the_middle_of_a_body_is_seen_at_once(fake):
    fake.fault("patch", TooLarge(limit=0), times=1)
    layer = Layer(bytes(48 * MIB))
    layer.push(repository(fake.host))
    assert fake.steps("patch")[0].received < 24 * MIB
    assert stored(fake, layer)


def test_smaller_requests_follow_where_large_ones_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(modes_module, "_CHUNKS", (960 * 1024, 320 * 1024, 80 * 1024))
    modes = Modes(tmp_path / "modes.json")
    with with_options() as fake:
        fake.fault("patch", TooLarge(limit=400 * 1024), times=999)
        layer = Layer.of(1000 * 1024)
        layer.push(repository(fake.host, modes=modes))
        assert stored(fake, layer)
        assert modes.mode(fake.host) == Mode(kind="chunked", chunk=320 * 1024)
        fake.asked.clear()
        Layer.of(990 * 1024).push(repository(fake.host, modes=Modes(tmp_path / "modes.json")))
        assert [step for step, _ in fake.story] == ["start", *["patch"] * 4, "put"]


def test_no_length_where_only_that_is_taken():
    modes = Modes(None)
    with with_options(longest_patch=MIB) as fake:
        layer = Layer.of(3 * MIB)
        layer.push(repository(fake.host, modes=modes))
        assert stored(fake, layer)
    assert modes.mode(fake.host) == UNSIZED


def test_whole_blobs_where_no_patch_is_taken():
    modes = Modes(None)
    with with_options(streams=False) as fake:
        layer = Layer.of(3 * MIB)
        layer.push(repository(fake.host, modes=modes))
        assert stored(fake, layer)
        assert modes.mode(fake.host) == WHOLE
        second = Layer.of(3 * MIB + 1)
        second.push(repository(fake.host, modes=modes))
        assert stored(fake, second)
        assert second.reread == 1


def test_chunks_are_as_large_as_the_registry_says():
    with with_options(chunk_max=MIB, chunk_min=MIB // 2) as fake:
        layer = Layer.of(3 * MIB + 5)
        layer.push(repository(fake.host))
        assert stored(fake, layer)
        assert [one.received for one in fake.steps("patch")] == [MIB, MIB, MIB, 5]


@pytest.mark.parametrize("after", [0, 1, 1_000_000])
def test_a_chunk_that_breaks_is_sent_again(after):
    with with_options(chunk_max=MIB) as fake:
        fake.fault("patch", CutsRequest(after=after), skip=1)
        layer = Layer.of(3 * MIB + 5)
        layer.push(repository(fake.host))
        assert stored(fake, layer)


def test_a_first_patch_may_be_created():
    with with_options(first_patch_status=201) as fake:
        layer = Layer.of(MIB)
        layer.push(repository(fake.host))
        assert stored(fake, layer)
        assert fake.uploaded() == MIB


def test_a_session_that_is_gone_is_replaced(fake):
    fake.fault("patch", Answers(status=404, drained=True))
    fake.fault("put", Answers(status=404))
    layer = Layer.of(MIB)
    layer.push(repository(fake.host))
    assert fake.content.has("team/digits", str(layer.digest))


def test_fewer_bytes_than_were_sent_are_sent_again(fake):
    fake.fault("patch", Header(name="Range", value="0-9"))
    layer = Layer.of(MIB)
    layer.push(repository(fake.host))
    assert fake.content.has("team/digits", str(layer.digest))


def test_bytes_that_changed_on_the_way_are_sent_again(fake):
    fake.fault("patch", Corrupts(at=1000))
    layer = Layer.of(MIB)
    layer.push(repository(fake.host))
    assert stored(fake, layer)


def test_bytes_that_change_every_time_are_an_error(fake):
    fake.fault("patch", Corrupts(at=1000), times=99)
    with pytest.raises(ContentMismatchError, match="other bytes than it is sent"):
        Layer.of(MIB).push(repository(fake.host))
    assert not half_done(fake)


def test_a_registry_that_stored_something_else_is_not_believed(fake):
    fake.fault("put", Header(name="Docker-Content-Digest", value="sha256:" + "0" * 64))
    with pytest.raises(ContentMismatchError, match="stored other bytes"):
        Layer.of(MIB).push(repository(fake.host))


@pytest.mark.parametrize("change", [lambda data: b"?" + data[1:], lambda data: data[:1000]])
def test_a_source_that_changed_is_an_error(fake, change):
    layer = Layer.of(MIB)
    wanted = layer.digest
    fake.fault("patch", CutsRequest(after=1000))
    layer.again = lambda: [change(layer.data)]
    with pytest.raises(UnusableInputError, match="changed while it was sent"):
        layer.push(repository(fake.host))
    assert not half_done(fake)
    assert not fake.content.has("team/digits", str(wanted))


def test_an_error_of_the_source_is_passed_on_and_the_session_is_cancelled(fake):
    def again():
        raise UnusableInputError("the model file `m` changed while it was read")

    fake.fault("patch", CutsRequest(after=1000))
    layer = Layer.of(2 * MIB)
    layer.again = again
    with pytest.raises(UnusableInputError, match="the model file `m`"):
        layer.push(repository(fake.host))
    assert not half_done(fake)


def test_what_is_given_up_is_cancelled(fake):
    upload = repository(fake.host).upload(2 * MIB, list)
    upload.write(memoryview(bytes(MIB)))
    upload.abort()
    upload.abort()
    assert not half_done(fake)
    with pytest.raises(DeployError, match="given up"):
        upload.write(memoryview(bytes(MIB)))


def test_giving_up_after_the_end_changes_nothing(fake):
    layer = Layer.of(MIB)
    layer.push(repository(fake.host)).abort()
    assert stored(fake, layer)


def test_giving_up_ends_what_waits_in_another_thread(fake):
    fake.fault("patch", Stalls(seconds=9.0), times=9)
    layer, failed = Layer.of(MIB), []
    upload = repository(fake.host, pace=replace(QUICK, silence=30, commit=30)).upload(MIB, layer.again)

    def write():
        try:
            upload.write(memoryview(layer.data))
        except DeployError as error:
            failed.append(error.message)

    thread = Thread(target=write)
    thread.start()
    (giving_up := Timer(0.1, upload.abort)).start()
    begun = time.monotonic()
    thread.join(20)
    took = time.monotonic() - begun
    giving_up.join()
    assert failed == ["a layer of `team/digits` was given up"]
    assert took < 8


def test_rights_that_end_in_the_middle_are_had_anew(tmp_path):
    with FakeRegistry(cloud(chunk_max=MIB)).running() as fake:
        layer = Layer.of(2 * MIB)
        upload = repository(fake.host, environ=environ_for(tmp_path, fake.host)).upload(2 * MIB, layer.again)
        upload.write(memoryview(layer.data)[:MIB])
        fake.expire_tokens()
        upload.write(memoryview(layer.data)[MIB:])
        fake.expire_tokens()
        upload.commit(layer.digest)
        assert stored(fake, layer)
        assert len(fake.steps("token")) == 3
        assert [status for step, status in fake.story if step == "put"] == [401, 201]


@pytest.mark.parametrize("status", [400, 403, 405])
def test_what_is_refused_is_refused_with_the_words_of_the_registry(fake, status):
    body = b'{"errors":[{"code":"DENIED","message":"no\\u001b[31m room","detail":{"a":1}}]}'
    fake.fault("start", Answers(status=status, body=body, headers={"Content-Type": "application/json"}), times=99)
    with pytest.raises(UnusableInputError) as caught:
        Layer.of(MIB).push(repository(fake.host))
    assert caught.value.message.endswith("DENIED: no [31m room")
    assert len(fake.asked) == 1


def test_several_go_up_side_by_side_whatever_breaks(fake):
    for after in (0, 1000, MIB, 2 * MIB):
        fake.fault("patch", CutsRequest(after=after, reset=after == MIB))
    ours, layers = repository(fake.host), [Layer.of(3 * MIB + number) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda layer: layer.push(ours), layers))
    assert all(stored(fake, layer) for layer in layers)


def test_the_mode_is_the_best_one_at_first():
    assert Modes(None).mode("any") == STREAM


def test_rights_that_are_refused_without_end_end(fake):
    """Each 401 names a token server anew, and the token that it gives is not taken either."""
    challenge = {"WWW-Authenticate": f'Bearer realm="http://{fake.host}/token"'}
    fake.fault("put", Answers(status=401, headers=challenge), times=200)
    fake.fault("token", Answers(status=200, body=b'{"token": "t"}'), times=500)
    with pytest.raises(UnusableInputError, match="401"):
        Layer.of(1000).push(repository(fake.host))
    assert len(fake.steps("put")) < 60


def test_what_is_denied_in_the_middle_is_not_begun_again(fake):
    fake.fault("patch", Answers(status=403), times=99)
    with pytest.raises(UnusableInputError, match="403"):
        Layer.of(1000).push(repository(fake.host))
    assert len(fake.steps("start")) == 1


def test_what_arrived_as_something_else_is_not_looked_for(fake):
    fake.fault("put", Answers(status=400, body=b'{"errors":[{"code":"DIGEST_INVALID"}]}'))
    layer = Layer.of(1000)
    layer.push(repository(fake.host))
    assert stored(fake, layer)
    assert fake.steps("blob-head") == []
