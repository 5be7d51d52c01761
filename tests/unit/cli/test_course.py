"""What a release says in plain lines: one for each step, in every way that it may end."""

from dataclasses import replace

import pytest

from mlops_deploy.api import decisions
from mlops_deploy.api import release as api
from mlops_deploy.cli import progress
from mlops_deploy.cli.course import Course, headline, legible
from mlops_deploy.cli.progress import PlainRelease
from mlops_deploy.release.effects import (
    Accepted,
    AppendLine,
    CommitRoute,
    Committed,
    Lines,
    ObserveRouter,
    ReadJournal,
    Refused,
    Tell,
    Written,
)
from mlops_deploy.release.journal import Began, Done, Turned, to_line
from mlops_deploy.release.observe import CURRENT
from mlops_deploy.release.state import whole
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.service import STORIES, Simulated, story_of, unnamed


def lines_of(capsys):
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.replace("\n", "").isprintable()
    return unnamed(told.err)


def told(sim, act, monkeypatch, capsys):
    monkeypatch.setattr(progress, "time", sim.ports)
    telling = PlainRelease()
    return act(telling), lines_of(capsys)


def release(sim, monkeypatch, capsys):
    wish = api.Wish(hold=sim.scenario.hold)
    return told(sim, lambda t: api.release(sim.service, sim.shelf, wish, t, t.witness), monkeypatch, capsys)


@pytest.mark.parametrize("name", STORIES)
def test_each_step_is_one_line(name, monkeypatch, capsys, golden):
    _, said = release(story_of(name), monkeypatch, capsys)
    golden(f"plain-{name}.txt", said)


@pytest.mark.parametrize("name", ["rollback-hot", "rollback-cold"])
def test_a_rollback_says_first_whether_it_is_hot(name, monkeypatch, capsys, golden):
    sim = Simulated(SCENARIOS[name])
    _, said = told(sim, lambda t: decisions.rollback(sim.service, t, t.witness), monkeypatch, capsys)
    golden(f"plain-{name}.txt", said)


def test_who_goes_on_tells_the_steps_that_are_left(monkeypatch, capsys):
    sim = story_of("interrupted")
    release(sim, monkeypatch, capsys)
    sim.ports.interrupt, sim.ports.before = None, lambda effect: None
    report, said = told(sim, lambda t: decisions.resume(sim.service, t.witness), monkeypatch, capsys)
    assert report.result == "released"
    lines = said.splitlines()
    assert lines[0].endswith("toy: toy@111111111111 -> toy@222222222222, bluegreen on process, slot b: goes on")
    assert [line.partition(" (")[0] for line in lines[1:]] == [
        "done: wait until slot b is ready, at most 5 s",
        "done: warm up slot b",
        "done: send all traffic to slot b",
        "done: watch slot b under traffic for 1.5 s",
        "done: promote slot b",
        "done: let slot a finish its requests, at most 2 s",
    ]


def test_an_abort_is_told_as_turning_back_and_not_as_a_failure(monkeypatch, capsys):
    sim = story_of("held")
    release(sim, monkeypatch, capsys)
    report, said = told(sim, lambda t: decisions.abort(sim.service, "not today", t.witness), monkeypatch, capsys)
    assert (report.result, report.code) == ("aborted", 0)
    assert "turning back, at `wait for a decision: the candidate is ready`: not today\n" in said
    assert "failed" not in said


def test_what_somebody_writes_into_a_reason_is_obeyed_by_no_terminal(monkeypatch, capsys):
    sim = story_of("held")
    release(sim, monkeypatch, capsys)
    _, said = told(
        sim, lambda t: decisions.abort(sim.service, "a\x1b]0;x\x07\nb\x1b[31m", t.witness), monkeypatch, capsys
    )
    assert ": a\\x1b]0;x\\x07\\nb\n" in said


def test_legible_takes_colours_away_and_escapes_the_rest():
    assert legible("\x1b[31mred\x1b[0m\tü\r") == "red\\tü\\r"


def test_an_unreadable_journal_does_not_keep_an_abort_from_closing_it(monkeypatch, capsys):
    sim = story_of("interrupted")
    release(sim, monkeypatch, capsys)
    sim.ports.interrupt, sim.ports.before = None, lambda effect: None
    journal = sim.world.journals[sim.world.keys[CURRENT][0]]
    for line in ("{}", to_line(Began(at=1.0, index=99, undo=True))):
        journal[2:] = [line]
        report, _ = told(sim, lambda t: decisions.abort(sim.service, "x", t.witness), monkeypatch, capsys)
        assert report.result == "aborted"
        assert "cannot be read" in report.reason
        sim.world.keys[CURRENT] = (next(iter(sim.world.journals)), 9, sim.world.now)


