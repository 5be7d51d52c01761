"""Blue/green on a real engine and a real HAProxy, through the command line, under load: no request fails."""

import json
import shutil
import signal
import subprocess
import threading
import time

import pytest

from tests.integration.releasing import ROOT, docker, listed, run, until

pytestmark = pytest.mark.docker

DIGITS = ROOT / "examples" / "digits"

GATE = "/tmp/go"  # noqa: S108 - in the container
"""Where a candidate finds that it may load."""

SWITCHES = 24
REPLACED = 6
"""Every sixth switch is a release of a model that was in neither slot."""


def test_no_request_fails_while_two_versions_change_places_again_and_again(service):
    versions = service.build_all(1, 2, 3, 4, 5)
    assert service.release(1)["result"] == "released"
    load, parked, live, fresh = service.load(rate=250, new=70), None, 1, iter((2, 3, 4, 5))
    answered = {versions[1]}
    for number in range(SWITCHES):
        if number % REPLACED == 0:
            parked = next(fresh)
            report = service.release(parked)
        else:
            report = service.json("rollback")
        live, parked = parked, live
        answered.add(versions[live])
        assert report["live"] == f"{service.name}@{versions[live]}"
        assert report["failed"] == 0
        assert {service.serves() for _ in range(3)} == {versions[live]}
    time.sleep(1)
    count = load.end()
    assert count["failed"] == 0, count
    assert count["rate"] >= 200
    assert set(count["answered"]) == answered
    assert all(entry["failed"] == 0 for entry in service.json("history"))


def test_the_first_release_opens_the_router_and_one_without_changes_does_nothing(service):
    version = service.build(1)
    first = service.run("release")
    assert first.stdout.startswith(f"{service.name}@{version} r-")
    assert service.serves() == version
    again = service.json("release")
    assert again["result"] == "nothing"
    status = service.status()
    assert status["live"]["version"] == f"{service.name}@{version}"
    service.run("down", "--volumes")
    assert [listed(kind, service.name) for kind in ("container", "volume", "network")] == [[], [], []]


def test_a_candidate_waits_for_a_decision_and_can_be_advanced_or_turned_back(service):
    versions = service.build_all(1, 2)
    service.release(1)
    held = service.release(2, "--until", "ready")
    assert held["result"] == "held"
    assert service.serves() == versions[1]
    refused = service.run("release", "--model", f"{service.name}:2", code=3)
    assert "waits for a decision" in refused.stderr
    assert service.json("abort")["result"] == "aborted"
    assert service.serves() == versions[1]
    assert service.status()["slots"]["b"]["state"] == "absent"
    service.release(2, "--until", "ready")
    assert service.json("advance")["result"] == "released"
    assert service.serves() == versions[2]


def test_a_saved_plan_is_carried_out_exactly_and_refused_once_it_is_stale(service):
    versions = service.build_all(1, 2, 3)
    service.release(1)
    service.use(2)
    service.run("plan", "--model", f"{service.name}:2", "-o", "two.plan")
    assert service.run("plan", "--model", f"{service.name}:2", "--detailed-exitcode", code=10)
    assert service.json("release", "--plan", "two.plan")["live"].endswith(versions[2])
    stale = service.run("release", "--plan", "two.plan", code=3)
    assert "stale" in stale.stderr
    plan = json.loads((service.folder / "two.plan").read_text())
    plan["plan"]["service"] = "another"
    (service.folder / "edited.plan").write_text(json.dumps(plan))
    assert "has been changed" in service.run("release", "--plan", "edited.plan", code=2).stderr
    assert service.serves() == versions[2]


def test_a_second_release_is_refused_within_a_second_and_told_who_holds_the_lease(service):
    versions = service.build_all(1, 2)
    service.release(1)
    service.configure(env={"LOADS_UNTIL": GATE}, ready={"golden": "golden.jsonl", "deadline": "120s"})
    service.use(2)
    first = service.start("release", "--model", f"{service.name}:2")
    while not (status := service.status())["lease"]:
        assert first.poll() is None
    took, begun = [], []
    for _ in range(3):
        begun.append(timed(lambda: service.run("release", "--help"))[0])
        seconds, second = timed(lambda: service.run("release", "--model", f"{service.name}:2", code=3))
        took.append(seconds)
    assert status["lease"]["holder"] in second.stderr
    assert status["lease"]["release"] in second.stderr
    assert min(took) - min(begun) < 1, "what a machine takes to begin a program is not the point"
    open_gate = ("docker", "exec", service.container("server", "b"), "touch", GATE)
    until(lambda: run(*open_gate).returncode == 0, 60, "the candidate is told to load")
    assert first.wait(60) == 0
    assert service.serves() == versions[2]


