"""Ready means: this very model answers. Five levels, each with its own message; the first that fails is told."""

import math
from dataclasses import dataclass
from typing import Literal

from mlops_deploy.release.effects import Answered, Lost
from mlops_deploy.release.exchange import Run, asked, router_view, slot_view
from mlops_deploy.release.state import Artefact, Cause, Proof, Slot
from mlops_deploy.spec.deploy import GoldenRequest, JsonValue

Level = Literal["process", "endpoint", "identity", "golden", "router"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """All five levels hold; `evidence` names them."""

    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotYet:
    """Waiting may help; nothing is there to wait for when it is `gone`."""

    level: Level
    reason: str
    gone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """The server answers, and not as this model does; a few times in a row, and waiting will not help."""

    level: Level
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dead:
    """Waiting does not help."""

    cause: Cause


Verdict = Proven | NotYet | Wrong | Dead


def prove(slot: Slot, artefact: Artefact) -> Run[Verdict]:
    """Ask `slot` once, by the way that the router will use, whether it is `artefact` and answers as it."""
    proof = artefact.proof
    process = yield from _process(slot, artefact.key)
    if process is not None:
        return process
    for level in (_endpoint(slot, proof), _identity(slot, proof), _golden(slot, proof), _admitted(slot)):
        found = yield from level
        if found is not None:
            return found
    count = len(proof.golden)
    golden = f"{count} golden request{'' if count == 1 else 's'}" if count else "golden requests not checked"
    return Proven(evidence=f"{artefact.version} answers, {golden}, the router calls it up")


def _process(slot: Slot, key: str) -> Run[NotYet | Dead | None]:
    view = yield from slot_view(slot)
    if view.cause is not None:
        return Dead(cause=view.cause)
    if view.state in {"absent", "stopped"}:
        return NotYet(level="process", reason=f"nothing runs in slot {slot}", gone=True)
    if view.key != key:
        return NotYet(level="process", reason=f"slot {slot} does not hold this artefact yet")
    if view.state != "running":
        return NotYet(level="process", reason=view.remark or "the model is being copied")
    return None


def _endpoint(slot: Slot, proof: Proof) -> Run[NotYet | None]:
    answer = yield from asked(slot, proof.endpoint)
    if isinstance(answer, Lost):
        return NotYet(level="endpoint", reason=f"the server does not answer: {answer.reason}")
    if answer.status != proof.status:
        return NotYet(level="endpoint", reason=f"`{proof.endpoint}` answers {answer.status}")
    return None


def _identity(slot: Slot, proof: Proof) -> Run[NotYet | Wrong | None]:
    answer = yield from asked(slot, proof.identity)
    if isinstance(answer, Lost):
        return NotYet(level="identity", reason=answer.reason)
    reason = misidentified(proof, answer)
    return None if reason is None else Wrong(level="identity", reason=reason)


def misidentified(proof: Proof, answer: Answered) -> str | None:
    """Why an answer of `proof.identity` is not this very model's, None when it is."""
    if answer.status != proof.status:
        return f"`{proof.identity}` answers {answer.status}, so another model is served"
    for place, expected in proof.json.items():
        if expected not in _texts(answer.body, place.split(".")):
            return f"`{proof.identity}` does not say `{place}` = `{expected}`"
    return _other_version(proof, answer)


def _other_version(proof: Proof, answer: Answered) -> str | None:
    said = _texts(answer.body, proof.version_in.split(".")) if proof.version_in else []
    if said and proof.version not in said:
        return f"it is version `{_short(said[0])}`, not `{proof.version}`"
    return None


def _golden(slot: Slot, proof: Proof) -> Run[NotYet | Wrong | None]:
    for number, golden in enumerate(proof.golden, 1):
        answer = yield from asked(slot, proof.infer, dict(golden.request))
        if isinstance(answer, Lost):
            return NotYet(level="golden", reason=f"golden request {number}: {answer.reason}")
        reason = unexpected(golden, answer) or _other_version(proof, answer)
        if reason is not None:
            return Wrong(level="golden", reason=f"golden request {number}: {reason}")
    return None


def unexpected(golden: GoldenRequest, answer: Answered) -> str | None:
    """Why an answer is not the one that a golden request expects, None when it is."""
    if answer.status != 200:  # noqa: PLR2004 - HTTP's own number
        return f"answered with status {answer.status}"
    outputs = answer.body.get("outputs") if isinstance(answer.body, dict) else None
    if not isinstance(outputs, list):
        return "the answer has no `outputs`"
    return _differs(list(golden.expect), outputs, golden.tolerance, "outputs")


def _differs(expected: JsonValue, found: JsonValue, tolerance: float, place: str) -> str | None:
    match expected, found:
        case dict(), dict():
            pairs = [(f"{place}.{key}", value, found.get(key)) for key, value in expected.items()]
        case list(), list() if len(expected) == len(found):
            pairs = [(f"{place}[{i}]", value, found[i]) for i, value in enumerate(expected)]
        case _:
            numbers = _number(expected) and _number(found)
            same = _near(expected, found, tolerance) if numbers else _same(expected, found)
            return None if same else f"`{place}` is {_short(found)}, expected {_short(expected)}"
    return next((reason for p, e, f in pairs if (reason := _differs(e, f, tolerance, p)) is not None), None)


def _same(expected: JsonValue, found: JsonValue) -> bool:
    """Equal, and of one type: in JSON true is not 1."""
    return type(expected) is type(found) and expected == found


def _number(value: JsonValue) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _near(expected: JsonValue, found: JsonValue, tolerance: float) -> bool:
    return math.isclose(float(str(expected)), float(str(found)), rel_tol=0.0, abs_tol=tolerance)


def _short(value: JsonValue) -> str:
    try:
        text = str(value)
    except RecursionError:
        return "nested too deep"
    return text if len(text) <= 60 else f"{text[:57]}…"  # noqa: PLR2004 - what fits a line


def _texts(body: JsonValue, place: list[str]) -> list[str]:
    """Every text at a dotted place; `name[]` means any item of the list `name`."""
    if not place:
        return [] if body is None else [str(body)]
    if not isinstance(body, dict):
        return []
    name, rest = place[0], place[1:]
    if name.endswith("[]"):
        items = body.get(name[:-2])
        return [text for item in (items if isinstance(items, list) else []) for text in _texts(item, rest)]
    return _texts(body.get(name), rest)


def _admitted(slot: Slot) -> Run[NotYet | None]:
    lane = (yield from router_view()).lane(slot)
    return None if lane.up else NotYet(level="router", reason=f"the router does not call it up yet: {lane.verdict}")
