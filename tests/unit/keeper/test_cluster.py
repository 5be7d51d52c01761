import threading
import time

import pytest

from tests.fakes.routers import KEEPER
from tests.fakes.task_api import VARIABLE, TaskApi


@pytest.fixture
def api(tmp_path):
    made = TaskApi(tmp_path)
    yield made
    made.end()


@pytest.fixture
def cluster(api, monkeypatch):
    monkeypatch.syspath_prepend(KEEPER)
    from mlops_keeper.cluster import Cluster  # noqa: PLC0415 - found by the line above

    return Cluster(api.environment())


@pytest.fixture
def wrong(cluster):
    from mlops_keeper.wrong import WrongError  # noqa: PLC0415 - found by `cluster`

    return WrongError


def test_what_is_there_comes_at_once_and_what_is_new_when_it_comes(api, cluster):
    first = api.put("some/thing", {"one": 1})
    assert cluster.look("some/thing", 0) == ({"one": 1}, first)
    timer = threading.Timer(0.2, lambda: api.put("some/thing", {"two": 2}))
    begun = time.monotonic()
    timer.start()
    assert cluster.look("some/thing", first) == ({"two": 2}, first + 1)
    assert 0.1 < time.monotonic() - begun < 20


def test_without_news_the_old_comes_when_the_wait_is_over(api, cluster, monkeypatch):
    monkeypatch.setattr("mlops_keeper.cluster.WAIT", 0.3)
    first = api.put("some/thing", [])
    assert cluster.look("some/thing", first) == ([], first)


def test_nothing_is_none_and_its_coming_is_news(api, cluster):
    assert cluster.look("some/thing", 0) == (None, 1)
    threading.Timer(0.1, lambda: api.put("some/thing", "here")).start()
    assert cluster.look("some/thing", 1)[0] == "here"


def test_an_index_that_went_back_is_forgotten(api, cluster):
    api.put("some/thing", {})
    assert cluster.look("some/thing", 10_000) == ({}, 0)


def test_the_namespace_and_the_token_are_the_tasks_own(api, cluster):
    cluster.look("some/thing", 0)
    assert api.asked == [("some/thing", {"namespace": "apart", "index": "0", "wait": "10s"})]


@pytest.mark.parametrize(("fault", "said"), [(500, "500: No cluster leader"), (403, "403"), (302, "302")])
def test_another_status_is_a_silence_with_its_reason(api, cluster, wrong, fault, said):
    api.fault = fault
    with pytest.raises(wrong, match=said) as raised:
        cluster.look("some/thing", 0)
    assert raised.value.kind == "silent"


def test_who_does_not_answer_is_not_waited_for_for_ever(api, cluster, wrong, monkeypatch):
    monkeypatch.setattr("mlops_keeper.cluster.WAIT", 0)
    monkeypatch.setattr("mlops_keeper.cluster._SLACK", 0.2)
    api.fault = "hang"
    with pytest.raises(wrong, match="timed out"):
        cluster.look("some/thing", 0)


def test_no_socket_is_a_silence(api, cluster, wrong, tmp_path):
    (tmp_path / "api.sock").unlink()
    with pytest.raises(wrong, match=r"there is no `.*/api\.sock`"):
        cluster.look("some/thing", 0)


@pytest.mark.parametrize(
    "change",
    [
        {"route": "{"}, {"route": "[]"}, {"route": '{"share_b": 1}'}, {"config": None}, {"route": None},
        {"route": '{"share_b": 10001, "closed": false, "generation": 1, "token": 1}'},
    ],
)  # fmt: skip
def test_a_variable_without_a_route_and_a_configuration_is_none(api, cluster, wrong, change):
    from mlops_keeper.following import Source  # noqa: PLC0415 - found by `cluster`

    api.route(0, 1, config="global\n")
    assert Source(api.environment()).ledger(0)[0][1] == "global\n"
    document = api.documents[f"var/{VARIABLE}"][0]
    items = {name: text for name, text in (document["Items"] | change).items() if text is not None}
    api.put(f"var/{VARIABLE}", document | {"Items": items})
    with pytest.raises(wrong, match="holds no route and configuration"):
        Source(api.environment()).ledger(0)


def registration(host, port, order=1, job="svc-a"):
    return {"Address": host, "Port": port, "CreateIndex": order, "JobID": job}


def test_the_newest_registration_of_the_job_is_the_address(cluster):
    from mlops_keeper.addresses import newest  # noqa: PLC0415 - found by `cluster`

    some = [registration("10.0.0.1", 80), registration("fd00::1", 81, 3), registration("10.0.0.2", 82, 2)]
    assert newest(some, "svc-a") == ("fd00::1", 81)
    assert newest([registration("10.0.0.1", 80, 9, "other"), *some[:1]], "svc-a") == ("10.0.0.1", 80)
    assert newest([], "svc-a") is None
    assert newest(None, "svc-a") is None


@pytest.mark.parametrize(
    "place", [("host", 80), ("10.0.0.1 port 1;", 80), ("10.0.0.1", 0), ("10.0.0.1", "80"), ("", 1)]
)
def test_only_an_address_of_numbers_is_one(cluster, wrong, place):
    from mlops_keeper.addresses import newest  # noqa: PLC0415 - found by `cluster`

    with pytest.raises(wrong, match="is no address"):
        newest([registration(*place)], "svc-a")


def test_a_slot_that_is_registered_at_no_address_is_nowhere_and_no_longer_where_it_was(api, cluster, capfd):
    from mlops_keeper.following import Source  # noqa: PLC0415 - found by `cluster`

    told = Source(api.environment())
    api.put("service/svc-a", [registration("10.0.0.1", 80)])
    place, index = told.address("a", 0)
    assert place == ("10.0.0.1", 80)
    api.put("service/svc-a", [registration("10.0.0.1", 80), registration("node.example", 81, 2)])
    assert told.address("a", index) == (None, api.index)
    assert "slot a is registered where nobody can be asked: `node.example:81` is no address" in capfd.readouterr().err


def test_the_file_of_a_slot_says_where_it_is(cluster, state):
    from mlops_keeper import addresses  # noqa: PLC0415 - found by `cluster`
    from mlops_keeper.folder import Folder  # noqa: PLC0415 - as above

    folder = Folder(str(state.root))
    assert addresses.write(folder, "a", ("fd00::1", 81))
    assert not addresses.write(folder, "a", ("fd00::1", 81))
    assert (state.root / "slot-a.cfg").read_text() == (
        "global\n    setenv SLOT_A [fd00::1]:81\n    setenv SLOT_A_STATE enabled\n"
    )
    assert not addresses.known(folder)
    assert addresses.write(folder, "b", None)
    assert (state.root / "slot-b.cfg").read_text().endswith("setenv SLOT_B_STATE disabled\n")
    assert addresses.known(folder)
