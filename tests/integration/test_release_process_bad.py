"""What can be wrong with a release, from its input to its state on disk: one clear error each, traffic untouched."""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.releasing import until

pytestmark = pytest.mark.haproxy

VERSIONS = {}
"""The versions in each service's store, by their bias."""


@pytest.fixture(scope="module")
def released(local_services):
    """A service with version 1 live, and versions 2 and 3 in the store."""
    service = local_services()
    VERSIONS[service.name] = service.build_all(1, 2, 3)
    service.release(1)
    service.use(2)
    return service


@pytest.fixture
def untouched(released):
    """Version 1 answers clients before and after, by the same route, and nothing is open."""
    service, before = released, released.status()
    answers = service.serves()
    yield service
    after = service.status()
    assert service.serves() == answers
    assert after["router"]["committed"] == before["router"]["committed"]
    assert (after["lease"], after["release"], after["freeze"]) == (None, None, None)


def refused(service, code, *arguments):
    """A command that ends with `code` and one error of one line, with a hint: what it says."""
    said = service.run(*arguments, code=code).stderr
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, said
    return said


def test_a_strategy_that_is_not_there(untouched):
    said = refused(untouched, 2, "release", "--strategy", "bluegren")
    assert "there is no strategy `bluegren`" in said
    assert "`bluegreen`, `recreate`" in said


@pytest.mark.parametrize("verb", ["advance", "resume", "abort"])
def test_a_decision_about_nothing(untouched, verb):
    said = refused(untouched, 2, verb)
    assert "error: no release is open" in said
    assert "`mlops-deploy status`" in said


def test_a_rollback_with_nothing_before(untouched):
    said = refused(untouched, 2, "rollback")
    assert "there is no earlier version to go back to" in said
    assert "`mlops-deploy release --model NAME:TAG`" in said


def test_no_such_carrier(untouched):
    assert f"{untouched.name}:99" in refused(untouched, 2, "release", "--model", f"{untouched.name}:99")


class TestPlans:
    """A plan file that is not exactly what was written, for exactly this service as it was."""

    @pytest.fixture
    def plan(self, untouched):
        path = untouched.folder / "two.plan"
        untouched.run("plan", "--model", f"{untouched.name}:2", "-o", path.name)
        return path

    def change(self, plan, change):
        document = json.loads(plan.read_text())
        change(document)
        plan.write_text(json.dumps(document))

    def test_of_another_version(self, untouched, plan):
        self.change(plan, lambda document: document.update(schema=2))
        said = refused(untouched, 2, "release", "--plan", plan.name)
        assert "is a plan of version 2; this mlops-deploy reads version 1" in said
        assert "`mlops-deploy plan -o FILE`" in said

    def test_edited(self, untouched, plan):
        self.change(plan, lambda document: document["plan"].update(steps=document["plan"]["steps"][:-1]))
        assert "has been changed since it was written" in refused(untouched, 2, "release", "--plan", plan.name)

    def test_of_another_environment(self, untouched, plan):
        (untouched.folder / "mlops.other.yml").write_text(json.dumps({"port": untouched.port + 1}))
        said = refused(untouched, 2, "release", "--plan", plan.name, "-e", "other")
        assert "is a plan without an environment, not for the environment `other`" in said

    def test_of_another_service(self, untouched, plan):
        untouched.configure(service="somebody")
        try:
            said = refused(untouched, 2, "release", "--plan", plan.name)
        finally:
            untouched.configure(service=untouched.name)
        assert f"is a plan for the service `{untouched.name}`, not for the service `somebody`" in said

    def test_cut_anywhere(self, untouched, plan):
        text, dice = plan.read_text(), random.Random(3)
        for length in (0, 1, len(text) - 2, *(dice.randrange(len(text)) for _ in range(3))):
            plan.write_text(text[:length])
            assert "is not a plan" in refused(untouched, 2, "release", "--plan", plan.name)

    def test_made_before_something_changed(self, untouched, plan):
        untouched.run("freeze", "-m", "incident 812")
        said = refused(untouched, 3, "release", "--plan", plan.name)
        untouched.run("unfreeze")
        assert "frozen" in said
        assert "incident 812" in said

    def test_no_file(self, untouched):
        assert "cannot be read" in refused(untouched, 2, "release", "--plan", "absent.plan")


