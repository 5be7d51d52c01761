"""A release by the cluster's own canaries, against a job that does what each test says."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest

from mlops_deploy.api import rolling as api
from mlops_deploy.api.planning import Wish
from mlops_deploy.errors import ConflictError, DeployError, LockedError, UnreachableError, UnusableInputError
from mlops_deploy.release.forecast import Change, Forecast
from mlops_deploy.release.rolling import LOST, RollingView
from mlops_deploy.release.state import Cause, SlotView
from mlops_deploy.spec.nomad import NomadSpec
from tests.simulation.scenarios import artefact

OLD, NEW = artefact(1), artefact(2)
WISH = Wish(strategy="rolling")
BEFORE = RollingView(
    state="settled", version=3, index=30, key=OLD.key, content=OLD.content_id.hex, servers=("old",), healthy=1, wanted=1
)


def seen(state, **more):
    facts = {"version": 4, "index": 40, "key": NEW.key, "deployment": "d" * 36, "servers": ("canary",), "wanted": 1}
    return RollingView(state=state, **(facts | more))


class Job:
    """Shows `views` one after the other, the last one for ever; `proofs` are the answers of the servers' own proof."""

    def __init__(self, *views, before=BEFORE, proofs=(), refuses=None):
        self.views, self.before, self.proofs, self.refuses = list(views), before, list(proofs), refuses
        self.did = []

    def view(self):
        if not any(deed[0] == "register" for deed in self.did):
            return self.before
        if ("back",) in self.did:
            return self.before
        return self.views.pop(0) if len(self.views) > 1 else self.views[0]

    def forecast(self, wanted):
        return Forecast(changes=(Change(kind="added", place=wanted.key[:4]),))

    def register(self, wanted, index):
        if self.refuses is not None:
            raise self.refuses
        self.did.append(("register", wanted.key, index))

    def prove(self, server, command, seconds):
        self.did.append(("prove", server))
        return self.proofs.pop(0) if self.proofs else None

    def promote(self, deployment):
        self.did.append(("promote", deployment))

    def take_back(self, now, before):
        assert before == self.before
        self.did.append(("back",))


class Clock:
    def __init__(self, stop_after=None):
        self.now, self.stop_after = 0.0, stop_after

    def elapsed(self):
        return self.now

    def pause(self, seconds):
        self.now += seconds
        return "SIGINT" if self.stop_after is not None and self.now >= self.stop_after else None

    def listening(self):
        return nullcontext()


class Story:
    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


@pytest.fixture(autouse=True)
def candidate(monkeypatch):
    monkeypatch.setattr(api, "find_candidate", lambda *_: NEW)
    monkeypatch.setattr(api, "_proof", lambda *_: ("prove",))


def release(job, clock=None, wish=WISH, count=1, strategy="bluegreen"):
    return api.release(service_of(job, clock, count, strategy), None, wish, Story())


def service_of(job, clock=None, count=1, strategy="bluegreen"):
    spec = SimpleNamespace(
        project="toy",
        nomad=NomadSpec(count=count),
        release=SimpleNamespace(strategy=strategy, deadline=20.0),
    )
    supply = SimpleNamespace(prepare=lambda *_: None)
    return SimpleNamespace(
        spec=spec,
        target_name="nomad",
        target=SimpleNamespace(keeper=lambda: None, observe=lambda slot: SlotView(slot=slot, state="absent")),
        clock=clock or Clock(),
        supply=lambda: supply,
        rolling=None if job is None else lambda: job,
    )


def test_a_canary_that_proves_itself_is_promoted_and_followed():
    job = Job(seen("starting"), seen("waiting"), seen("waiting"), seen("rolling"), seen("settled"))
    done = release(job)
    assert (done.result, done.code, done.live) == ("released", 0, NEW.version)
    assert job.did == [("register", NEW.key, 30), ("prove", "canary"), ("promote", "d" * 36)]


def test_a_first_release_has_no_canary():
    before = RollingView(state="absent")
    job = Job(seen("starting", servers=()), seen("settled", servers=("one", "two")), before=before)
    assert release(job, count=2).code == 0
    assert job.did == [("register", NEW.key, 0), ("prove", "one"), ("prove", "two")]


def test_another_canary_than_the_one_that_proved_itself_proves_itself_too():
    other = seen("waiting", servers=("other",))
    job = Job(seen("waiting"), other, other, seen("settled"))
    assert release(job).code == 0
    assert job.did[1:] == [("prove", "canary"), ("prove", "other"), ("promote", "d" * 36)]


def test_a_cause_before_the_promotion_is_taken_back_with_4():
    cause = Cause(kind="bootstrap", message="the bootstrap ended with 65", lines=("last words",))
    job = Job(seen("failed", cause=cause))
    done = release(job)
    assert (done.result, done.code, done.live, done.lines) == ("reverted", 4, OLD.version, ("last words",))
    assert job.did[-1] == ("back",)


