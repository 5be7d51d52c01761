"""Who may change a service: two processes that ask at the same time, and one that wakes up too late."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.releasing import ROOT, until

pytestmark = pytest.mark.haproxy

ROUNDS = 200
RACER = str(Path(__file__).parents[1] / "fakes" / "racer.py")
SAYS = "is running (last heard"


@pytest.fixture
def released(make_local):
    """A service with one version live and one parked."""
    service = make_local()
    service.build_all(1, 2, 3)
    service.release(1)
    service.release(2)
    return service


def test_of_two_processes_that_want_the_lease_at_the_same_time_one_gets_it(released):
    racers = [
        subprocess.Popen(
            [sys.executable, RACER, str(released.keeper), str(released.sockets), name, str(ROUNDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for name in ("anna@one", "bert@two")
    ]
    tokens, winners, seconds = [], [], []
    for number in range(ROUNDS):
        for racer in racers if number % 2 else reversed(racers):  # who is told first may always be the first
            racer.stdin.write("go\n")
            racer.stdin.flush()
        answers = [json.loads(racer.stdout.readline()) for racer in racers]
        won = [answer for answer in answers if answer["token"] is not None]
        lost = [answer for answer in answers if answer["token"] is None]
        assert (len(won), len(lost)) == (1, 1)
        assert won[0]["name"] in lost[0]["said"]
        assert lost[0]["code"] == 3
        seconds.append(lost[0]["seconds"])
        tokens.append(won[0]["token"])
        winners.append(won[0]["name"])
        for racer in racers:
            racer.stdin.write("free\n")
            racer.stdin.flush()
            assert racer.stdout.readline() == "freed\n"
    for racer in racers:
        racer.communicate()
    assert sorted(seconds)[ROUNDS * 95 // 100] < 1, "a machine that stands still now and then is not the point"
    assert tokens == list(range(tokens[0], tokens[0] + ROUNDS))
    assert set(winners) == {"anna@one", "bert@two"}


def test_of_two_rollbacks_at_the_same_time_one_is_refused_and_names_the_other(released):
    load = released.load(100, 30)
    refused = 0
    for _ in range(4):
        before = released.status()["live"]["slot"]
        both = [released.start("rollback") for _ in range(2)]
        ended = [command.communicate(timeout=120) for command in both]
        codes = sorted(command.returncode for command in both)
        assert codes in ([0, 0], [0, 3]), ended
        if codes == [0, 3]:
            [said] = [err for command, (_, err) in zip(both, ended, strict=True) if command.returncode == 3]
            assert SAYS in said or "the plan is stale" in said
            refused += 1
            assert released.status()["live"]["slot"] != before
    assert refused
    assert load.end()["failed"] == 0


def test_a_second_release_is_refused_at_once_and_names_the_holder(released):
    released.use(3)
    gate = released.folder / "gate"
    released.configure(env={"LOADS_UNTIL": str(gate)})
    first = released.start("release", "--model", f"{released.name}:3")
    until(lambda: released.status()["lease"], 30, "the first holds the lease")
    refused = released.run("release", "--model", f"{released.name}:1", code=3)
    holder = released.status()["lease"]["holder"]
    assert f"by `{holder}` {SAYS}" in refused.stderr
    gate.touch()
    assert first.wait(60) == 0, first.stderr.read()


def test_a_holder_that_was_stopped_and_wakes_up_late_is_refused(released):
    """It slept in the middle of a release, its lease ran out, another process took over: nothing it does counts."""
    load = released.load(100, 30)
    released.use(3)
    released.configure(env={"LOADS_UNTIL": str(released.folder / "never")})
    sleeper = released.start("release", "--model", f"{released.name}:3")
    until(lambda: ((released.status()["release"] or {}).get("step") or "").startswith("wait until"), 30, "it waits")
    sleeper.send_signal(signal.SIGSTOP)
    time.sleep(0.3)  # a keeper ends what it was asked for before
    name = released.status()["release"]["id"]
    released.expire_lease()
    assert released.json("abort")["result"] == "aborted"
    live = released.status()["live"]
    sleeper.send_signal(signal.SIGCONT)
    _, said = sleeper.communicate(timeout=60)
    assert sleeper.returncode == 3, said
    assert "the lease was lost to" in said
    assert "traffic stays as it was last committed" in said
    assert released.status()["live"] == live
    entries = released.entries()
    assert released.journal.name.endswith(f"{name}.jsonl")
    assert [entry["kind"] for entry in entries if entry["kind"] in {"opened", "taken", "ended"}] == [
        "opened",
        "taken",
        "ended",
    ]
    first, second = (entry for entry in entries if entry["kind"] in {"opened", "taken"})
    assert second["token"] > first["token"]
    assert load.end()["failed"] == 0
