"""Each level of readiness fails with its own message, and the first that fails is the one that is told."""

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from mlops_deploy.release.effects import Answered, AskServer, Effect, Lost, ObserveRouter, ObserveSlot
from mlops_deploy.release.readiness import Dead, NotYet, Proven, Verdict, Wrong, prove, unexpected
from mlops_deploy.release.state import Artefact, Cause, SlotView
from mlops_deploy.spec.deploy import GoldenRequest
from tests.simulation.scenarios import SCENARIOS, artefact, world_of

ONE = artefact(1)
RUNNING = SlotView(slot="a", state="running", key=ONE.key)


def verdict(view: SlotView = RUNNING, up: bool = True, subject: Artefact = ONE, **answers: Any) -> Verdict:  # noqa: FBT001, FBT002
    """What comes of one proof of slot a; `ready`, `model` and `infer` are the answers of these paths."""
    router = world_of(SCENARIOS["next"], Random(0)).router()
    router = replace(router, a=replace(router.a, up=up, verdict="DOWN (L4CON)"))
    good = {
        "ready": Answered(status=200),
        "model": Answered(status=200, body={"model_version": "v1"}),
        "infer": Answered(status=200, body={"outputs": [{"data": [1]}]}),
    }

    def answer(effect: Effect) -> Any:
        match effect:
            case ObserveSlot():
                return view
            case ObserveRouter():
                return router
            case AskServer(path=path):
                return (good | answers)[path.strip("/")]
            case _:
                raise TypeError(effect)

    run = prove("a", subject)
    try:
        effect = next(run)
        while True:
            effect = run.send(answer(effect))
    except StopIteration as end:
        found: Verdict = end.value
        return found


def test_all_levels_hold() -> None:
    assert verdict() == Proven(evidence=f"{ONE.version} answers, 1 golden request, the router calls it up")


def test_without_golden_requests_they_are_not_checked() -> None:
    bare = replace(ONE, proof=replace(ONE.proof, golden=()))
    assert verdict(subject=bare) == Proven(
        evidence=f"{ONE.version} answers, golden requests not checked, the router calls it up"
    )


CAUSE = Cause(kind="memory", message="killed for want of memory")


@pytest.mark.parametrize(("view", "expected"), [
    (SlotView(slot="a", state="failed", key=ONE.key, cause=CAUSE), Dead(cause=CAUSE)),
    (SlotView(slot="a", state="absent"), NotYet(level="process", reason="nothing runs in slot a", gone=True)),
    (SlotView(slot="a", state="stopped", key=ONE.key),
     NotYet(level="process", reason="nothing runs in slot a", gone=True)),
    (SlotView(slot="a", state="running", key="other"),
     NotYet(level="process", reason="slot a does not hold this artefact yet")),
    (SlotView(slot="a", state="preparing", key=ONE.key),
     NotYet(level="process", reason="the model is being copied")),
    (SlotView(slot="a", state="preparing", key=ONE.key, remark="not placed yet"),
     NotYet(level="process", reason="not placed yet")),
])  # fmt: skip
def test_the_process(view: SlotView, expected: Verdict) -> None:
    assert verdict(view=view) == expected


@pytest.mark.parametrize(("answers", "expected"), [
    ({"ready": Lost(reason="connection refused")},
     NotYet(level="endpoint", reason="the server does not answer: connection refused")),
    ({"ready": Answered(status=503)}, NotYet(level="endpoint", reason="`/ready` answers 503")),
    ({"model": Lost(reason="reset")}, NotYet(level="identity", reason="reset")),
    ({"model": Answered(status=404)},
     Wrong(level="identity", reason="`/model` answers 404, so another model is served")),
    ({"model": Answered(status=200, body={"model_version": "v2"})},
     Wrong(level="identity", reason="it is version `v2`, not `v1`")),
    ({"infer": Lost(reason="reset")}, NotYet(level="golden", reason="golden request 1: reset")),
    ({"infer": Answered(status=500)}, Wrong(level="golden", reason="golden request 1: answered with status 500")),
    ({"infer": Answered(status=200)}, Wrong(level="golden", reason="golden request 1: the answer has no `outputs`")),
    ({"infer": Answered(status=200, body={"outputs": [{"data": [2]}]})},
     Wrong(level="golden", reason="golden request 1: `outputs[0].data[0]` is 2, expected 1")),
    ({"infer": Answered(status=200, body={"model_version": "v9", "outputs": [{"data": [1]}]})},
     Wrong(level="golden", reason="golden request 1: it is version `v9`, not `v1`")),
    ({"up": False}, NotYet(level="router", reason="the router does not call it up yet: DOWN (L4CON)")),
])  # fmt: skip
def test_each_level_has_its_own_message(answers: dict[str, Any], expected: Verdict) -> None:
    assert verdict(**answers) == expected


