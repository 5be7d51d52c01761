"""The commands that look at a service and keep it, on real processes and a real HAProxy, as a user runs them."""

import json
import os
import pty
import select
import signal
import subprocess
import threading
import time
from contextlib import contextmanager

import pytest

from mlops_deploy.adapters.processes.router import LocalRouter
from mlops_deploy.adapters.processes.service import LocalService
from mlops_deploy.release.codec import encode
from mlops_deploy.release.state import Freeze
from mlops_deploy.spec.owner import Owner
from tests.fakes.local_slots import processes_of
from tests.fakes.ports import free_port
from tests.integration.releasing import run, until

pytestmark = pytest.mark.haproxy


@pytest.fixture
def one(make_local):
    """A service whose first version is live in slot a."""
    service = make_local()
    service.versions = service.build_all(1, 2)
    service.release(1)
    return service


@pytest.fixture
def two(one):
    """The same after a second release: slot b is live, slot a is parked hot."""
    one.release(2)
    return one


def slots(service):
    return {name: (slot["role"], slot["version"]) for name, slot in service.status()["slots"].items()}


def named(service, bias):
    return f"{service.name}@{service.versions[bias]}"


def verbs(status):
    return [command.split()[1] for command in status["next"]]


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def orphan(service, point=12):
    """Leave a release that nobody carries on."""
    service.use(2)
    killed = service.kill_at(point, "release", "--model", f"{service.name}:2")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    service.expire_lease()
    return service.status()["release"]["id"]


def follow(service, *arguments):
    """A command that goes on until it is interrupted, once it has written its first line."""
    command = service.start(*arguments)
    with killed_in_the_end(command):
        return command, command.stdout.readline()


def heard(command, *words):
    """What a command writes until all of these words are in it."""
    lines = []
    with killed_in_the_end(command):
        while not all(any(word in line for line in lines) for word in words):
            lines.append(command.stdout.readline())
            assert lines[-1], lines
    return lines


def interrupted(command):
    """The rest of what a command writes, also what has come with a line that was read before."""
    command.send_signal(signal.SIGINT)
    with killed_in_the_end(command):
        out, err = command.stdout.read(), command.stderr.read()
    assert command.wait(60) == 0, err
    assert err == ""
    return out


@contextmanager
def killed_in_the_end(command):
    """Whoever reads what a command writes does not wait for ever."""
    late = threading.Timer(60, command.kill)
    late.start()
    try:
        yield
    finally:
        late.cancel()


def test_status_from_the_first_release_to_the_end(make_local):
    service = make_local()
    service.versions = service.build_all(1, 2)
    assert service.status()["live"] is None
    assert "nothing runs" in service.run("status").stdout
    service.release(1)
    assert slots(service) == {"a": ("live", named(service, 1)), "b": ("empty", None)}
    service.release(2, "--until", "ready")
    held = service.status()
    assert slots(service)["b"] == ("candidate", named(service, 2))
    assert held["release"]["course"] == "held"
    assert held["release"]["deadline"] > held["release"]["opened"]
    assert verbs(held) == ["advance", "abort"]
    service.run("advance")
    assert slots(service) == {"a": ("parked", named(service, 1)), "b": ("live", named(service, 2))}
    assert service.status()["live"]["rollback"] == "hot"
    os.kill(int(service.status()["slots"]["b"]["revision"].split(".")[0]), signal.SIGKILL)
    until(lambda: service.status()["slots"]["b"]["restarts"] or service.status()["slots"]["b"]["cause"], 20, "seen")


def test_a_look_changes_nothing_also_when_a_release_was_left(one):
    release = orphan(one)
    before = files(one.keeper)
    text = one.run("status")
    assert f"release: {release} has not ended, and nobody runs it" in text.stdout
    assert text.stderr == "next: mlops-deploy resume or mlops-deploy abort\n"
    for command in ("status", "history", "logs"):
        one.run(command)
    assert files(one.keeper) == before


