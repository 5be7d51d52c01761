"""`release`, `plan` and their relatives as commands: options that contradict, plan files, and what is printed where."""

import json
import shlex
from dataclasses import replace

import pytest

from mlops_deploy.api import rolling
from mlops_deploy.cli import main, place, progress
from mlops_deploy.cli import release as release_module
from mlops_deploy.release.plan import load, save
from tests.simulation.service import story_of, unnamed
from tests.unit.api.test_native import Nothing
from tests.unit.api.test_rolling import Job, seen

INSECURE = " --insecure-registry r --insecure-registry '[::1]:1'"


class Command:
    """The command line in a folder, on a simulated service."""

    def __init__(self, sim, folder, patch, capsys):
        self.sim, self.folder, self.patch, self.capsys = sim, folder, patch, capsys
        (folder / "m").write_text("model")
        (folder / "mlops.yml").write_text("service: toy\nmodel: {path: m}\n")
        patch.chdir(folder)
        patch.setattr(place, "find_service", lambda *_: self.sim.service)
        patch.setattr(progress, "time", sim.ports)
        patch.setattr("mlops_deploy.cli.wiring.shelf", lambda project: self.sim.shelf)

    def __call__(self, *arguments):
        """The exit code, stdout and stderr."""
        self.patch.setattr(main.sys, "argv", ["mlops-deploy", *map(str, arguments)])
        self.patch.setattr(main, "prepare_streams", lambda: None)
        self.patch.setattr(main, "_hear_signals", lambda: None)
        code = main.run()
        out, err = self.capsys.readouterr()
        return code, unnamed(out), unnamed(err)


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    return lambda name: Command(story_of(name), tmp_path, monkeypatch, capsys)


ID = "r-20231114-223000-1234"


def test_a_release_from_its_command_line_to_its_last_line(command, golden):
    code, out, err = command("next")("release")
    assert (code, out) == (0, f"toy@222222222222 {ID}\n")
    golden("release.txt", err)


def test_a_failure_is_an_error_with_a_hint_for_this_service(command, golden):
    run = command("first-never-ready")
    (run.folder / "mlops.prod.yml").write_text("port: 9001\n")
    code, out, err = run("release", "-e", "prod")
    assert (code, out) == (4, "")
    golden("release-never-ready.txt", err)


@pytest.mark.parametrize(("name", "code"), [("next", 0), ("never-ready", 4), ("died-under-traffic", 5), ("stuck", 6)])
def test_the_result_as_json_is_all_of_stdout(name, code, command):
    done, out, _ = command(name)("release", "--output", "json")
    assert (done, json.loads(out)["code"]) == (code, code)


def test_until_ready_waits_and_advance_goes_on(command):
    run = command("next")
    assert run("release", "--until", "ready")[:2] == (0, f"toy@111111111111 {ID}\n")
    code, out, err = run("resume")
    assert (code, out) == (2, "")
    assert "waits for a decision" in err
    assert run("advance")[:2] == (0, f"toy@222222222222 {ID}\n")
    assert run("rollback")[:2] == (0, f"toy@111111111111 {ID}\n")


def test_abort_turns_back(command):
    run = command("held")
    run("release", "--until", "ready")
    code, out, err = run("abort", "-m", "not today")
    assert (code, out) == (0, f"toy@111111111111 {ID}\n")
    assert "turning back, at `wait for a decision: the candidate is ready`: not today\n" in err


@pytest.mark.parametrize("golden", ["x" * (2 << 20), "no JSON", None], ids=["too large", "no JSON", "absent"])
def test_what_releases_nothing_needs_no_file_that_a_release_needs(command, golden):
    run = command("next")
    assert run("release")[0] == 0
    (run.folder / "mlops.yml").write_text(
        "service: toy\nmodel: {path: m}\nserver: {hook: gone.py}\nready: {golden: g.jsonl}\n"
    )
    if golden is not None:
        (run.folder / "g.jsonl").write_text(golden)
    assert run("release")[0] == 2
    assert [run(verb)[0] for verb in ("status", "rollback", "tend")] == [0, 0, 0]


def test_an_open_release_refuses_the_next_one(command):
    run = command("held")
    run("release", "--until", "ready")
    code, out, err = run("release")
    assert (code, out) == (3, "")
    assert "`mlops-deploy advance`" in err


@pytest.mark.parametrize(
    "option", [("--strategy", "recreate"), ("--model", "toy:1"), ("--server", "s:1"), ("--until", "ready")]
)
def test_a_plan_and_what_contradicts_it(option, command):
    code, out, err = command("next")("release", "--plan", "absent.json", *option)
    assert (code, out) == (2, "")
    assert f"a plan says all of it: `{option[0]}` cannot be given together with `--plan`" in err


