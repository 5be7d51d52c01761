"""What a look says: roles, how an open release goes, its deadline, and the commands that come next."""

from dataclasses import replace

import pytest

from mlops_deploy.api.status import HastyClock, deadline, doing, following, watch
from mlops_deploy.errors import UnreachableError
from mlops_deploy.release.journal import Advanced, Began, Done, HeldBack, Turned, standing
from mlops_deploy.release.lease import Holder, Lease
from mlops_deploy.release.state import Cause, Freeze, Route
from mlops_deploy.release.steps import AwaitReady, Start
from tests.fakes.looks import NOW, ONE, RELEASE, TWO, first_live, observed, opened, router, status, view

HOLDER = Lease(token=4, ttl=60.0, holder=Holder(name="anna@build7", nonce="1"), release=RELEASE)
AWAITING = standing([opened(), Began(at=NOW - 50, index=0), Done(at=NOW - 45, index=0), Began(at=NOW - 45, index=1)])
HELD = standing([opened(), Began(at=NOW - 50, index=1), HeldBack(at=NOW, index=2, until=NOW + 60)])
PROMOTED = standing([opened(), Began(at=NOW - 5, index=5), Done(at=NOW, index=5)])
CLOSED = router(Route(closed=True))


def test_the_plan_of_these_tests_has_its_steps_where_they_say():
    assert [type(planned.step).__name__ for planned in opened().plan.steps] == [
        "Start", "AwaitReady", "Warm", "Shift", "Bake", "Promote", "Drain",
    ]  # fmt: skip
    assert PROMOTED.promoted
    assert not AWAITING.promoted


@pytest.mark.parametrize(
    ("seen", "roles"),
    [
        (observed(), ("parked", "live")),
        (first_live(), ("live", "empty")),
        (first_live(b=view("b", "failed", TWO)), ("live", "failed")),
        (first_live(b=view("b", "stopped", TWO)), ("live", "stopped")),
        (observed(b=view("b", "failed", TWO, cause=Cause(kind="crash", message="it fell"))), ("parked", "live")),
        (observed(router=router(Route(share_b=500))), ("live", "live")),
        (observed(router=CLOSED), ("parked", "parked")),
        (first_live(router=router(Route(share_b=10_000))), ("parked", "empty")),
    ],
)
def test_roles(seen, roles):
    assert (status(seen).role("a"), status(seen).role("b")) == roles


@pytest.mark.parametrize("state", ["preparing", "running"])
def test_what_a_release_starts_is_a_candidate_until_it_has_traffic(state):
    seen = first_live(b=view("b", state, TWO))
    assert status(seen, open=AWAITING).role("b") == "candidate"
    exposed = replace(seen, router=router(Route(share_b=10_000)))
    assert status(exposed, open=AWAITING).role("b") == "live"


@pytest.mark.parametrize(
    ("found", "course", "next_"),
    [
        (None, None, ("release",)),
        (status(), None, ("rollback",)),
        (status(observed(a=view("a", "stopped", ONE))), None, ("history",)),
        (status(first_live()), None, ("history",)),
        (status(observed(router=CLOSED)), None, ("release",)),
        (status(observed(live=None)), None, ("release",)),
        (status(observed(freeze=Freeze(reason="r", by="eve@x", at=1))), None, ("unfreeze",)),
        (status(open=AWAITING, holder=HOLDER), "running", ("status -w",)),
        (status(open=AWAITING), "orphaned", ("resume", "abort")),
        (status(open=PROMOTED), "orphaned", ("resume",)),
        (status(open=HELD), "held", ("advance", "abort")),
        (status(observed(freeze=Freeze(reason="r", by=RELEASE, at=1)), open=AWAITING), "stuck", ("abort",)),
        (status(trouble="it is gone"), "unreadable", ("abort",)),
    ],
)
def test_how_a_release_goes_and_what_comes_next(found, course, next_):
    assert following(found) == next_
    assert (found.course if found else None) == course


def test_what_is_live_is_told_with_its_promotion_only_when_it_is_that_promotion():
    assert status().live.release == RELEASE
    assert status(observed(router=CLOSED)).live is None
    assert status(observed(b=view("b", model=ONE))).live is None
    assert status(observed(live=None)).live is None


def test_a_rollback_is_hot_while_what_was_live_before_runs_in_the_other_slot():
    assert status().hot
    assert not status(observed(a=view("a", model=TWO))).hot
    assert not status(observed(a=view("a", "stopped", ONE))).hot
    assert not status(first_live()).hot


def test_a_step_that_was_begun_has_the_deadline_of_its_beginning():
    assert isinstance(doing(AWAITING), AwaitReady)
    assert deadline(AWAITING) == NOW - 45 + 120
    assert isinstance(doing(standing([opened(), Began(at=NOW, index=0)])), Start)


def test_a_held_release_has_the_deadline_of_its_decision_and_none_once_that_was_made():
    assert deadline(HELD) == NOW + 60
    advanced = standing([opened(), HeldBack(at=NOW, index=2, until=NOW + 60), Advanced(at=NOW, index=2, by="eve")])
    assert deadline(advanced) is None
    assert doing(advanced) is None


def test_a_step_back_is_what_is_being_done():
    back = standing([opened(), Turned(at=NOW, index=1, reason="no"), Began(at=NOW, index=0, undo=True, part=1)])
    assert doing(back) == opened().plan.steps[0].undo[1]
    assert deadline(back) is not None


class Clock:
    def __init__(self):
        self.paused = []

    def wall(self):
        return NOW

    def elapsed(self):
        return 5.0

    def pause(self, seconds):
        self.paused.append(seconds)


def test_who_only_looks_has_no_patience():
    clock = Clock()
    hasty = HastyClock(clock)
    before = hasty.elapsed()
    assert hasty.pause(0.5) is None
    assert hasty.elapsed() - before >= 20
    assert clock.paused == []


class Gone:
    """A service whose engine does not answer."""

    def __init__(self):
        self.clock = Clock()
        self.target = self

    def keeper(self):
        raise UnreachableError("no engine")


def test_a_watch_goes_on_while_nothing_answers():
    looks = watch(Gone())
    assert [str(next(looks)) for _ in range(3)] == ["no engine"] * 3
