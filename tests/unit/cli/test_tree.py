"""The tree of a release as a terminal shows it, in every way that it may end, and in the middle of it."""

import io

import pytest
from rich.console import Console
from rich.progress import Progress

from mlops_deploy.api import release as api
from mlops_deploy.cli import progress, tree
from mlops_deploy.cli.course import Course
from mlops_deploy.cli.tree import TerminalRelease, drawn
from mlops_deploy.release.effects import AppendLine, Pause, Paused, Written
from mlops_deploy.release.journal import Turned, to_line
from tests.simulation.service import STORIES, story_of, unnamed


def drawing(course, now, width=110):
    console = Console(file=io.StringIO(), width=width, height=60, force_terminal=False, legacy_windows=False)
    console.print(drawn(course, now))
    return unnamed("".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines()))


@pytest.mark.parametrize("name", STORIES)
def test_the_end_of_a_release(name, golden):
    sim = story_of(name)
    sim.release()
    golden(f"tree-{name}.txt", drawing(sim.course, sim.ports.wall()))


def test_a_narrow_terminal_loses_evidence_and_no_step(golden):
    sim = story_of("recreate-reverted")
    sim.release()
    said = drawing(sim.course, sim.ports.wall(), width=72)
    assert max(map(len, said.splitlines())) <= 72
    golden("tree-narrow.txt", said)


def test_a_step_that_runs_says_for_how_long_it_has_and_may():
    sim = story_of("interrupted")
    sim.release()
    began = sim.course.running.began
    assert "●  wait until slot b is ready, at most 5 s      3 s of 5 s  not ready" in drawing(sim.course, began + 3.2)


def test_what_a_server_says_is_no_command_to_the_terminal():
    sim = story_of("interrupted")
    sim.release()
    turned = Turned(at=1.0, index=1, reason="\x1b]0;x\x07[bold]\n")
    sim.course.hear(AppendLine(journal="r", line=to_line(turned), position=1, token=1), Written(index=2))
    said = drawing(sim.course, sim.ports.wall())
    assert "turned back: \\x1b]0;x\\x07[bold]\\n\n" in said
    assert said.replace("\n", "").isprintable()


def test_the_tree_stays_on_the_screen_and_facts_above_it(monkeypatch):
    sim = story_of("next")
    for module in (progress, tree):
        monkeypatch.setattr(module, "time", sim.ports)
    screen = Console(file=io.StringIO(), width=110, height=60, force_terminal=True, color_system=None)
    story = TerminalRelease(Progress(console=screen, transient=True))
    story.say("a fact")
    api.release(sim.service, sim.shelf, api.Wish(), story, story.witness)
    assert story._live.is_started
    story.end()
    assert not story._live.is_started
    said = unnamed(screen.file.getvalue())
    assert said.index("a fact") < said.index("release r-")
    last = said[said.rindex("release r-") :]
    assert "✓  let slot a finish its requests, at most 2 s" in last
    assert "└ b  live    toy@222222222222  running  ▮▮▮▮▮▮▮▮▮▮▮▮▮▮▮▮▮▮▮▮ 100 %" in last


def test_nothing_is_drawn_before_a_release_begins():
    screen = Console(file=io.StringIO(), width=110, force_terminal=True)
    story = TerminalRelease(Progress(console=screen, transient=True))
    story.witness(Pause(seconds=1.0), Paused())
    story.end()
    assert screen.file.getvalue() == ""


def test_a_share_is_drawn_to_scale():
    sim = story_of("next")
    sim.release()
    sim.course.route = type(sim.course.route)(share_b=500)
    bars = [line.split("  ")[-1] for line in drawing(sim.course, 0.0).splitlines()[-2:]]
    assert bars == ["▮" * 19 + "▯ 95 %", "▮" + "▯" * 19 + " 5 %"]


def test_an_empty_course_can_be_drawn():
    assert "├ a  empty" in drawing(Course(release="r1"), 0.0)