def test_a_release_after_one_that_turned_back_does_not_say_that_it_did():
    sim = story_of("never-ready")
    assert sim.release().code == 4
    assert sim.course.turned
    sim.course = Course()
    assert sim.release().code == 0
    assert sim.course.turned == ""
    assert {row.state for row in sim.course.rows} == {"done"}
    assert not any(row.back for row in sim.course.rows)


def rows(course):
    return [(row.text, row.state) for row in course.rows]


def test_the_course_that_another_process_began_is_caught_up_with():
    sim = story_of("interrupted")
    sim.release()
    seen = Course()
    lines = tuple(next(iter(sim.world.journals.values())))
    seen.hear(ReadJournal(journal="r"), Lines(lines=lines))
    assert rows(seen) == rows(sim.course)
    assert seen.running.text == "wait until slot b is ready, at most 5 s"
    assert seen.running.began == sim.course.running.began
    seen.hear(ReadJournal(journal="r"), Lines(lines=lines[:1]))
    assert rows(seen) == rows(sim.course), "what is known is not read again"


def test_a_damaged_journal_is_not_followed():
    sim = story_of("interrupted")
    sim.release()
    seen = Course()
    lines = tuple(next(iter(sim.world.journals.values())))
    seen.hear(ReadJournal(journal="r"), Lines(lines=lines, damaged=True))
    assert rows(seen) == []


def append(course, entry):
    course.hear(AppendLine(journal="r", line=to_line(entry), position=1, token=1), Written(index=2))


def test_a_step_back_that_is_begun_anew_stands_once():
    sim = story_of("interrupted")
    sim.release()
    append(sim.course, Turned(at=sim.ports.wall(), index=1, reason="enough"))
    for _ in range(2):
        append(sim.course, Began(at=1.0, index=0, undo=True, part=0))
    append(sim.course, Done(at=2.0, index=0, undo=True, part=0, seconds=1.0, evidence="quiet"))
    back = [row for row in sim.course.rows if row.back]
    assert [(row.text, row.state, row.note) for row in back] == [
        ("let slot b finish its requests, at most 2 s", "done", "quiet")
    ]
    failed = next(row for row in sim.course.rows if row.state == "failed")
    assert failed.seconds == pytest.approx(sim.ports.wall() - failed.began)


def test_what_is_waited_for_stands_beside_the_step_that_waits():
    sim = story_of("interrupted")
    sim.release()
    sim.course.hear(Tell(text="the model is being copied\x07"), Accepted())
    assert [row.note for row in sim.course.rows if row.state == "running"] == ["the model is being copied\\x07"]
    assert sim.course.rows[0].note == "begun"


def test_slots_are_named_by_what_they_are_for():
    sim = story_of("held")
    sim.release()
    assert [(s.slot, s.role, s.version, s.share) for s in sim.course.slots()] == [
        ("a", "live", "toy@111111111111", 10_000), ("b", "candidate", "toy@222222222222", 0),
    ]  # fmt: skip
    assert sim.course.running.text == "wait for a decision: the candidate is ready"
    decisions.advance(sim.service, sim.course.hear)
    assert {row.state for row in sim.course.rows} == {"done"}
    assert [(s.role, s.share) for s in sim.course.slots()] == [("parked", 0), ("live", 10_000)]


def test_shares_follow_what_is_committed_and_what_is_seen():
    course = Course()
    course.hear(CommitRoute(route=whole("b"), generation=1, token=1), Refused(reason="late"))
    assert [s.share for s in course.slots()] == [0, 0]
    course.hear(CommitRoute(route=whole("b"), generation=1, token=1), Committed(generation=2))
    assert [s.share for s in course.slots()] == [0, 10_000]
    course.hear(ObserveRouter(), replace(story_of("next").world.router(), route=whole("a")))
    assert [s.share for s in course.slots()] == [10_000, 0]


def test_slots_before_anything_was_seen_are_those_of_the_plan():
    sim = story_of("next")
    sim.release()
    seen = Course()
    seen.hear(ReadJournal(journal="r"), Lines(lines=(next(iter(sim.world.journals.values()))[0],)))
    assert [(s.role, s.version, s.state) for s in seen.slots()] == [
        ("live", "toy@111111111111", ""),
        ("empty", "-", ""),
    ]
    assert seen.before == "toy@111111111111"
    seen.plan = replace(seen.plan, artefacts=seen.plan.artefacts[-1:])
    assert seen.before == "unknown"
    assert seen.slots()[0].version == "unknown"
    seen.plan = replace(seen.plan, base=replace(seen.plan.base, route=whole("b")))
    assert seen.before is None


def test_nothing_is_known_of_an_empty_course():
    assert Course().before is None
    assert Course().running is None
    assert headline(Course(release="r1")) == "release r1"
