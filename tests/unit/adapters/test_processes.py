"""Slots of local processes: started, replaced, stopped and found again by any process, whatever is killed meanwhile."""

import json
import os
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from shutil import rmtree

import pytest

from mlops_deploy.adapters.processes.identity import alive, identify, send
from mlops_deploy.adapters.processes.log import BOUND, BoundedLog, read_log
from mlops_deploy.adapters.processes.slot import SlotFolder
from mlops_deploy.adapters.processes.target import ProcessTarget, state_home
from mlops_deploy.errors import UnusableInputError
from mlops_deploy.spec.owner import Owner
from tests.fakes.local_slots import artefact, holds, pid_of, processes_of, until, version
from tests.fakes.ports import free_port

STUBBORN = ["/bin/sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"]
LAST_WORDS = [
    sys.executable,
    "-c",
    "import signal, sys, time\nsignal.signal(15, lambda *_: (print('bye'), sys.exit(0)))\nprint('up')\ntime.sleep(600)",
]


def make_target(folder, service="digits", environment="test"):
    owner = Owner(service=service, environment=environment)
    return ProcessTarget(owner, 1, home=folder / "state", environ={"PATH": os.defpath, "HOME": "/nowhere"})


@pytest.fixture
def target(tmp_path):
    target = make_target(tmp_path)
    yield target
    target.remove(volumes=True)
    holds(lambda: processes_of(tmp_path) == {})
    assert not (tmp_path / "state" / "digits-test").exists()


@pytest.fixture
def folder(target, tmp_path):
    return tmp_path / "state" / "digits-test"


def listed(folder):
    return sorted(path.name for path in folder.iterdir())


def state_of(folder, slot="a"):
    return json.loads((folder / slot / "state.json").read_text())


def rewrite(folder, **changes):
    path = folder / "a" / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def said(target, slot="a", task="server"):
    return list(target.logs(task, slot, 100, follow=False))


def test_nothing_is_there_before_the_first_time_and_looking_makes_nothing(target, tmp_path):
    assert target.observe("a").state == "absent"
    target.stop("a", 1)
    assert said(target) == []
    assert not (tmp_path / "state").exists()


def test_a_slot_runs_its_bootstrap_and_then_its_server(target):
    one = artefact()
    target.ensure("a", one)
    assert target.observe("a").state in {"preparing", "running"}
    view = until(target, "a", "running")
    assert (view.key, view.content, view.cause, view.restarts) == (one.key, one.content_id.hex, None, 0)
    assert version(target, "a") == one.content_id.short
    assert said(target, task="bootstrap") == ["copied"]


def test_both_slots_run_side_by_side_with_folders_and_ports_of_their_own(target, folder):
    target.ensure("a", artefact(1))
    target.ensure("b", artefact(2))
    assert version(target, "a") == artefact(1).content_id.short
    assert version(target, "b") == artefact(2).content_id.short
    assert target.address("a") != target.address("b")
    assert listed(folder / "a" / "models" / "v") == [artefact(1).content_id.hex]
    assert listed(folder / "b" / "models" / "v") == [artefact(2).content_id.hex]


def test_the_same_again_changes_nothing_also_from_many_processes_at_once(target, tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: make_target(tmp_path).ensure("a", artefact()), range(16)))
    before = until(target, "a", "running")
    target.ensure("a", artefact())
    assert target.observe("a") == before
    assert sum("server.py" in line for line in processes_of(tmp_path).values()) == 1


def test_different_ones_at_once_end_with_one_of_them(target, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda weight: make_target(tmp_path).ensure("a", artefact(weight)), range(4)))
    holds(lambda: target.observe("a").state == "running" and version(target, "a") == target.observe("a").content[:12])
    assert sum("server.py" in line for line in processes_of(tmp_path).values()) == 1


def test_another_model_replaces_the_first_and_its_volume(target, folder):
    target.ensure("a", artefact(1))
    before = until(target, "a", "running")
    target.ensure("a", artefact(2))
    assert target.observe("a").key == artefact(2).key
    after = until(target, "a", "running")
    assert version(target, "a") == artefact(2).content_id.short
    assert not alive(before.revision)
    assert after.revision != before.revision
    assert listed(folder / "a" / "models" / "v") == [artefact(2).content_id.hex]


def test_the_same_model_on_another_server_keeps_its_volume(target, folder):
    target.ensure("a", artefact())
    until(target, "a", "running")
    marked = folder / "a" / "models" / ".marked"
    marked.touch()
    target.ensure("a", artefact(ADDS="1"))
    assert until(target, "a", "running").key == artefact(ADDS="1").key
    assert marked.exists()


