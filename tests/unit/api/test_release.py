"""`release` and what may keep it from beginning; the id of a release; who asks; the trace of a run."""

import json
import re
from dataclasses import replace

import pytest

from mlops_deploy.api import decisions, holder
from mlops_deploy.api import release as api
from mlops_deploy.api.holder import this_holder
from mlops_deploy.api.planning import preview
from mlops_deploy.api.trace import VARIABLE, tracer
from mlops_deploy.errors import DeployError, LockedError, UnreachableError, UnusableInputError
from mlops_deploy.release import lease as leases
from mlops_deploy.release.codec import encode
from mlops_deploy.release.observe import FREEZE
from mlops_deploy.release.state import Freeze
from tests.simulation.scenarios import SCENARIOS, key
from tests.simulation.service import Simulated, story_of
from tests.simulation.trace import accept_file, traced


def changed_nothing(sim, act, kind):
    before = sim.world.generation, sim.world.revisions, dict(sim.world.journals), dict(sim.world.keys)
    with pytest.raises(kind) as caught:
        act()
    assert (sim.world.generation, sim.world.revisions, sim.world.journals, sim.world.keys) == before
    return caught.value


def test_only_what_has_to_be_started_is_prepared():
    sim = story_of("next")
    sim.release()
    assert sim.prepared == [key(2)]
    decisions.rollback(sim.service, sim.story)
    assert sim.prepared == [key(2)]
    assert sim.story.said == ["back to toy@111111111111: hot, one router write"]


def test_nothing_to_do_touches_nothing():
    sim = story_of("next")
    sim.release()
    before = dict(sim.world.keys), len(sim.world.journals)
    assert sim.release().result == "nothing"
    assert (sim.world.keys, len(sim.world.journals)) == before


def held_by(sim, name="eve@x"):
    lease = {"token": 9, "ttl": 60.0, "holder": {"name": name, "nonce": "z", "url": None}, "release": "r9", "beat": 0}
    sim.world.keys[leases.KEY] = (lease, 1, sim.world.now)


def freeze(sim):
    sim.world.keys[FREEZE] = (encode(Freeze(reason="incident 812", by="eve@x", at=0.0)), 1, sim.world.now)


@pytest.mark.parametrize(
    ("harm", "kind", "said"),
    [
        (held_by, LockedError, "release `r9` by `eve@x` is running"),
        (freeze, LockedError, "the service is frozen by `eve@x`: incident 812"),
        (lambda sim: sim.world.silence(1e6), UnreachableError, "the router does not answer its keeper"),
    ],
)
def test_what_may_not_begin_is_refused_before_a_candidate_is_looked_for(harm, kind, said):
    sim = story_of("next")
    harm(sim)
    sim.newest = None
    error = changed_nothing(sim, sim.release, kind)
    assert error.message.startswith(said)
    assert "`mlops-deploy " in error.hint
    assert sim.prepared == []


def test_an_open_release_is_refused():
    sim = story_of("held")
    sim.release()
    error = changed_nothing(sim, sim.release, LockedError)
    assert "waits for a decision" in error.message


def test_a_router_that_was_just_started_gets_a_moment():
    sim = story_of("next")
    sim.world.silence(3.0)
    assert sim.release().result == "released"


def test_the_first_release_makes_the_router_and_what_cannot_be_released_makes_none():
    sim = story_of("first")
    sim.ports.made = False
    sim.newest = lambda name: None
    sim.path = "/store"
    error = changed_nothing(sim, sim.release, UnusableInputError)
    assert error.hint == "build one with `mlops-deploy build-model`"
    assert not sim.ports.made
    del sim.newest
    assert sim.release().result == "released"
    assert sim.ports.made


@pytest.mark.parametrize("by_plan", [False, True])
def test_what_is_in_a_slot_s_place_is_refused_before_a_router_is_made(by_plan):
    sim = story_of("first")
    plan = sim.plan()
    sim.ports.made = False

    def observe(slot):
        raise UnusableInputError(f"there is a container `toy-{slot}`, and its labels do not say that it is ours")

    sim.ports.observe = observe
    with pytest.raises(UnusableInputError, match="there is a container `toy-a`"):
        api.apply(sim.service, plan, sim.story) if by_plan else sim.release()
    assert not sim.ports.made


def test_a_plan_that_was_made_where_nothing_ran_goes_on_with_the_generation_that_was_kept():
    sim = story_of("first")
    plan = sim.plan()
    assert plan.base.generation == 0
    sim.world.generation = 8
    assert api.apply(sim.service, plan, sim.story).result == "released"
    (done,) = sim.world.plans.values()
    assert done == replace(plan, base=replace(plan.base, generation=8))
    changed_nothing(sim, lambda: api.apply(sim.service, plan, sim.story), LockedError)