def test_a_watch_says_what_changes_until_it_is_interrupted(two):
    command, first = follow(two, "status", "-w")
    assert "live: b" in first
    two.run("freeze", "-m", "incident 812")
    lines = heard(command, "incident 812")
    two.run("unfreeze")
    lines += heard(command, "freeze: none")
    two.run("rollback")
    lines += heard(command, "slot a: live 100 %", "router: all traffic to slot a")
    lines += interrupted(command).splitlines(keepends=True)
    said = [line[10:].rstrip("\n") for line in lines if line[2:3] == ":"]
    assert any(line.startswith("freeze: by ") and line.endswith(": incident 812") for line in said)
    assert "freeze: none" in said
    assert "router: all traffic to slot a (generation 3)" in said
    assert f"slot a: live 100 %, {named(two, 1)}, running, up" in said


def test_a_watch_in_json_has_a_document_for_each_change(two):
    command, first = follow(two, "status", "-w", "--output", "json")
    assert json.loads(first)["freeze"] is None
    two.run("freeze", "-m", "incident 812")
    lines = heard(command, "incident 812") + interrupted(command).splitlines()
    frozen = [json.loads(line)["freeze"] for line in lines]
    assert len(frozen) <= 3, "the lease, the freeze, the end of the lease, as far as each was seen"
    assert frozen[-1]["reason"] == "incident 812"


def on_terminal(service, *arguments):
    """A command on a terminal of its own: its process, and the end that a user has."""
    ours, theirs = pty.openpty()
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    environ = service.environ(arguments[0]) | {"TERM": "xterm", "COLUMNS": "160"}
    command = subprocess.Popen(service.command(*arguments), cwd=service.folder, env=environ, **streams)
    service.commands.append(command)
    os.close(theirs)
    return command, ours


def read_until(terminal, words):
    shown, deadline = b"", time.monotonic() + 60
    while words not in shown:
        assert time.monotonic() < deadline, shown
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 65536)
    return shown


def test_a_watch_on_a_terminal_is_refreshed_in_place(two):
    command, terminal = on_terminal(two, "status", "-w")
    read_until(terminal, b"live: b")
    two.run("freeze", "-m", "incident 812")
    shown = read_until(terminal, b"incident 812")
    assert b"\x1b[2K" in shown, "lines are cleared and written again"
    command.send_signal(signal.SIGINT)
    assert command.wait(20) == 0
    os.close(terminal)


def test_who_is_asked_on_a_terminal_and_says_no_changes_nothing(two):
    command, terminal = on_terminal(two, "down", "--volumes")
    read_until(terminal, b"with its models and its history)? [y/N]")
    os.write(terminal, b"n\n")
    read_until(terminal, b"nothing was changed")
    assert command.wait(20) == 130
    os.close(terminal)
    assert two.serves() == two.versions[2]


def test_history_tells_of_every_release_whatever_became_of_it(two):
    two.run("rollback")
    orphan(two)
    two.run("resume")
    two.use(1, golden=99)
    two.json("release", "--model", f"{two.name}:1", code=4)
    rows = two.json("history")
    assert [(row["end"], row["strategy"]) for row in rows] == [
        ("aborted", "bluegreen"),
        ("released", "bluegreen"),
        ("released", "rollback"),
        ("released", "bluegreen"),
        ("released", "bluegreen"),
    ]
    assert "golden request 1" in rows[0]["reason"]
    assert len(rows[1]["taken_over_by"]) == 1
    assert (rows[2]["from"], rows[2]["to"]) == (named(two, 2), named(two, 1))
    assert all(row["failed"] == 0 and row["requests"] is not None for row in rows)
    assert all(0 < row["switch_ms"] < 30_000 for row in rows[1:])
    assert two.json("history", "-n", "2") == rows[:2]
    two.journal.write_bytes(two.journal.read_bytes().replace(b"release", b"rElease", 1))
    assert two.json("history")[0]["end"] == "damaged"
    two.journal.unlink()
    assert [row["end"] for row in two.json("history")[:2]] == ["lost", "released"]
    assert len(two.json("history")) == 5


def test_logs(two):
    assert two.run("logs", "--task", "bootstrap").stdout.startswith(f"copied {two.name}")
    assert two.run("logs", "--task", "router", "-n", "1").stdout.count("\n") == 1
    quiet = two.run("logs", "--slot", "a")
    assert quiet.stdout or "the server of slot a has written nothing" in quiet.stderr
    command, line = follow(two, "logs", "--task", "router", "--follow", "-n", "1")
    assert line.endswith("\n")
    interrupted(command)