def test_a_failed_bootstrap_is_told_with_its_last_words_and_no_server_is_started(target):
    target.ensure("a", artefact(bootstrap="echo no room >&2; exit 74"))
    view = until(target, "a", "failed")
    assert (view.cause.kind, view.cause.message) == ("bootstrap", "the bootstrap ended with exit code 74")
    assert view.cause.lines == ("no room",)
    assert said(target) == []


def test_a_program_that_is_not_there_is_told(target):
    target.ensure("a", artefact(server=["no-such-server"]))
    view = until(target, "a", "failed")
    assert view.cause.kind == "crash"
    assert view.cause.lines == ("`no-such-server` cannot be run: No such file or directory",)


@pytest.mark.parametrize(("code", "word"), [(3, "with exit code 3"), (0, "with exit code 0")])
def test_a_server_that_ends_by_itself_has_failed_and_is_not_started_again(target, tmp_path, code, word):
    target.ensure("a", artefact(server=["/bin/sh", "-c", f"echo error: tired; exit {code}"]))
    view = until(target, "a", "failed")
    assert (view.cause.kind, view.cause.message) == ("crash", f"the server ended {word}")
    assert view.cause.lines == ("error: tired",)
    holds(lambda: processes_of(tmp_path) == {})


def test_a_failed_slot_is_tried_again_when_it_is_asked_for_again(target, tmp_path):
    once = artefact(bootstrap=f"[ -e '{tmp_path}/good' ] || exit 9; " + artefact().job["bootstrap"]["argv"][2])
    target.ensure("a", once)
    until(target, "a", "failed")
    (tmp_path / "good").touch()
    target.ensure("a", once)
    assert until(target, "a", "running").cause is None


def test_a_taken_port_is_the_cause_and_the_one_who_took_it_is_left_alone(target):
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(target.address("a"))
        other.listen()
        target.ensure("a", artefact())
        view = until(target, "a", "failed")
    assert view.cause.kind == "start"
    assert view.cause.message == f"port {target.address('a')[1]} of slot a is taken by another program"
    target.ensure("a", artefact())
    until(target, "a", "running")


def test_a_stopped_slot_is_absent_and_keeps_its_volume(target, folder, tmp_path):
    target.ensure("a", artefact())
    running = until(target, "a", "running")
    target.stop("a", 10)
    until(target, "a", "absent")
    assert not alive(running.revision)
    assert (folder / "a" / "models" / "v" / artefact().content_id.hex).is_dir()
    target.stop("a", 10)
    assert target.observe("a").key is None
    holds(lambda: processes_of(tmp_path) == {})


def test_a_server_is_asked_to_end_and_heard_to_the_end(target):
    target.ensure("a", artefact(server=LAST_WORDS, PYTHONUNBUFFERED="1"))
    holds(lambda: said(target) == ["up"])
    target.stop("a", 60)
    until(target, "a", "absent")
    assert said(target) == ["up", "bye"]


def test_a_server_that_does_not_listen_is_killed_after_its_grace(target):
    target.ensure("a", artefact(server=STUBBORN))
    holds(lambda: said(target) == ["up"])
    view = target.observe("a")
    target.stop("a", 2)
    assert target.observe("a").state == "running"
    until(target, "a", "absent")
    assert not alive(view.revision)


def test_less_patience_counts_also_when_it_comes_later(target):
    target.ensure("a", artefact(server=STUBBORN))
    holds(lambda: said(target) == ["up"])
    target.stop("a", 600)
    target.stop("a", 0.2)
    until(target, "a", "absent")


def test_a_slot_that_is_asked_for_while_it_stops_runs_again(target):
    target.ensure("a", artefact(server=LAST_WORDS, PYTHONUNBUFFERED="1"))
    holds(lambda: said(target) == ["up"])
    before = target.observe("a")
    target.stop("a", 60)
    target.ensure("a", artefact(server=LAST_WORDS, PYTHONUNBUFFERED="1"))
    holds(lambda: target.observe("a").state == "running" and target.observe("a").revision != before.revision)
    assert not alive(before.revision)


def test_another_artefact_does_not_wait_for_a_slow_bootstrap(target):
    target.ensure("a", artefact(1, bootstrap="exec sleep 600"))
    assert target.observe("a").state == "preparing"
    target.ensure("a", artefact(2))
    until(target, "a", "running")
    assert version(target, "a") == artefact(2).content_id.short