def test_slots_without_their_router_are_not_planned_for_and_the_next_release_starts_it():
    sim = story_of("next")
    sim.ports.made = False
    with pytest.raises(UnreachableError, match="the router of `toy` does not run") as caught:
        preview(sim.service, sim.shelf, api.Wish(), sim.story)
    assert "`mlops-deploy router apply`" in caught.value.hint
    assert sim.release().result == "released"
    assert sim.ports.made


def test_a_stale_plan_is_refused():
    sim = story_of("next")
    plan = sim.plan()
    sim.release()
    error = changed_nothing(sim, lambda: api.apply(sim.service, plan, sim.story), LockedError)
    assert "`mlops-deploy plan" in error.hint


def test_a_plan_is_applied_as_it_is():
    sim = story_of("next")
    plan = replace(sim.plan(), steps=sim.plan().steps[:-1])
    assert api.apply(sim.service, plan, sim.story).code == 0
    (done,) = sim.world.plans.values()
    assert done == plan


@pytest.mark.parametrize("act", ["advance", "resume", "abort", "rollback"])
def test_a_decision_needs_something_to_decide(act):
    sim = story_of("first")
    more = {"abort": ("x",), "rollback": (sim.story,)}.get(act, ())
    with pytest.raises(UnusableInputError) as caught:
        getattr(decisions, act)(sim.service, *more)
    assert caught.value.message in {"no release is open", "nothing is live, so there is nothing to go back from"}
    sim.ports.made = False
    with pytest.raises(UnusableInputError, match="nothing has been released yet, or it was taken down") as caught:
        getattr(decisions, act)(sim.service, *more)
    assert caught.value.hint.startswith("`mlops-deploy release` makes one, and brings the history back")


@pytest.mark.parametrize(
    ("name", "harm", "said"),
    [
        ("rollback-hot", None, "hot, one router write"),
        ("rollback-cold", None, "cold, because no slot holds it any more"),
        ("rollback-hot", "kill", "cold, because its slot a is stopped"),
    ],
)
def test_a_rollback_says_what_it_needs(name, harm, said):
    sim = Simulated(SCENARIOS[name])
    if harm:
        sim.world.kill("a")
    assert decisions.rollback(sim.service, sim.story).code == 0
    assert sim.story.said == [f"back to toy@111111111111: {said}"]


def test_an_id_says_when_a_release_began():
    found = api.new_id(1_700_001_000.9)
    assert re.fullmatch(r"r-20231114-223000-[0-9a-f]{4}", found)
    assert len({api.new_id(0.0) for _ in range(50)}) > 40


def nobody():
    raise KeyError("no account")


@pytest.mark.parametrize(
    ("environ", "user", "name", "url"),
    [
        ({}, lambda: "anna", "anna@build7", None),
        ({}, lambda: "a b\n`x`", "a-b--x-@build7", None),
        ({}, nobody, "1234@build7", None),
        ({"GITHUB_ACTOR": "eve[bot]"}, nobody, "eve-bot-@build7", None),
        ({"GITLAB_USER_LOGIN": "bo", "CI_JOB_URL": "https://ci/7"}, nobody, "bo@build7", "https://ci/7"),
        (
            {"GITHUB_SERVER_URL": "https://g", "GITHUB_REPOSITORY": "o/r", "GITHUB_RUN_ID": "5"},
            lambda: "anna",
            "anna@build7",
            "https://g/o/r/actions/runs/5",
        ),
        ({"GITHUB_SERVER_URL": "https://g"}, lambda: "anna", "anna@build7", None),
    ],
)
def test_who_asks(environ, user, name, url, monkeypatch):
    monkeypatch.setattr(holder.socket, "gethostname", lambda: "build7.example.org")
    monkeypatch.setattr(holder.getpass, "getuser", user)
    monkeypatch.setattr(holder.os, "getuid", lambda: 1234)
    found = this_holder(environ)
    assert (found.name, found.url) == (name, url)
    assert this_holder(environ).nonce != found.nonce


def test_a_release_is_traced_and_the_model_accepts_it(tmp_path, monkeypatch):
    path = tmp_path / "trace"
    with traced(path, monkeypatch):
        assert story_of("died-under-traffic").release().code == 5
    assert accept_file(path) > 1
    effects = [json.loads(line)["effect"] for line in path.read_text().splitlines()]
    assert [effect["kind"] for effect in effects].count("commitroute") == 2


def test_no_trace_is_written_unasked(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert tracer() is None


def test_errors_of_a_keeper_close_it():
    sim = story_of("next")
    freeze(sim)
    with pytest.raises(DeployError):
        sim.release()
    assert sim.ports.closed == 1