def test_a_freeze_keeps_releases_away_and_names_who_set_it(two):
    two.run("freeze", "-m", "incident 812")
    by = two.status()["freeze"]["by"]
    for command in (("release", "--model", f"{two.name}:1"), ("rollback",), ("down",), ("freeze", "-m", "mine")):
        refused = two.run(*command, code=3)
        assert f"`{by}`: incident 812" in refused.stderr
    assert two.serves() == two.versions[2]
    assert two.run("unfreeze").stderr.startswith(f"lifted the freeze by `{by}`: incident 812\n")
    assert two.run("unfreeze").stderr.startswith("there is no freeze\n")
    two.run("rollback")


def test_of_many_who_freeze_at_once_one_wins(two):
    tries = [two.start("freeze", "-m", f"number {number}") for number in range(6)]
    said = [process.communicate(timeout=60)[1] for process in tries]
    assert sorted(process.returncode for process in tries) == [0, 3, 3, 3, 3, 3]
    (winner,) = (text for text in said if text.startswith("frozen"))
    assert two.status()["freeze"]["reason"] in winner


def test_the_freeze_of_a_release_that_is_stuck_is_lifted_by_force_alone(one):
    release = orphan(one)
    index = freeze_by(one, release)
    status = one.status()
    assert (status["release"]["course"], verbs(status)) == ("stuck", ["abort"])
    refused = one.run("unfreeze", code=3)
    assert "it fell" in refused.stderr
    assert "mlops-deploy abort" in refused.stderr
    forced = one.run("unfreeze", "--force")
    assert f"warning: release `{release}` is still open" in forced.stderr
    assert one.status()["freeze"] is None
    freeze_by(one, release, index + 1)
    one.run("abort")
    assert one.status()["freeze"] is None
    assert one.serves() == one.versions[1]


def freeze_by(service, release, index=0):
    """Write the freeze that a release writes when it cannot turn back, as the keeper takes it."""
    router = LocalRouter(LocalService(owner=Owner(service=service.name), path=service.home), service.port, os.environ)
    keeper = router.keeper()
    written = keeper.put("freeze", encode(Freeze(reason="it fell", by=release, at=time.time())), index, 0)
    keeper.close()
    return written.index


def test_down_and_up_again_keeps_the_history(two):
    done = two.run("down")
    assert "close the router" in done.stderr
    assert "is down\nnext: mlops-deploy release\n" in done.stderr
    with pytest.raises(ConnectionRefusedError):
        two.ask()
    assert two.status()["live"] is None
    assert "was not running" in two.run("down").stderr
    refused = two.run("rollback", code=2).stderr
    assert "or it was taken down" in refused
    assert "`mlops-deploy release` makes one, and brings the history back" in refused
    two.release(1)
    assert two.serves() == two.versions[1]
    assert [row["end"] for row in two.json("history")] == ["released"] * 3
    two.run("down", "--volumes")
    assert not two.home.exists()


def test_down_lets_requests_finish(two):
    load = two.load(rate=100, new=50)
    time.sleep(2)
    two.run("down")
    count = load.end()
    assert count["failed"] > 0, "after the end nobody answers"
    told = {"503" if "status 503" in text else text.partition(":")[0] for _, text in count["failures"]}
    assert told <= {"503", "ConnectionRefusedError"}, count


def test_down_is_refused_while_another_command_is_at_work(one):
    one.use(2)
    gate = one.folder / "gate"
    one.configure(env={"LOADS_UNTIL": str(gate)})
    command = one.start("release", "--model", f"{one.name}:2")
    until(lambda: one.status()["lease"], 20, "the release has the lease")
    holder = one.status()["lease"]["holder"]
    for words in (("down",), ("down", "--force"), ("router", "apply")):
        refused = one.run(*words, code=3)
        assert f"by `{holder}` is running" in refused.stderr
    assert one.run("tend").stderr == ""
    assert one.serves() == one.versions[1]
    gate.touch()
    _, story = command.communicate(timeout=60)
    assert command.returncode == 0, story


