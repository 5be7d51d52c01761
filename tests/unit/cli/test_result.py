"""How a command ends: one line or one JSON object on stdout, the reckoning on stderr, and an exit code with a hint."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mlops_deploy.api import decisions
from mlops_deploy.api.report import Report, Traffic
from mlops_deploy.cli.place import Place
from mlops_deploy.cli.result import UnfinishedError, as_json, reckoning, show
from mlops_deploy.release.state import Counters
from tests.fakes.carriers import Silent
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.service import Simulated, story_of, unnamed

PLACE = Place(file=Path("mlops.yml"), environment="prod", target=None)
ID = "r-20231114-223000-1234"
KEYS = [
    "release", "result", "code", "reason", "live", "slot", "slots", "requests", "failed", "by_slot", "switch_seconds",
    "seconds",
]  # fmt: skip


def shown(report, capsys, output="text"):
    """Stdout, what was said, and the error."""
    story, error = Silent(), None
    try:
        show(report, output, story, PLACE)
    except UnfinishedError as caught:
        error = caught
    return capsys.readouterr().out, [unnamed(line) for line in story.said], error


def test_a_release_prints_what_is_live_and_its_id(capsys):
    report = story_of("next").release()
    out, said, error = shown(report, capsys)
    assert out == f"toy@222222222222 {report.release}\n"
    assert error is None
    assert said[0] == "released: toy@222222222222 is live in slot b"
    assert said[1] == "meanwhile the router counted 111 requests, 0 failed (slot a 67, slot b 44)"
    assert said[2] == "the switch took 15.0 ms, all of it 4.5 s"
    assert said[3:] == ["next: `mlops-deploy status -e prod` shows it, `mlops-deploy rollback -e prod` goes back"]


def test_a_release_without_slots_names_none(capsys):
    report = Report(
        result="released", code=0, release=None, reason="", live="toy@222222222222", hint="`nomad` shows it"
    )
    out, said, _ = shown(report, capsys)
    assert (out, said) == ("toy@222222222222\n", ["released: toy@222222222222 is live", "next: `nomad` shows it"])


def test_nothing_to_do_prints_what_is_live_alone(capsys):
    sim = story_of("next")
    sim.release()
    out, said, error = shown(sim.release(), capsys)
    assert (out, error) == ("toy@222222222222\n", None)
    assert said == [
        "nothing to do: toy@222222222222 is live",
        "next: `mlops-deploy status -e prod` shows what is live",
    ]


def test_a_release_that_waits_names_the_decisions_and_no_switch(capsys):
    report = story_of("held").release()
    printed, said, _ = shown(report, capsys)
    assert printed == f"toy@111111111111 {report.release}\n"
    assert said[0] == "held: toy@111111111111 is live in slot a"
    assert not any("switch" in line for line in said)
    assert said[-1] == "next: `mlops-deploy advance -e prod` goes on, `mlops-deploy abort -e prod` turns back"


def test_an_abort_is_no_failure(capsys):
    sim = story_of("held")
    sim.release()
    out, said, error = shown(decisions.abort(sim.service, "not today"), capsys)
    assert (unnamed(out), error) == (f"toy@111111111111 {ID}\n", None)
    assert said[0] == "aborted: toy@111111111111 is live in slot a"
    assert said[-1].endswith("`mlops-deploy release -e prod` tries again")


RESUME = "`mlops-deploy resume` goes on, `mlops-deploy abort` turns back"
KEPT = "`mlops-deploy status` shows what is live, `mlops-deploy history` keeps the reason"


BAD_ENDS = {
    "first-never-ready": (
        4, f"release `{ID}` turned back: not ready (process): the bootstrap ended with 65; nothing is live", KEPT,
    ),
    "never-ready": (
        4,
        f"release `{ID}` turned back: not ready (identity): it is version `other`, not `v2`; toy@111111111111 is live",
        KEPT,
    ),
    "died-under-traffic": (
        5,
        f"release `{ID}` turned back: slot b failed under traffic: the router says DOWN; toy@111111111111 is live",
        KEPT,
    ),
    "stuck": (
        6,
        (
            f"release `{ID}` could not turn back: not ready within 5 s; not ready (endpoint): the server does not "
            "answer: the proxy does not answer (it turned back because: the route is committed and could not be "
            "confirmed: the proxy does not answer)"
        ),
        "mend that, then `mlops-deploy abort` finishes turning back and lifts the freeze",
    ),
    "overtaken": (
        3,
        (
            f"release `{ID}` stopped: the lease was lost to `eve@x`, so this command stopped without changing anything "
            "more; traffic stays as it was last committed"
        ),
        "`mlops-deploy status` shows what happens now",
    ),
    "unreachable": (
        8, f"release `{ID}` stopped: the router does not answer; traffic stays as it was last committed", RESUME,
    ),
    "interrupted": (
        130, f"release `{ID}` interrupted by SIGINT: traffic stays as it was last committed", RESUME,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ENDS)
def test_each_bad_end_has_its_code_its_words_and_its_next_command(name, capsys):
    code, message, hint = BAD_ENDS[name]
    report = story_of(name).release()
    out, said, error = shown(report, capsys)
    assert out == ""
    assert (error.exit_code, unnamed(error.message), error.hint) == (code, message, hint)
    assert error.detail == (("no such model",) if name == "first-never-ready" else ())
    assert not any(line.startswith(("next:", "released", "the switch")) for line in said)
    printed, _, again = shown(report, capsys, "json")
    assert json.loads(printed) == as_json(report)
    assert again.exit_code == code == json.loads(printed)["code"]


def test_counters_of_two_runs_of_the_router_are_not_subtracted(capsys):
    report = story_of("router-restarted").release()
    _, said, _ = shown(report, capsys)
    assert said[1] == "requests could not be counted: the router was started anew meanwhile"
    found = as_json(report)
    assert (found["requests"], found["failed"], found["by_slot"]) == (None, None, None)


@pytest.mark.parametrize("name", ["next", "never-ready", "stuck", "unreachable", "router-restarted"])
def test_the_json_has_always_the_same_keys(name):
    assert list(as_json(story_of(name).release())) == KEYS


def test_the_json_of_a_release():
    report = story_of("next").release()
    found = as_json(report)
    assert found | {"switch_seconds": 0, "seconds": 0} == {
        "release": report.release, "result": "released", "code": 0, "reason": "released",
        "live": "toy@222222222222", "slot": "b",
        "slots": {
            "a": {"version": "toy@111111111111", "state": "running", "share": 0},
            "b": {"version": "toy@222222222222", "state": "running", "share": 10_000},
        },
        "requests": 111, "failed": 0,
        "by_slot": {"a": {"requests": 67, "failed": 0}, "b": {"requests": 44, "failed": 0}},
        "switch_seconds": 0, "seconds": 0,
    }  # fmt: skip
    assert found["switch_seconds"] == pytest.approx(0.015)
    assert found["seconds"] == pytest.approx(4.49, abs=0.001)


@pytest.mark.parametrize("name", ["rollback-hot", "rollback-cold"])
def test_a_rollback_ends_as_a_release(name, capsys):
    sim = Simulated(SCENARIOS[name])
    out, said, _ = shown(decisions.rollback(sim.service, sim.story), capsys)
    assert unnamed(out) == f"toy@111111111111 {ID}\n"
    assert said[0] == "released: toy@111111111111 is live in slot a"


@pytest.mark.parametrize(
    ("requests", "said"),
    [
        (0, "meanwhile the router counted 0 requests, 0 failed (slot a 0, slot b 0)"),
        (1, "meanwhile the router counted 1 request, 0 failed (slot a 1, slot b 0)"),
        (1234, "meanwhile the router counted 1,234 requests, 0 failed (slot a 1,234, slot b 0)"),
    ],
)
def test_numbers_are_said_as_people_say_them(requests, said):
    counters = Counters(requests=requests)
    traffic = Traffic(entry=counters, a=counters, b=Counters())
    assert list(reckoning(Report(result="reverted", code=4, release="r1", reason="x", traffic=traffic))) == [said]


def test_lines_of_a_server_are_obeyed_by_no_terminal(capsys):
    report = replace(
        story_of("first-never-ready").release(), reason="a\x07", lines=("\x1b[31mred\x1b[0m", "\x1b]0;x\x07")
    )
    _, _, error = shown(report, capsys)
    assert ": a\\x07; nothing is live" in error.message
    assert error.detail == ("red", "\\x1b]0;x\\x07")