def test_what_the_identity_must_say() -> None:
    proof = replace(ONE.proof, json={"versions[].name": "v1"})
    listed = replace(ONE, proof=proof)
    said = Answered(status=200, body={"versions": [{"name": "v0"}, {"name": "v1"}]})
    assert isinstance(verdict(subject=listed, model=said), Proven)
    for body in (None, {}, {"versions": "v1"}, {"versions": [{"name": "v10"}]}):
        found = verdict(subject=listed, model=Answered(status=200, body=body))
        assert found == Wrong(level="identity", reason="`/model` does not say `versions[].name` = `v1`")


def outcome(expect: Any, found: Any, tolerance: float = 0.0) -> str | None:
    golden = GoldenRequest(request={}, expect=(expect,), tolerance=tolerance)
    return unexpected(golden, Answered(status=200, body={"outputs": [found]}))


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(("expect", "found", "tolerance"), [
    (1, 1, 0.0), (1, 1.0, 0.0), (1.0, 1.1, 0.1000001), (-1.0, -1.1, 0.1000001), ({"a": 1}, {"a": 1, "b": 2}, 0.0),
    ([[1, 2], [3]], [[1, 2], [3]], 0.0), ("x", "x", 0.0), (None, None, 0.0), (True, True, 0.0), (INF, INF, 0.0),
])  # fmt: skip
def test_answers_that_are_as_expected(expect: Any, found: Any, tolerance: float) -> None:
    assert outcome(expect, found, tolerance) is None


@pytest.mark.parametrize(("expect", "found", "tolerance"), [
    (1.0, 1.2, 0.1), (1.0, NAN, 1e9), (NAN, NAN, 1e9), (1.0, INF, 1e9), (1.0, None, 1e9), (1, "1", 0.0),
    ([1, 2], [1], 9.0), ([1], [1, 2], 9.0), ([1], 1, 9.0), ({"a": 1}, {}, 9.0), ({"a": 1}, [1], 9.0),
    ("x", "y", 9.0), (True, False, 9.0), (1, True, 9.0), (False, 0, 9.0), ([[1], [2]], [[1, 2]], 9.0),
])  # fmt: skip
def test_answers_that_are_not(expect: Any, found: Any, tolerance: float) -> None:
    assert outcome(expect, found, tolerance) is not None


def test_more_or_fewer_outputs_are_not_the_same() -> None:
    golden = GoldenRequest(request={}, expect=(1, 2))
    for outputs in ([], [1], [1, 2, 3]):
        assert unexpected(golden, Answered(status=200, body={"outputs": outputs})) is not None


def test_a_version_that_is_a_novel_is_shortened() -> None:
    found = verdict(model=Answered(status=200, body={"model_version": "v" * 10**6}))
    assert isinstance(found, Wrong)
    assert len(found.reason) < 120


def test_an_answer_that_is_nested_without_end_is_no_accident() -> None:
    nested: Any = 0
    for _ in range(100_000):
        nested = [nested]
    assert outcome(1, nested) == "`outputs[0]` is nested too deep, expected 1"


def test_a_long_answer_is_shortened() -> None:
    reason = outcome("x", "y" * 1000)
    assert reason is not None
    assert len(reason) < 120
