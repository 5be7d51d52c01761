"""A journal as one row of history: whatever became of the release, and of the journal."""

import pytest

from mlops_deploy.api.history import record_of
from mlops_deploy.release.effects import Lines
from mlops_deploy.release.journal import (
    Advanced,
    Began,
    Done,
    Ended,
    HeldBack,
    Interrupted,
    Taken,
    Turned,
    to_line,
)
from tests.fakes.looks import NOW, ONE, RELEASE, TWO, journal, opened, tally

ENDED = Ended(at=NOW - 20, code=0, reason="released", tally=tally(requests=1600, failed=0))


def record(*entries, is_last=True, damaged=False):
    return record_of(RELEASE, Lines(lines=journal(*entries), damaged=damaged), is_last=is_last)


def test_a_release_that_went_well():
    found = record(opened(), Began(at=NOW - 30, index=3), Done(at=NOW - 29, index=3, switch=0.0123), ENDED)
    assert (found.release, found.end, found.code, found.by) == (RELEASE, "released", 0, "anna@build7")
    assert (found.strategy, found.before, found.after) == ("bluegreen", ONE.version, TWO.version)
    assert (found.at, found.seconds, found.switch) == (NOW - 60, 40.0, 0.0123)
    assert (found.traffic.entry.requests, found.traffic.entry.failed) == (600, 0)
    assert (found.interrupted, found.takers, found.reason, found.uncounted) == (0, (), None, None)


@pytest.mark.parametrize(("code", "end"), [(4, "aborted"), (5, "reverted"), (130, "ended")])
def test_a_release_that_did_not(code, end):
    turned = Turned(at=NOW, index=1, reason="not ready within 5 s")
    found = record(opened(), turned, Ended(at=NOW, code=code, reason="not ready within 5 s"))
    assert (found.end, found.code, found.reason) == (end, code, "not ready within 5 s")
    assert found.traffic is None


def test_nothing_is_counted_over_a_restart_of_the_router():
    found = record(opened(), Ended(at=NOW, code=0, reason="released", tally=tally(requests=5, started="run-2")))
    assert found.traffic is None
    assert found.uncounted == "the router was started anew meanwhile"


def test_interrupts_and_those_who_went_on():
    entries = (
        opened(),
        Interrupted(at=NOW, reason="interrupted by SIGINT"),
        Taken(at=NOW, holder="ben@desk", token=4),
        Interrupted(at=NOW, reason="interrupted by SIGTERM"),
        Taken(at=NOW, holder="eve@ci", token=5),
        ENDED,
    )
    found = record(*entries)
    assert (found.interrupted, found.takers, found.end) == (2, ("ben@desk", "eve@ci"), "released")


def test_whoever_decided_is_not_one_who_took_over():
    held = HeldBack(at=NOW, index=3, until=NOW)
    taken, advanced = Taken(at=NOW, holder="ben@desk", token=4), Advanced(at=NOW, index=3, by="ben@desk")
    found = record(opened(), held, taken, advanced, ENDED)
    assert (found.takers, found.advancers) == ((), ("ben@desk",))


@pytest.mark.parametrize(
    ("entries", "is_last", "end"),
    [
        ((opened(), Began(at=NOW, index=0)), True, "open"),
        ((opened(), Began(at=NOW, index=0)), False, "unfinished"),
        ((opened(), HeldBack(at=NOW, index=2, until=NOW)), True, "held"),
        ((), True, "never began"),
    ],
)
def test_a_release_that_has_not_ended(entries, is_last, end):
    assert record(*entries, is_last=is_last).end == end


def test_a_damaged_journal_still_tells_its_beginning():
    found = record(opened(), ENDED, damaged=True)
    assert (found.end, found.by, found.reason) == ("damaged", "anna@build7", "a line of it is damaged")


@pytest.mark.parametrize("line", ["", "{", "null", '{"kind":"opened"}', '{"kind":"nobody"}'])
def test_a_line_that_nobody_wrote_is_damage(line):
    whole = record_of(RELEASE, Lines(lines=(line, to_line(ENDED))), is_last=True)
    assert (whole.end, whole.by) == ("damaged", None)
    later = record_of(RELEASE, Lines(lines=(to_line(opened()), line, to_line(ENDED))), is_last=True)
    assert (later.end, later.by, later.code) == ("damaged", "anna@build7", None)
    assert "line 2" in later.reason