def timed(work):
    started = time.monotonic()
    done = work()
    return time.monotonic() - started, done


def test_ctrl_c_leaves_traffic_and_the_release_can_be_resumed(service):
    versions = service.build_all(1, 2)
    service.release(1)
    service.configure(env={"LOAD_SECONDS": "12"})
    service.use(2)
    command = service.start("release", "--model", f"{service.name}:2")
    while not service.status()["lease"]:
        assert command.poll() is None
    command.send_signal(signal.SIGINT)
    _, story = command.communicate(timeout=60)
    assert command.returncode == 130
    assert "resume" in story
    assert "abort" in story
    assert service.serves() == versions[1]
    assert service.json("resume")["result"] == "released"
    assert service.serves() == versions[2]


def answers(service, ending):
    """What clients get, every few hundredths of a second, until told to end."""
    seen = []
    while not ending.is_set():
        status, answer = service.ask()
        seen.append((status, answer.get("model_version"), answer.get("retry-after")))
        time.sleep(0.03)
    return seen


class Watch(threading.Thread):
    """Asks all the time."""

    def __init__(self, service):
        super().__init__()
        self.service, self.ending, self.seen = service, threading.Event(), []

    def run(self):
        self.seen = answers(self.service, self.ending)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.join()


def test_recreate_answers_503_with_retry_after_and_starts_the_old_one_again_when_the_new_one_fails(service):
    versions = service.build_all(1, 2)
    service.configure(release={"strategy": "recreate", "bake": "0s", "drain": "3s"})
    service.release(1)
    with Watch(service) as watch:
        service.release(2)
    status = [seen for seen, *_ in watch.seen]
    assert set(status) == {200, 503}
    assert all(retry for seen, _, retry in watch.seen if seen == 503)
    assert [version for seen, version, _ in watch.seen if seen == 200][-1] == versions[2]
    assert service.status()["slots"]["a"]["state"] == "absent"
    with Watch(service) as watch:
        report = service.release(1, code=5, SAYS_VERSION="f" * 12)
    assert report["result"] == "reverted"
    assert {version for seen, version, _ in watch.seen if seen == 200} == {versions[2]}
    assert {seen for seen, *_ in watch.seen} == {200, 503}
    assert service.serves() == versions[2]


def test_two_services_share_an_engine(make_service):
    one, other = make_service(), make_service()
    expected = {service.port: service.build(1) for service in (one, other)}
    for service in (one, other):
        service.run("release")
    assert {service.port: service.serves() for service in (one, other)} == expected
    one.run("down", "--volumes")
    assert other.serves() == expected[other.port]
    assert docker("ps", "--quiet", "--filter", f"name={one.name}-") == ""


def test_the_real_server_goes_through_blue_green_once(server_image, make_service, programs, tmp_path):
    service = make_service()
    shutil.copy(DIGITS / "train.py", tmp_path)
    subprocess.run([programs / "python", "train.py"], cwd=tmp_path, check=True)
    shutil.copy(tmp_path / "model.joblib", service.folder / "model")
    (service.folder / "model" / "model.json").unlink()
    shutil.copy(tmp_path / "golden.jsonl", service.folder)
    (golden,) = map(json.loads, (tmp_path / "golden.jsonl").read_text().splitlines())
    (service.folder / "body.json").write_text(json.dumps(golden["request"]))
    requires = ["scikit-learn==1.9.1"]
    service.configure(
        server={"image": server_image}, model={"path": "model", "name": service.name, "requires": requires}
    )
    versions = [released_notes(service, "one")]
    with service.load(rate=20, new=5) as load:
        versions.append(released_notes(service, "two"))
        service.run("rollback")
        count = load.end()
    assert count["failed"] == 0, count
    assert set(count["answered"]) == set(versions)
    assert service.status()["live"]["version"] == f"{service.name}@{versions[0]}"


def released_notes(service, text):
    """The version of a release of the same model with other notes beside it."""
    (service.folder / "model" / "notes.txt").write_text(text)
    done = service.run("build-model", "--store", ".mlops/store", "--output", "json")
    assert "1 golden request" in service.run("release").stderr
    return json.loads(done.stdout)["content_id"][:12]