def test_a_killed_server_has_failed_with_its_signal_and_leaves_no_child(target, tmp_path):
    family = [sys.executable, "-c", "import subprocess\nsubprocess.run(['sleep', '600'])"]
    target.ensure("a", artefact(server=family))
    view = until(target, "a", "running")
    holds(lambda: any(line.startswith("sleep") for line in processes_of(tmp_path).values()))
    os.kill(pid_of(view.revision), signal.SIGKILL)
    failed = until(target, "a", "failed")
    assert (failed.cause.kind, failed.cause.message) == ("crash", "the server ended by SIGKILL")
    assert failed.key == view.key
    holds(lambda: processes_of(tmp_path) == {})


@pytest.mark.parametrize("phase", ["bootstrap", "server"])
def test_a_killed_supervisor_takes_its_task_with_it_and_the_slot_can_be_asked_again(target, tmp_path, folder, phase):
    one = artefact(bootstrap="exec sleep 600" if phase == "bootstrap" else artefact().job["bootstrap"]["argv"][2])
    target.ensure("a", one)
    holds(lambda: state_of(folder)["phase"] == phase)
    os.kill(pid_of(state_of(folder)["supervisor"]), signal.SIGKILL)
    view = until(target, "a", "failed")
    assert view.cause.message == "the supervisor of the slot was killed"
    holds(lambda: processes_of(tmp_path) == {})
    target.ensure("a", artefact(2))
    until(target, "a", "running")
    assert version(target, "a") == artefact(2).content_id.short


@pytest.mark.parametrize("then", ["ensure", "stop"])
def test_what_outlives_a_killed_supervisor_is_ended_by_whoever_comes_next(target, folder, then):
    target.ensure("a", artefact(server=STUBBORN))
    holds(lambda: said(target) == ["up"])
    orphan = target.observe("a").revision
    os.kill(pid_of(state_of(folder)["supervisor"]), signal.SIGKILL)
    until(target, "a", "failed")
    assert alive(orphan)
    if then == "stop":
        target.stop("a", 1)
        until(target, "a", "absent")
    else:
        target.ensure("a", artefact(2))
        until(target, "a", "running")
        assert version(target, "a") == artefact(2).content_id.short
    assert not alive(orphan)


def test_a_supervisor_that_is_told_to_end_ends_its_server_first(target, folder, tmp_path):
    target.ensure("a", artefact())
    until(target, "a", "running")
    os.kill(pid_of(state_of(folder)["supervisor"]), signal.SIGTERM)
    view = until(target, "a", "failed")
    assert view.key == artefact().key
    assert view.cause.message == "the slot was ended from outside, by SIGTERM to its supervisor"
    holds(lambda: processes_of(tmp_path) == {})
    target.ensure("a", artefact())
    until(target, "a", "running")


def test_a_supervisor_that_fails_says_why(target, folder, tmp_path):
    target.address("a")
    (folder / "a").mkdir()
    (folder / "a" / "models").write_text("in the way")
    target.ensure("a", artefact())
    view = until(target, "a", "failed")
    assert view.cause.message == "the supervisor of the slot failed"
    assert "NotADirectoryError" in view.cause.lines[-1]
    holds(lambda: processes_of(tmp_path) == {})
    (folder / "a" / "models").unlink()
    target.ensure("a", artefact())
    until(target, "a", "running")


def test_what_was_only_asked_for_when_the_command_died_is_not_taken_for_what_ran_before(target, folder):
    target.ensure("a", artefact(1, server=["/bin/sh", "-c", "exit 3"]))
    until(target, "a", "failed")
    slot = SlotFolder(folder / "a")
    slot.want(replace(slot.wanted(), key="f" * 64))
    view = target.observe("a")
    assert (view.state, view.key, view.cause) == ("stopped", "f" * 64, None)
    target.ensure("a", artefact(1))
    until(target, "a", "running")


def test_a_number_that_another_process_has_now_is_not_taken_for_ours(target, folder):
    target.ensure("a", artefact())
    until(target, "a", "running")
    target.stop("a", 10)
    until(target, "a", "absent")
    target.ensure("a", artefact())
    until(target, "a", "running")
    supervisor = state_of(folder)["supervisor"]
    mine = identify(os.getpid())
    pid, _, boot = mine.split(".")
    recycled = f"{pid}.1.{boot}"
    rewrite(folder, supervisor=recycled, process=recycled)
    assert target.observe("a").state == "failed"
    assert not send(recycled, signal.SIGKILL)
    target.stop("a", 1)
    assert target.observe("a").state == "absent"
    rewrite(folder, supervisor=supervisor, process=state_of(folder)["process"])
    target.ensure("a", artefact())
    until(target, "a", "running")