class TestBefore:
    """The first release of a service: what cannot begin leaves nothing."""

    @pytest.fixture
    def fresh(self, make_local):
        return make_local()

    def test_no_carrier(self, fresh):
        said = refused(fresh, 2, "release")
        assert "`mlops-deploy build-model`" in said
        assert not fresh.home.exists()

    @pytest.mark.parametrize("verb", ["rollback", "resume", "abort", "advance"])
    def test_nothing_was_ever_released(self, fresh, verb):
        assert "`mlops-deploy release`" in refused(fresh, 2, verb)
        assert not fresh.home.exists()

    def test_the_port_is_taken(self, fresh):
        fresh.build(1, "--tag", f"{fresh.name}:1")
        with socket.create_server(("127.0.0.1", fresh.port)):
            said = refused(fresh, 2, "release")
        assert f"port {fresh.port} is taken by another program" in said
        assert fresh.release(1)["result"] == "released"

    def test_the_folder_belongs_to_another_service(self, fresh):
        fresh.build(1, "--tag", f"{fresh.name}:1")
        fresh.home.mkdir(parents=True)
        (fresh.home / "service.json").write_text(
            json.dumps({"kind": "known", "service": "somebody", "environment": None, "a": 20000, "b": 20001})
        )
        before = sorted(fresh.home.rglob("*"))
        said = refused(fresh, 2, "release")
        assert "is in the way" in said
        assert "somebody" in said
        assert sorted(fresh.home.rglob("*")) == before
        shutil.rmtree(fresh.home)


def broken(service, point="CommitRoute"):
    """Leave a release open that nobody runs, killed at `point`; its journal's bytes."""
    service.kill_at(point, *service.release_fresh(VERSIONS[service.name]))
    service.expire_lease()
    return service.journal.read_bytes()


def test_a_lost_journal_is_closed_by_abort_and_traffic_left_alone(released):
    broken(released)
    serves = released.serves()
    released.journal.unlink()
    said = refused(released, 6, "resume")
    assert "cannot be read: it is gone; traffic stays as committed" in said
    assert "`mlops-deploy abort` closes the release" in said
    assert released.serves() == serves
    assert released.json("abort")["result"] == "aborted"
    assert released.serves() == serves
    after = released.status()
    assert (after["release"], after["lease"]) == (None, None)
    assert after["live"]["slot"] == "b"
    released.run("rollback")
    assert released.status()["live"]["slot"] == "a"