def test_a_plan_is_written_shown_and_carried_out(command):
    run = command("next")
    code, out, _ = run("plan", "-o", "p.json", "--detailed-exitcode")
    assert code == 10
    assert out.startswith("toy on process: bluegreen, slot b\n")
    text = (run.folder / "p.json").read_text()
    assert run("plan", "--output", "json")[1] == text == save(load(text, "p"))
    before = run.sim.world.generation
    by_plan = "next: mlops-deploy release --plan p.json\n"
    assert run("release", "--plan", "p.json", "--dry-run") == (0, out, by_plan)
    assert run("release", "--dry-run") == (0, out, "next: mlops-deploy release\n")
    waiting = "release --strategy bluegreen --until ready"
    assert run(*waiting.split(), "--dry-run")[2] == f"next: mlops-deploy {waiting}\n"
    assert run.sim.world.generation == before
    assert run("release", "--plan", "p.json")[:2] == (0, f"toy@222222222222 {ID}\n")
    for more in ((), ("--dry-run",)):
        code, out, err = run("release", "--plan", "p.json", *more)
        assert (code, out) == (3, "")
        assert "mlops-deploy plan" in err
    assert run("plan", "--detailed-exitcode")[:2] == (0, "toy on process: nothing to do, toy@222222222222 is live\n")


@pytest.mark.parametrize(
    ("options", "next_one"),
    [
        ((), "release"),
        (("--strategy", "recreate"), "release --strategy recreate"),
        (("-o", "a plan"), "release --plan 'a plan'"),
        (("-o", "p", "--insecure-registry", "r:1"), "release --plan p --insecure-registry r:1"),
        (("--insecure-registry", "r", "--insecure-registry", "[::1]:1"), f"release{INSECURE}"),
        (("-f", "mlops.yml", "-e", "prod", "--target", "process"), "release -e prod --target process"),
    ],
)
def test_a_plan_names_the_command_that_carries_it_out(command, options, next_one):
    run = command("next")
    (run.folder / "mlops.prod.yml").write_text("port: 9001\n")
    code, out, err = run("plan", *options)
    assert (code, err) == (0, f"next: mlops-deploy {next_one}\n")
    assert "next:" not in out
    assert "next:" not in run("plan", *options, "--output", "json")[2]
    assert run(*shlex.split(next_one))[0] == 0


def test_a_release_without_slots_from_its_plan_to_its_last_line(command):
    run = command("next")
    job = Job(seen("waiting"), seen("waiting"), seen("settled"))
    service = run.sim.service
    spec = replace(service.spec, release=replace(service.spec.release, strategy=None))
    service = replace(service, spec=spec, target=Nothing(), rolling=lambda: job)
    run.patch.setattr(place, "find_service", lambda *_: service)
    run.patch.setattr(rolling, "_proof", lambda *_: ("prove",))
    for words in ("plan --native", "release --native --dry-run"):
        code, out, err = run(*words.split())
        assert (code, err) == (0, "next: mlops-deploy release --native\n")
        assert out.startswith("toy on process: rolling (native), 1 server\n")
        assert "  beware    no `resources.memory`: " in out
        assert out.endswith("  rollback  cold: another deployment of what runs now\n")
        assert "next:" not in run(*words.split(), "--output", "json")[2]
    first = replace(service, rolling=lambda: Job(before=seen("absent")))
    with run.patch.context() as patch:
        patch.setattr(place, "find_service", lambda *_: first)
        assert run("plan", "--native")[1].endswith("  rollback  none: nothing is live now\n")
    code, out, err = run("release", "--native")
    assert (code, out) == (0, "toy@222222222222\n")
    assert "released: toy@222222222222 is live\n" in err
    assert err.endswith("next: `nomad job status` and `nomad deployment list` show it\n")


def test_a_plan_of_a_frozen_service_names_what_lifts_the_freeze(command):
    run = command("next")
    run("freeze", "--message", "incident 812")
    assert run("plan")[2] == "next: mlops-deploy unfreeze\n"


def test_a_plan_does_not_overwrite_what_is_needed(command):
    run = command("next")
    code, _, err = run("plan", "-o", "mlops.yml")
    assert code == 2
    assert "would overwrite `" in err
    assert "service: toy" in (run.folder / "mlops.yml").read_text()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "the plan `p.json` cannot be read: no such file or directory"),
        (b"\xff\xfe", "the plan `p.json` cannot be read: it is not text"),
        (b"{", "`p.json` is not a plan: "),
        (b"[]", "`p.json` is not a plan of mlops-deploy"),
        (b" " * 101, "`p.json` is too large to be a plan"),
    ],
)
def test_a_file_that_is_no_plan(content, said, command, monkeypatch):
    monkeypatch.setattr(release_module, "_MOST", 100)
    run = command("next")
    if content is not None:
        (run.folder / "p.json").write_bytes(content)
    code, out, err = run("release", "--plan", "p.json")
    assert (code, out) == (2, "")
    assert f"error: {said}" in err
    assert "hint: " in err
    assert run.sim.world.journals == {}


def test_a_folder_is_no_plan(command):
    code, _, err = command("next")("release", "--plan", ".")
    assert code == 2
    assert "the plan `.` cannot be read: is a directory" in err