def test_after_the_machine_was_restarted_a_slot_is_stopped(target, folder):
    target.ensure("a", artefact())
    until(target, "a", "running")
    supervisor, process = state_of(folder)["supervisor"], state_of(folder)["process"]
    rewrite(folder, supervisor="1.1.00000000", process="2.2.00000000")
    view = target.observe("a")
    assert (view.state, view.key, view.cause) == ("stopped", artefact().key, None)
    rewrite(folder, supervisor=supervisor, process=process)


def test_a_job_that_is_none_is_refused_and_changes_nothing(target):
    with pytest.raises(UnusableInputError, match=r"`job.server.argv`: missing"):
        target.ensure("a", replace(artefact(), job={"bootstrap": {"argv": [], "env": {}}, "server": {"env": {}}}))
    assert target.observe("a").state == "absent"


def test_a_folder_that_is_not_ours_is_refused_and_not_touched(tmp_path):
    home = tmp_path / "state"
    (home / "digits-test").mkdir(parents=True)
    (home / "digits-test" / "precious").write_text("mine")
    target = make_target(tmp_path)
    for act in (
        lambda: target.ensure("a", artefact()),
        lambda: target.observe("a"),
        lambda: target.stop("a", 1),
        lambda: target.remove(volumes=True),
        lambda: target.make_router(""),
        target.keeper,
    ):
        with pytest.raises(UnusableInputError, match=r"is in the way: it has no `service\.json`") as refused:
            act()
        assert "was not touched" in refused.value.hint
    assert listed(home / "digits-test") == ["precious"]


@pytest.fixture
def far(tmp_path):
    """A service whose folder is too deep for sockets, and where its sockets go instead."""
    deep, programs = tmp_path / ("deep" * 20), tmp_path / "programs"
    programs.mkdir()
    (programs / "haproxy").symlink_to("/bin/true")
    near = deep / "state" / "digits-test" / "run"
    far = Path("/tmp") / f"mlops-deploy-{sha256(bytes(near)).hexdigest()[:16]}"  # noqa: S108 - where the router puts it
    owner = Owner(service="digits", environment="test")
    yield ProcessTarget(owner, free_port(), home=deep / "state", environ={"PATH": str(programs)}), far
    if far.is_symlink() or far.is_file():
        far.unlink()
    rmtree(far, ignore_errors=True)


@pytest.mark.parametrize("kind", ["link", "file", "open", "readable", "theirs"])
def test_sockets_go_into_no_folder_that_others_may_write_or_own(far, tmp_path, monkeypatch, kind):
    target, place = far
    target.address("a")  # makes the service's folder
    match kind:
        case "link":
            (tmp_path / "trap").mkdir(mode=0o700)
            place.symlink_to(tmp_path / "trap")
        case "file":
            place.touch(0o600)
        case _:
            place.mkdir(mode=0o700)
            place.chmod({"open": 0o770, "readable": 0o704}.get(kind, 0o700))
    if kind == "theirs":
        monkeypatch.setattr(os, "getuid", lambda: place.stat().st_uid + 1)
    for act in (lambda: target.make_router(""), lambda: target.remove(volumes=True)):
        with pytest.raises(UnusableInputError, match=r"is in the way of the router's sockets") as refused:
            act()
        assert "XDG_STATE_HOME" in refused.value.hint
    assert place.exists()


def test_two_services_that_share_a_name_are_told_apart(tmp_path):
    make_target(tmp_path).address("a")
    other = make_target(tmp_path, service="digits-test", environment=None)
    with pytest.raises(UnusableInputError, match="belongs to the service `digits` in environment `test`"):
        other.ensure("a", artefact())


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("precious", "mine", "it holds `precious` and no `job.json`"),
        ("job.json", "{", "`job.json` is none of ours"),
        ("job.json", "[]", "`job.json` is none of ours"),
        ("job.json", '{"kind": "wanted"}', "`job.json` is none of ours"),
    ],
)
def test_a_slot_that_is_not_ours_is_refused_and_not_touched(tmp_path, name, text, why):
    target = make_target(tmp_path)
    target.address("a")
    slot = tmp_path / "state" / "digits-test" / "a"
    slot.mkdir()
    (slot / name).write_text(text)
    for act in (
        lambda: target.ensure("a", artefact()),
        lambda: target.observe("a"),
        lambda: target.remove(volumes=True),
    ):
        with pytest.raises(UnusableInputError, match="is in the way") as refused:
            act()
        assert why in refused.value.message
    assert (slot / name).read_text() == text


