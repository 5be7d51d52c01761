"""A candidate that fails, whatever way: told at once with its own message, nothing exposed, no request failed."""

import json
import time

import pytest

from tests.integration.releasing import TINY, docker, until

pytestmark = pytest.mark.docker

SLOW = 60
"""Seconds that the slow model loads for."""

DEADLINE = "90s"
"""Far more than what a failure that waiting does not mend may take to be told."""

SOON = 60

CRASHES_AT = "/tmp/crash"  # noqa: S108 - in the container
"""Where a server finds that it should crash, once."""

MOST_BAD = 20
"""Requests that may fail with a server that dies in the middle of them."""


@pytest.fixture(scope="module")
def live(shared_service):
    """Version 1 is live, version 2 is built."""
    shared_service.versions = shared_service.build_all(1, 2)
    shared_service.configure(ready={"golden": "golden.jsonl", "deadline": DEADLINE})
    shared_service.release(1)
    return shared_service


@pytest.fixture
def loaded(live):
    """Requests come in meanwhile; at the end none has failed, and all were answered by a version that was live."""
    before = live.config
    with live.load() as load:
        time.sleep(1)
        yield live
        count = load.end()
    live.restore(before)
    assert count["failed"] == 0, count
    assert count["rate"] >= 100, "there was traffic all the time"
    assert set(count["answered"]) <= set(live.versions.values())


def refused(service, message, *, within, **environment):
    """A release of version 2 that ends with 4 and this message; what it wrote on stderr."""
    service.use(2)
    service.configure(env=environment)
    started = time.monotonic()
    done = service.run("release", "--model", f"{service.name}:2", code=4)
    took = time.monotonic() - started
    assert message in done.stderr, done.stderr
    assert took < within, done.stderr
    status = service.status()
    assert status["slots"]["b"]["state"] == "absent"
    assert status["live"]["version"] == f"{service.name}@{service.versions[1]}"
    assert service.serves() == service.versions[1]
    assert status["release"] is None or status["release"]["course"] == "ended"
    return done.stderr


def test_a_model_that_loads_for_long_gets_no_request_until_it_is_loaded(loaded):
    loaded.use(2)
    loaded.configure(env={"LOAD_SECONDS": str(SLOW)})
    started = time.monotonic()
    command = loaded.start("release", "--model", f"{loaded.name}:2")
    while time.monotonic() - started < SLOW:
        assert loaded.serves() == loaded.versions[1]
        assert command.poll() is None
        time.sleep(0.5)
    _, story = command.communicate(timeout=60)
    assert command.returncode == 0, story
    assert loaded.serves() == loaded.versions[2]
    assert loaded.json("rollback")["result"] == "released"


def test_a_candidate_that_never_becomes_ready_is_given_up_at_its_deadline(loaded):
    loaded.configure(ready={"golden": "golden.jsonl", "deadline": "10s"})
    story = refused(loaded, "within 10 s", within=SOON, NEVER_READY="1")
    assert "answers 503" in story


def test_a_candidate_that_says_it_is_another_version_is_refused(loaded):
    story = refused(loaded, "identity", within=SOON, SAYS_VERSION="f" * 12)
    assert loaded.versions[2] in story


def test_a_candidate_that_predicts_wrongly_is_refused(loaded):
    story = refused(loaded, "golden request 1", within=SOON, ADDS="0.5")
    assert "is 8.5, expected 8.0" in story


def test_a_candidate_that_ends_again_and_again_is_told_at_once_with_its_last_words(loaded):
    story = refused(loaded, "70", within=SOON, CRASH_AFTER="0.02")
    assert "error: crashed, as asked" in story


def test_a_candidate_that_eats_more_than_its_memory_is_told_at_once(loaded):
    loaded.configure(resources={"memory": "96Mi"})
    story = refused(loaded, "memory", within=SOON, EATS_MIB="400")
    assert "96" in story or "100663296" in story


def test_a_bootstrap_that_fails_is_told_with_its_exit_code_and_last_line(loaded):
    loaded.release(2)
    loaded.json("rollback")
    docker("rm", "--force", loaded.container("server", "b"), loaded.container("bootstrap", "b"))
    volume = f"{loaded.name}-b-models:/model"
    docker("run", "--rm", "--user", "0", "--volume", volume, TINY, "sh", "-c", "cd /model && rm -r v && echo spoilt >v")
    story = refused(loaded, "bootstrap", within=SOON)
    assert "the bootstrap ended with 73: the slot's volume cannot be written to" in story
    assert "deploy.sh" in story


def test_a_server_image_that_is_not_there_is_told_before_anything_starts(loaded):
    loaded.use(2)
    loaded.configure(server={"image": "mlops-tiny-absent"})
    done = loaded.run("release", "--model", f"{loaded.name}:2", code=2)
    assert "mlops-tiny-absent" in done.stderr
    assert loaded.serves() == loaded.versions[1]


def test_a_candidate_that_crashes_under_traffic_is_rolled_back_and_its_bad_answers_are_counted(service):
    versions = service.build_all(1, 2)
    service.release(1)
    service.configure(release={"bake": "120s", "drain": "5s"})
    load = service.load()
    service.use(2)
    service.configure(env={"CRASHES_AT": CRASHES_AT})
    releasing = service.start("release", "--model", f"{service.name}:2", "--output", "json")
    until(lambda: service.serves() == versions[2], 60, "the candidate has the traffic")
    started = time.monotonic()
    docker("exec", service.container("server", "b"), "touch", CRASHES_AT)
    out, story = releasing.communicate(timeout=120)
    took = time.monotonic() - started
    assert releasing.returncode == 5, story
    report = json.loads(out)
    until(lambda: service.serves() == versions[1], 60, "back to what was live")
    time.sleep(1)
    count = load.end()
    assert report["result"] == "reverted"
    assert "under traffic: the server ended with 70, and was started again" in report["reason"]
    assert "error: crashed, as asked" in story, "its last words"
    assert took < SOON
    assert set(count["answered"]) == set(versions.values())
    assert count["failed"] == report["failed"] <= MOST_BAD, (report, count)