def test_a_journal_with_a_damaged_line_is_not_believed(released):
    text = broken(released, 8)
    serves = released.serves()
    middle = text.index(b"\n", len(text) // 2) - 5
    released.journal.write_bytes(text[:middle] + b"?" + text[middle + 1 :])
    assert "damaged" in refused(released, 6, "resume")
    assert released.serves() == serves
    assert released.json("abort")["result"] == "aborted"
    assert released.serves() == serves


def cuts(text):
    """After each line, and somewhere in the middle of some."""
    ends = [at + 1 for at, byte in enumerate(text) if byte == ord("\n")]
    dice = random.Random(11)
    return [*ends[1:], *(dice.randrange(ends[0], len(text)) for _ in range(3))]


ENDINGS = {"resume": {0, 5}, "abort": {0}}
"""The exit codes of both. What lost lines say is repeated, or taken back by what the world shows (5)."""


def end_of_every_cut(service, verb):
    """Releases under load, the journal of each cut at another place and then ended; the exit codes, and the load."""
    VERSIONS[service.name] = service.build_all(1, 2, 3)
    service.release(1)
    service.release(2)
    load = service.load(50, 15)
    number, places, ended = 0, [0], []
    while number < len(places):
        before = service.status()["live"]
        text = broken(service)
        places = cuts(text)
        service.journal.write_bytes(text[: places[number]])
        command = service.start(verb)
        _, said = command.communicate(timeout=60)
        assert command.returncode in ENDINGS[verb], said
        ended.append(command.returncode)
        status = service.status()
        assert (status["release"], status["lease"], status["freeze"]) == (None, None, None)
        assert service.serves() == status["live"]["version"].partition("@")[2]
        assert (status["live"]["version"] == before["version"]) == (verb == "abort" or command.returncode == 5)
        number += 1
    return ended, load.end()


@pytest.fixture(scope="module")
def cut(local_services):
    """Both endings side by side, each of a service of its own."""
    with ThreadPoolExecutor() as pool:
        yield {verb: pool.submit(end_of_every_cut, local_services(), verb) for verb in ENDINGS}


@pytest.mark.parametrize("verb", ENDINGS)
def test_a_journal_cut_anywhere_can_still_be_ended_both_ways(cut, verb):
    """Traffic is switched already."""
    ended, load = cut[verb].result()
    assert len(ended) >= 10
    assert 0 in ended
    assert load["failed"] == 0


def test_a_slot_killed_from_outside_while_it_is_the_candidate(released):
    live, serves = released.status()["live"], released.serves()
    slot = "b" if live["slot"] == "a" else "a"
    released.configure(env={"LOAD_SECONDS": "20"})
    release = released.start(*released.release_fresh(VERSIONS[released.name]))
    until(lambda: ((released.status()["release"] or {}).get("step") or "").startswith("wait until"), 60, "it waits")
    until(lambda: held(released, slot)["phase"] == "server", 60, "a server")
    os.kill(int(held(released, slot)["process"].partition(".")[0]), signal.SIGKILL)
    _, said = release.communicate(timeout=60)
    released.configure(env=None)
    assert release.returncode == 4
    assert "not ready (process): the server ended by SIGKILL" in said
    assert released.serves() == serves
    assert released.status()["live"] == live


def test_both_slots_killed_from_outside_while_the_candidate_is_watched(released):
    before, serves, config = released.status(), released.serves(), released.config
    released.configure(release={"bake": "20s"})
    release = released.start(*released.release_fresh(VERSIONS[released.name]))
    until(lambda: ((released.status()["release"] or {}).get("step") or "").startswith("watch"), 60, "it watches")
    for slot in ("a", "b"):
        os.kill(int(held(released, slot)["process"].partition(".")[0]), signal.SIGKILL)
    _, said = release.communicate(timeout=120)
    released.restore(config)
    assert release.returncode == 5, said
    assert released.serves() == serves
    after = released.status()
    assert (after["live"], after["freeze"], after["release"]) == (before["live"], None, None)


def held(service, slot):
    """What the supervisor of a slot says that it holds; nothing while it still holds what was there before."""
    said = json.loads((service.home / slot / "state.json").read_bytes())
    wanted = json.loads((service.home / slot / "job.json").read_bytes())
    return said if said["key"] == wanted["key"] else {"phase": ""}


def test_the_routers_socket_is_gone(untouched):
    run = untouched.sockets
    aside = run.with_name("aside")
    run.rename(aside)
    run.mkdir()
    try:
        said = refused(untouched, 8, "release", "--model", f"{untouched.name}:3")
    finally:
        shutil.rmtree(run)
        aside.rename(run)
    assert "the router does not answer its keeper, so nothing was begun" in said
    assert untouched.serves() != 503


@contextlib.contextmanager
def full(folder):
    """A copy of `folder` in its place, on a file system without room for one more byte."""
    aside = folder.with_name("aside")
    shutil.copytree(folder, aside)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=False).returncode:
        pytest.skip("nobody may mount a file system here")
    try:
        shutil.copytree(aside, folder, dirs_exist_ok=True)
        with (folder / ".filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
        shutil.rmtree(aside)


def test_no_space_for_the_journal(released):
    live, serves = released.status()["live"], released.serves()
    released.use(3)
    with full(released.keeper / "journals"):
        said = refused(released, 1, "release", "--model", f"{released.name}:3")
        assert released.serves() == serves
    assert "no space left on device" in said
    assert released.status()["live"] == live
    assert released.status()["lease"] is None