def test_a_slot_of_another_service_is_refused(target, folder):
    target.ensure("a", artefact())
    until(target, "a", "running")
    target.stop("a", 5)
    until(target, "a", "absent")
    text = (folder / "a" / "job.json").read_text()
    (folder / "a" / "job.json").write_text(text.replace('"digits-test"', '"wine"'))
    with pytest.raises(UnusableInputError, match="it belongs to slot a of `wine`"):
        target.ensure("a", artefact())
    (folder / "a" / "job.json").write_text(text)


def test_a_file_where_a_folder_should_be_is_one_clear_error(tmp_path):
    (tmp_path / "state").write_text("in the way")
    with pytest.raises(UnusableInputError, match="it is no folder"):
        make_target(tmp_path).ensure("a", artefact())


def test_ports_are_kept_differ_between_services_and_are_out_of_reach_of_outgoing_connections(tmp_path):
    targets = [make_target(tmp_path, service=f"service-{number}") for number in range(20)]
    ports = [target.address(slot)[1] for target in targets for slot in ("a", "b")]
    assert len(set(ports)) == len(ports)
    assert all(20_000 <= port < 32_000 for port in ports)
    assert [make_target(tmp_path, service="service-3").address(slot)[1] for slot in ("a", "b")] == ports[6:8]


def test_without_volumes_the_models_stay(target, folder):
    target.ensure("a", artefact())
    until(target, "a", "running")
    port = target.address("a")
    target.remove(volumes=False)
    assert sorted(path.name for path in (folder / "a").iterdir()) == ["models"]
    assert target.observe("a").state == "absent"
    assert target.address("a") == port


def test_a_task_sees_what_its_job_says_and_little_else(target, monkeypatch):
    monkeypatch.setenv("MLOPS_SECRET", "planted")
    target.ensure("a", artefact(server=["/bin/sh", "-c", "env; exit 1"], ASKED="yes"))
    until(target, "a", "failed")
    seen = {line.partition("=")[0] for line in said(target)}
    assert {"ASKED", "HOME", "PATH", "PORT"} <= seen
    assert "MLOPS_SECRET" not in seen


def test_logs_follow_a_task_to_its_end_and_no_further(target, tmp_path):
    go_on = f"while [ ! -e '{tmp_path}/go' ]; do sleep 0.05; done"
    script = f"echo line 1; echo line 2; {go_on}; for n in 3 4 5 6; do echo line $n; sleep 0.1; done; exit 1"
    target.ensure("a", artefact(server=["/bin/sh", "-c", script]))
    holds(lambda: "line 2" in said(target))
    lines = target.logs("server", "a", 1, follow=True)
    assert next(lines) == "line 2"
    (tmp_path / "go").touch()
    assert list(lines) == ["line 3", "line 4", "line 5", "line 6"]
    assert list(target.logs("server", "a", 2, follow=False)) == ["line 5", "line 6"]
    assert list(target.logs("server", "a", 0, follow=False)) == []


def test_a_log_never_grows_beyond_its_bound_and_the_newest_lines_are_there(tmp_path):
    path = tmp_path / "server.log"
    log = BoundedLog(path)
    for number in range(40_000):
        log(f"{number:08} {'x' * 90}")
    log.close()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 2 * BOUND + 200
    lines = list(read_log(path, 10_000, lambda: False))
    assert len(lines) == 10_000
    assert [line[:8] for line in (lines[0], lines[-1])] == ["00030000", "00039999"]


def test_a_log_is_followed_when_it_is_begun_anew(tmp_path):
    path = tmp_path / "server.log"
    log = BoundedLog(path)
    log("first")
    turns = iter([True, True, True, False])
    lines = read_log(path, 5, lambda: next(turns))
    assert next(lines) == "first"
    log("second")
    assert next(lines) == "second"
    log.close()
    again = BoundedLog(path)
    again("third")
    assert list(lines) == ["third"]
    again.close()


def test_the_state_home_is_the_users_unless_an_absolute_one_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    usual = tmp_path / ".local" / "state" / "mlops-deploy"
    assert state_home({}) == state_home({"XDG_STATE_HOME": ""}) == state_home({"XDG_STATE_HOME": "relative"}) == usual
    assert state_home({"XDG_STATE_HOME": "/var/lib/me"}).as_posix() == "/var/lib/me/mlops-deploy"
