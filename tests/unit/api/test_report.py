"""What is reported of a release: what is live, what was counted between its beginning and its end, how long it took."""

import json

import pytest

from mlops_deploy.api import decisions
from mlops_deploy.api.drive import World
from mlops_deploy.api.report import Traffic, counted, report_on
from mlops_deploy.release.effects import AskServer
from mlops_deploy.release.journal import Tally
from mlops_deploy.release.outcome import Outcome
from mlops_deploy.release.state import Counters
from tests.simulation.service import STORIES, story_of


def tally(a, b, failed=0, started="run-1"):
    return Tally(
        started=started,
        a=Counters(requests=a),
        b=Counters(requests=b, failed=failed),
        entry=Counters(requests=a + b + 1, failed=failed),
    )


def test_traffic_is_the_difference_of_two_tallies_of_one_run():
    assert counted(tally(10, 5, failed=1), tally(12, 25, failed=4)) == Traffic(
        entry=Counters(requests=22, failed=3), a=Counters(requests=2), b=Counters(requests=20, failed=3)
    )


def test_counters_of_two_runs_are_not_subtracted():
    assert counted(tally(10, 5), tally(12, 25, started="run-2")) is None


ENDS = {
    "first": ("released", 0, "a"),
    "next": ("released", 0, "b"),
    "recreate": ("released", 0, "b"),
    "held": ("held", 0, "a"),
    "first-never-ready": ("reverted", 4, None),
    "never-ready": ("reverted", 4, "a"),
    "slow": ("reverted", 4, "a"),
    "died-under-traffic": ("reverted", 5, "a"),
    "recreate-reverted": ("reverted", 5, "a"),
    "stuck": ("stuck", 6, "b"),
    "unreachable": ("unreachable", 8, None),
    "router-restarted": ("released", 0, "b"),
    "interrupted": ("interrupted", 130, "a"),
    "overtaken": ("locked", 3, "a"),
}


@pytest.mark.parametrize("name", STORIES)
def test_the_end_and_what_is_live_then(name):
    sim = story_of(name)
    report = sim.release()
    result, code, slot = ENDS[name]
    assert (report.result, report.code, report.slot) == (result, code, slot)
    versions = {None: None, "a": "toy@111111111111", "b": "toy@222222222222"} | (
        {"a": "toy@222222222222"} if name == "first" else {}
    )
    assert report.live == versions[slot]
    assert report.release in sim.world.journals


def test_only_requests_of_this_release_are_counted():
    sim = story_of("next")
    sim.world.requests = {"a": 10_000, "b": 500}
    report = sim.release()
    assert report.traffic.entry.requests == report.traffic.a.requests + report.traffic.b.requests
    assert 50 < report.traffic.entry.requests < 200


def test_what_comes_after_the_end_is_no_part_of_it():
    sim = story_of("next")

    def crowd(effect):
        journal = next(iter(sim.world.journals.values()), [""])
        if '"kind":"ended"' in journal[-1]:
            sim.world.requests["b"] += 10**6

    sim.ports.before = crowd
    assert sim.release().traffic.entry.requests < 200


def test_a_router_that_was_started_anew_is_told():
    report = story_of("router-restarted").release()
    assert report.traffic is None
    assert report.uncounted == "the router was started anew meanwhile"
    assert story_of("next").release().uncounted is None


def test_a_router_that_is_gone_is_not_waited_for_again():
    sim = story_of("unreachable")
    report = sim.release()
    ended = sim.world.now
    assert (report.slots, report.traffic, report.uncounted, report.seconds) == (None, None, None, None)
    asked = []
    sim.ports.before = asked.append
    sim.world.gone = 1e6
    assert report_on(outcome_of(report), world_of(sim)).slots is None
    assert asked == []
    assert sim.world.now == ended


def test_what_cannot_be_looked_at_after_an_end_is_left_out():
    sim = story_of("next")
    report = sim.release()
    sim.world.gone = 1e6
    found = report_on(outcome_of(report), world_of(sim))
    assert (found.result, found.release, found.live, found.slots) == ("released", report.release, None, None)


def outcome_of(report):
    return Outcome(result=report.result, code=report.code, release=report.release, reason=report.reason)


def world_of(sim):
    return World(target=sim.ports, keeper=sim.ports, clock=sim.ports)


def test_times_are_those_of_the_journal():
    sim = story_of("next")
    report = sim.release()
    assert report.switch == pytest.approx(0.015)
    assert report.seconds == pytest.approx(4.49, abs=0.001)
    assert story_of("never-ready").release().switch is None


def test_of_two_switches_the_one_to_the_candidate_is_told():
    sim = story_of("recreate")

    def slow(effect):
        if isinstance(effect, AskServer) and effect.slot is None and sim.world.route.closed:
            sim.world.advance(sim.world.now + 1.0)

    sim.ports.before = slow
    report = sim.release()
    switches = [json.loads(line).get("switch") for line in sim.world.journals[report.release]]
    closed, opened = (switch for switch in switches if switch is not None)
    assert (closed > 1.0, report.switch) == (True, opened)
    assert opened < 0.1


def test_a_date_that_is_set_back_makes_no_time_less_than_none():
    sim = story_of("next")
    wall = sim.ports.wall
    sim.ports.wall = lambda: wall() - (86_400.0 if sim.world.now > 1002.0 else 0.0)
    assert sim.release().seconds == 0.0


@pytest.mark.parametrize(
    ("name", "states"),
    [
        ("first", ("running", "absent")),
        ("next", ("running", "running")),
        ("recreate", ("absent", "running")),
    ],
)
def test_the_states_of_both_slots_are_told(name, states):
    report = story_of(name).release()
    assert (report.slots["a"].state, report.slots["b"].state) == states


def test_a_resumed_release_counts_from_its_first_beginning():
    sim = story_of("interrupted")
    first = sim.release()
    sim.ports.interrupt, sim.ports.before = None, lambda effect: None
    sim.world.advance(sim.world.now + 100.0)
    report = decisions.resume(sim.service)
    assert report.release == first.release
    assert report.seconds > 100.0
    assert report.traffic.entry.requests > first.traffic.entry.requests


def test_nothing_done_has_no_release():
    sim = story_of("next")
    sim.release()
    report = sim.release()
    assert (report.result, report.code, report.release) == ("nothing", 0, None)
    assert (report.live, report.slot) == ("toy@222222222222", "b")
    assert (report.traffic, report.uncounted, report.seconds, report.switch) == (None, None, None, None)
    assert {slot: found.share for slot, found in report.slots.items()} == {"a": 0, "b": 10_000}
