"""Where a release stands after each line."""

import pytest

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.release.journal import (
    Advanced,
    Began,
    Done,
    Ended,
    Entry,
    HeldBack,
    Interrupted,
    Opened,
    Standing,
    Taken,
    Tally,
    Turned,
    from_line,
    standing,
    to_line,
)
from mlops_deploy.release.state import Counters
from tests.simulation.scenarios import planned

PLAN = planned("next")
TALLY = Tally(started="s1", a=Counters(), b=Counters(), entry=Counters())
OPENED = Opened(at=1.0, release="r1", holder="anna", token=1, plan=PLAN, tally=TALLY)
PROMOTE = PLAN.point_of_no_return


def after(*entries: Entry) -> Standing:
    found = standing([OPENED, *entries])
    assert found is not None
    return found


def test_a_journal_without_its_first_line_never_began() -> None:
    assert standing([]) is None
    assert standing([Began(at=1.0, index=0)]) is None


def test_a_step_that_began_is_the_next_one_until_it_is_done() -> None:
    began = Began(at=2.0, index=1)
    assert (after(began).index, after(began).began) == (1, began)
    done = after(began, Done(at=3.0, index=1, switch=0.02))
    assert (done.index, done.began, done.switch, done.at) == (2, None, 0.02, 3.0)


def test_it_is_promoted_from_the_intent_on() -> None:
    assert not after(Began(at=2.0, index=PROMOTE - 1)).promoted
    assert after(Began(at=2.0, index=PROMOTE)).promoted
    assert after(Began(at=2.0, index=PROMOTE), Done(at=3.0, index=PROMOTE)).promoted


def test_undoing_moves_nothing_forward() -> None:
    turned = Turned(at=2.0, index=3, reason="it failed", exposed=True)
    back = after(Began(at=1.0, index=3), turned, Began(at=3.0, index=0, undo=True), Done(at=4.0, index=0, undo=True))
    assert (back.phase, back.index, back.turned, back.promoted) == ("back", 3, turned, False)


def test_a_hold_ends_with_the_decision() -> None:
    held = HeldBack(at=2.0, index=3, until=100.0)
    assert (after(held).phase, after(held).held) == ("held", held)
    on = after(held, Advanced(at=3.0, index=3, by="anna"))
    assert (on.phase, on.held, on.index) == ("forward", None, 4)


def test_who_carries_it_changes_nothing() -> None:
    before = after(Began(at=2.0, index=1))
    later = after(Began(at=2.0, index=1), Interrupted(at=2.5, reason="x"), Taken(at=3.0, holder="ben", token=2))
    assert (later.index, later.phase, later.began, later.at) == (before.index, before.phase, before.began, 3.0)


def test_the_end_is_the_end() -> None:
    ended = Ended(at=9.0, code=0, reason="released")
    assert (after(ended).phase, after(ended).ended) == ("ended", ended)


@pytest.mark.parametrize("index", [-1, len(PLAN.steps), 10**9])
def test_a_step_that_the_plan_does_not_have_is_refused(index: int) -> None:
    for entry in (Began(at=1.0, index=index), HeldBack(at=1.0, index=index, until=2.0)):
        with pytest.raises(UnusableInputError, match="the plan has no step"):
            after(entry)


HUGE = "x" * 10**6


@pytest.mark.parametrize("entry", [
    Turned(at=1.0, index=0, reason=HUGE, lines=(HUGE,) * 1000), Interrupted(at=1.0, reason=HUGE),
    Ended(at=1.0, code=5, reason=HUGE, tally=TALLY), Done(at=1.0, index=0, evidence=HUGE),
])  # fmt: skip
def test_whatever_a_server_says_a_line_can_be_written(entry: Entry) -> None:
    line = to_line(entry)
    assert len(line) < 41 * 520
    assert to_line(from_line(line, 0)) == line


def test_of_many_lines_the_last_are_kept_and_of_long_texts_the_beginning() -> None:
    lines = tuple(f"line {n}" for n in range(50))
    found = from_line(to_line(Turned(at=1.0, index=0, reason="y" * 501, lines=lines)), 0)
    assert found == Turned(at=1.0, index=0, reason="y" * 499 + "…", lines=lines[-40:])
    same = Turned(at=1.0, index=0, reason="y" * 500, lines=("z" * 500,))
    assert from_line(to_line(same), 0) == same