def test_down_ends_an_open_release_by_force_alone(one):
    release = orphan(one)
    refused = one.run("down", code=3)
    assert f"release `{release}` has not ended" in refused.stderr
    assert one.serves() == one.versions[1]
    assert f"warning: release `{release}` was open, and has ended here" in one.run("down", "--force").stderr
    one.release(1)
    assert [(row["end"], row["exit_code"]) for row in one.json("history")][:2] == [("released", 0), ("ended", 130)]


def test_down_does_not_touch_what_is_not_ours(make_local):
    service = make_local()
    service.home.mkdir(parents=True)
    (service.home / "diary").write_text("mine")
    for words in (("down", "--volumes", "--force"), ("status",), ("history",), ("router", "apply")):
        assert "is in the way" in service.run(*words, code=2).stderr
    assert (service.home / "diary").read_text() == "mine"


def test_an_interrupted_down_is_finished_by_the_next(two):
    two.configure(release={"bake": "0s", "drain": "5s"})
    command = two.start("down")
    for line in command.stderr:
        if line.startswith("close the router"):
            command.send_signal(signal.SIGINT)
            break
    command.communicate(timeout=30)
    assert command.returncode in {130, 0}
    assert two.run("down").returncode == 0
    two.release(1)


def test_tend_finishes_what_nobody_carries_on_once_it_is_due(one):
    assert (one.run("tend").stdout, one.run("tend").stderr) == ("", "")
    one.configure(release={"bake": "2s", "drain": "5s"})
    one.use(2)
    killed = one.kill_at(14, "release", "--model", f"{one.name}:2")
    assert killed.returncode == -signal.SIGKILL
    assert one.run("tend").stderr == ""
    one.expire_lease()
    until(lambda: one.run("tend").stderr, 20, "the bake is over")
    assert one.status()["release"] is None
    assert one.serves() == one.versions[2]
    assert one.run("tend").stderr == ""


def test_the_router_gets_the_configuration_of_now_without_losing_a_request(two):
    assert "is in force already" in two.run("router", "apply").stderr
    load = two.load(rate=100, new=30)
    for _ in range(3):
        config = two.keeper / "haproxy.cfg"
        config.write_bytes(config.read_bytes() + b"# changed by hand\n")
        assert "is changed, and in force" in two.run("router", "apply").stderr
    assert "is in force already" in two.run("router", "apply").stderr
    count = load.end()
    assert count["failed"] == 0, count
    assert two.status()["router"]["in_force"] == {"share_b": 10_000, "closed": False}


def refuses(service):
    """Whether nobody listens at the service's port."""
    try:
        service.ask()
    except ConnectionError as error:
        return isinstance(error, ConnectionRefusedError)
    return False


def test_the_router_moves_to_another_port(two):
    old, two.port = two.port, free_port()
    two.configure(port=two.port)
    two.run("router", "apply")
    assert two.serves() == two.versions[2]
    two.port = old
    until(lambda: refuses(two), 60, "the worker of before has closed its port")


def test_a_router_whose_sockets_are_gone_is_said_and_made_anew_when_asked_for(two):
    for path in two.sockets.iterdir():
        path.unlink()
    stuck = two.run("router", "apply", code=2)
    assert "it does not answer its keeper" in stuck.stderr
    assert "`mlops-deploy router apply --replace` makes it anew" in stuck.stderr
    assert not two.status()["router"]["up"]
    assert two.serves() == two.versions[2]
    assert "the router is made anew" in two.run("router", "apply", "--replace").stderr
    assert two.serves() == two.versions[2]


def test_a_router_that_was_killed_is_said_and_started(two):
    os.kill(int((two.home / "router.id").read_text().split(".")[0]), signal.SIGKILL)
    until(lambda: not any("haproxy -W" in line for line in processes_of(two.home).values()), 60, "HAProxy has ended")
    gone = ("status", "--output", "json")
    until(lambda: run(*two.command(*gone), cwd=two.folder, env=two.environ("status")).returncode == 8, 60, "it is seen")
    done = two.run("status", code=8)
    assert "the router of" in done.stderr
    assert "`mlops-deploy router apply` starts it" in done.stderr
    assert "the router was down, and is started" in two.run("router", "apply").stderr
    assert two.serves() == two.versions[2]