def test_a_cause_after_the_promotion_is_taken_back_with_5():
    cause = Cause(kind="crash", message="the server keeps crashing")
    done = release(Job(seen("waiting"), seen("waiting"), seen("failed", cause=cause)))
    assert (done.result, done.code, done.reason) == ("reverted", 5, "the server keeps crashing")


def test_a_canary_may_fail_its_proof_twice_and_not_three_times():
    views = seen("waiting"), seen("waiting"), seen("settled")
    assert release(Job(*views, proofs=["wrong", "wrong"])).code == 0
    done = release(Job(*views, proofs=["wrong"] * 3))
    assert (done.code, done.reason) == (4, "server `canary` does not prove its model: wrong")


@pytest.mark.parametrize("before", [BEFORE, RollingView(state="absent")])
@pytest.mark.parametrize("state", ["waiting", "settled"])
def test_nothing_is_released_while_no_server_is_there_to_prove_its_model(state, before):
    job = Job(seen(state, servers=()), before=before)
    done = release(job)
    assert (done.result, done.code) == ("reverted", 4)
    assert done.reason == f"it is still {state} after 20 s, with 0 of 1 servers to prove their model"
    assert [deed[0] for deed in job.did] == ["register", "back"]


def test_a_first_release_waits_for_the_servers_that_are_missing():
    few, all_three = ("one", "two"), ("one", "two", "three")
    views = (seen("settled", servers=few, wanted=3), seen("settled", servers=all_three, wanted=3))
    job = Job(*views, before=RollingView(state="absent"))
    assert release(job, count=3).code == 0
    assert [server for deed, server, *_ in job.did if deed == "prove"] == list(all_three)


def test_a_canary_that_is_gone_right_after_its_proof_is_not_promoted():
    job = Job(seen("waiting"), seen("waiting", servers=()))
    assert release(job).code == 4
    assert not any(deed[0] == "promote" for deed in job.did)


def test_waiting_has_an_end():
    clock = Clock()
    done = release(Job(seen("starting")), clock)
    assert (done.code, done.reason) == (4, "it is still starting after 20 s")
    assert clock.now < 25


def test_an_interrupt_leaves_the_deployment_to_the_cluster():
    job = Job(seen("starting"))
    done = release(job, Clock(stop_after=1))
    assert (done.result, done.code, done.live) == ("interrupted", 130, OLD.version)
    assert ("back",) not in job.did


def test_a_way_back_that_fails_needs_a_human():
    job = Job(seen("failed", cause=Cause(kind="crash", message="it crashes")))
    job.take_back = lambda now, before: (_ for _ in ()).throw(DeployError("somebody else was quicker"))
    done = release(job)
    assert (done.result, done.code) == ("stuck", 6)
    assert done.reason == "it crashes; the way back failed too: somebody else was quicker"


@pytest.mark.parametrize("error", [ConflictError("changed"), UnreachableError("gone")])
def test_what_cannot_be_registered_has_changed_nothing(error):
    job = Job(seen("settled"), refuses=error)
    with pytest.raises(type(error)):
        release(job)
    assert job.did == []


def test_somebody_else_registering_meanwhile_ends_it_without_touching_theirs():
    job = Job(seen("starting", key="0" * 64))
    with pytest.raises(LockedError, match="registered anew by somebody else"):
        release(job)
    assert ("back",) not in job.did


def test_a_deployment_under_way_is_refused():
    busy = replace(BEFORE, state="rolling", deployment="e" * 36)
    with pytest.raises(LockedError, match="`eeeeeeee` of job `toy` is under way"):
        release(Job(seen("settled"), before=busy))


def test_what_runs_already_is_left_alone():
    job = Job(seen("settled"), before=replace(BEFORE, key=NEW.key))
    assert release(job).result == "nothing"
    assert job.did == []


def test_a_plan_warns_of_what_a_cluster_may_not_do():
    service = service_of(Job(seen("settled")), strategy=None)
    service.spec.resources, service.spec.release.drain = SimpleNamespace(memory=None, cpu=None), 45.0
    made = api.preview(service, None, WISH, Story())
    told = api.forecast(service, WISH, made).warnings
    assert [line.split(":")[0] for line in told] == ["no `resources.memory`", "`release.drain` is 45s"]


def test_rolling_is_the_strategy_unless_another_one_is_named():
    assert release(Job(seen("settled")), wish=Wish(), strategy=None).code == 0
    assert release(Job(seen("settled")), wish=Wish(), strategy="rolling").code == 0
    assert release(Job(seen("settled"))).code == 0


def test_only_rolling_and_only_where_there_are_canaries():
    with pytest.raises(UnusableInputError, match="has no canaries of its own"):
        release(None)
    with pytest.raises(UnusableInputError, match="by the strategy `rolling`, not `bluegreen`"):
        release(Job(seen("settled")), wish=Wish())


def test_what_is_lost_is_said():
    assert [line.partition(":")[0] for line in LOST] == [
        "no hot rollback",
        "no bake, and no share by requests",
        "no router",
        "no lease, journal or history of ours",
    ]
