"""What a registry says of an upload is weighed: what is sent again, and how often, is the proof."""

import time

import pytest

from mlops_deploy.adapters.registry import upload as upload_module
from mlops_deploy.errors import DeployError, UnreachableError, UnusableInputError
from tests.fakes.registry import FakeRegistry, cloud
from tests.fakes.registry.faults import Answers, CutsRequest, Header
from tests.unit.adapters.registry.clients import QUICK, Layer, half_done, repository, stored

MIB = 2**20


def with_options(**options):
    return FakeRegistry(cloud(auth="none", **options)).running()


def sessions_of(fake, *steps):
    """The sessions that had requests of these steps, each once, in order."""
    return list(dict.fromkeys(one.name for one in fake.steps(*steps)))


def sessions_in(asked):
    return {one.name for one in asked if one.step == "patch"}


def never_taken(fake, step, times=200):
    """Each 401 of `step` names the token server, whose next token is not taken either."""
    challenge = {"WWW-Authenticate": f'Bearer realm="http://{fake.host}/token"'}
    fake.fault(step, Answers(status=401, headers=challenge, drained=True), times=times)
    fake.fault("token", Answers(status=200, body=b'{"token": "t"}'), times=3 * times)


@pytest.mark.parametrize("told", ["0-9", "0-1048574", "0-1048576", "bytes=0-9", "0-99999999"])
def test_a_session_that_has_another_number_of_bytes_is_given_up(told):
    with with_options(chunk_max=MIB) as fake:
        fake.fault("patch", Header(name="Range", value=told))
        layer = Layer.of(3 * MIB)
        layer.push(repository(fake.host))
        assert stored(fake, layer)
        first, second = sessions_of(fake, "patch")
        assert [one.name for one in fake.steps("patch")] == [first, second, second, second]
        assert sessions_of(fake, "put") == [second]
        assert sessions_of(fake, "cancel") == [first]


@pytest.mark.parametrize("told", [None, "", "0-1048575", "bytes=0-1048575", "none"])
def test_a_session_that_has_what_was_sent_or_does_not_say_so_goes_on(told):
    with with_options(chunk_max=MIB) as fake:
        fake.fault("patch", Header(name="Range", value=told))
        layer = Layer.of(2 * MIB)
        layer.push(repository(fake.host))
        assert stored(fake, layer)
        assert fake.uploaded() == 2 * MIB


@pytest.mark.parametrize("told", ["0-99999999", f"0-{4 * MIB}", "0-9", None])
def test_a_broken_session_that_cannot_stand_there_is_not_gone_on_with(told):
    """Beyond the blob, or hardly begun: another session gets all of it, and the first one no end."""
    with with_options() as fake:
        fake.fault("patch", CutsRequest(after=2 * MIB))
        fake.fault("status", Header(name="Range", value=told))
        layer = Layer.of(4 * MIB)
        layer.push(repository(fake.host))
        assert stored(fake, layer)
        first, second = sessions_of(fake, "patch")
        assert sessions_of(fake, "status") == [first]
        assert sessions_of(fake, "put") == [second]
        assert [one.received for one in fake.steps("patch") if one.name == second] == [4 * MIB]


def test_a_broken_session_goes_on_from_where_it_stands():
    with with_options() as fake:
        fake.fault("patch", CutsRequest(after=2 * MIB))
        layer = Layer.of(4 * MIB)
        layer.push(repository(fake.host))
        assert stored(fake, layer)
        assert len(fake.steps("start")) == 1
        assert fake.uploaded() < 4 * MIB + MIB // 2


def test_the_size_of_chunks_may_be_told_later():
    with with_options(chunk_max=MIB) as fake:
        fake.fault("patch", Header(name="OCI-Chunk-Max-Length", value=str(MIB // 2)))
        layer = Layer.of(2 * MIB + 5)
        layer.push(repository(fake.host))
        assert stored(fake, layer)
        assert [one.received for one in fake.steps("patch")] == [MIB, MIB // 2, MIB // 2, 5]


def test_without_progress_the_tries_of_a_blob_are_those_of_anything():
    with with_options() as fake:
        fake.fault("patch", Answers(status=503, drained=True), times=200)
        with pytest.raises(UnreachableError, match="503"):
            Layer.of(MIB).push(repository(fake.host))
        assert len(fake.steps("start")) == QUICK.tries
        assert not half_done(fake)


def test_progress_allows_the_tries_anew_but_not_without_end(monkeypatch):
    """Where each session breaks a chunk later than the one before, a blob is left when it has cost enough of them."""
    monkeypatch.setattr(upload_module, "_PROGRESS", 1000)
    with with_options(chunk_max=1000) as fake:

        def breaks(asked):
            chunks = [one for one in fake.asked if one.step == "patch" and one.name == asked.name]
            return len(chunks) > len(sessions_in(fake.asked))

        fake.fault("patch", Answers(status=503, drained=True), times=10**6, where=breaks)
        with pytest.raises(UnreachableError, match="503"):
            Layer.of(1000 * (upload_module._BREAKS + 20)).push(repository(fake.host), block=1000)
        assert len(fake.steps("start")) == upload_module._BREAKS
        assert not half_done(fake)


@pytest.mark.parametrize("step", ["patch", "put"])
def test_rights_that_are_never_had_end_in_bounded_time(step):
    with with_options() as fake:
        never_taken(fake, step)
        begun = time.monotonic()
        with pytest.raises(UnusableInputError, match="401"):
            Layer.of(1000).push(repository(fake.host))
        assert time.monotonic() - begun < 30
        assert len(fake.steps("start")) <= upload_module._BREAKS
        assert len(fake.steps(step)) <= 2 * upload_module._BREAKS
        assert not half_done(fake)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("step", ["patch", "put"])
def test_what_is_denied_is_asked_for_once(step, status):
    """Without a word on who could give the right, there is nothing to try."""
    with with_options(chunk_max=MIB) as fake:
        fake.fault(step, Answers(status=status, drained=True), times=200, skip=1 if step == "patch" else 0)
        with pytest.raises(DeployError, match=f"denied a layer of `team/digits` .{status}"):
            Layer.of(3 * MIB).push(repository(fake.host))
        assert len(fake.steps("start")) == 1
        assert [one.status for one in fake.steps(step)].count(status) == 1
        assert fake.steps("blob-head") == []
        assert not half_done(fake)


def test_a_refused_digest_is_not_looked_for_but_sent_again():
    with with_options() as fake:
        fake.fault("put", Answers(status=400, body=b'{"errors":[{"code":"DIGEST_INVALID"}]}'))
        layer = Layer.of(1000)
        layer.push(repository(fake.host))
        assert stored(fake, layer)
        assert fake.steps("blob-head") == []
        assert [one.received for one in fake.steps("patch")] == [1000, 1000]
