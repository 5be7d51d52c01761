"""A plan: steps as data, with what they were made from. Can be saved, read and applied exactly, or is refused."""

import json
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final, Literal

from mlops_deploy.errors import LockedError, UnusableInputError
from mlops_deploy.release.codec import decode, encode
from mlops_deploy.release.state import SLOTS, WHOLE, Artefact, Observed, Route, Slot, whole
from mlops_deploy.release.steps import Planned, Promote, Start
from mlops_deploy.spec.owner import Owner

SCHEMA: Final = 1

PlanStrategy = Literal["bluegreen", "recreate", "rollback"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a slot holds: the artefact's key and the target's revision of it."""

    key: str | None
    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What a plan was made from. A plan whose base has changed is stale; health and times are not part of it."""

    a: Held
    b: Held
    route: Route
    generation: int
    freeze: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Steps that lead from `base` to `candidate` being live in its slot; no steps when it is so already.

    `artefacts` holds what the steps name by key: the candidate, and what its undo may have to start again.
    """

    service: str
    environment: str | None
    target: str
    strategy: PlanStrategy
    base: Base
    candidate: str
    artefacts: tuple[Artefact, ...]
    steps: tuple[Planned, ...]

    def artefact(self, key: str) -> Artefact:
        """The artefact that a step names; raise `UnusableInputError` when the plan does not hold it."""
        for artefact in self.artefacts:
            if artefact.key == key:
                return artefact
        raise UnusableInputError(f"the plan names the artefact `{key[:12]}` and does not hold it")

    @property
    def project(self) -> str:
        """`<service>[-<env>]`."""
        return Owner(service=self.service, environment=self.environment).project

    @property
    def hot(self) -> bool:
        """Whether nothing has to be started: a switch is one router write."""
        return not any(isinstance(planned.step, Start) for planned in self.steps)

    @property
    def slot(self) -> Slot | None:
        """Where the candidate goes, None when nothing is to be done."""
        return next((planned.step.slot for planned in self.steps if isinstance(planned.step, Promote)), None)

    @property
    def point_of_no_return(self) -> int:
        """The index of the promotion: before it everything is taken back, after it everything is finished."""
        return next((i for i, planned in enumerate(self.steps) if isinstance(planned.step, Promote)), len(self.steps))


def base_of(observed: Observed) -> Base:
    """What a plan made now is based on."""
    held = {slot: Held(key=observed.slot(slot).key, revision=observed.slot(slot).revision) for slot in SLOTS}
    freeze = observed.freeze.reason if observed.freeze else None
    router = observed.router
    return Base(a=held["a"], b=held["b"], route=router.route, generation=router.generation, freeze=freeze)


def require_fresh(plan: Plan, observed: Observed) -> Plan:
    """`plan` as it can be carried out now; raise `LockedError` when what it was made from has changed.

    One that was made where there was no router knows no generation: it takes that of the state that was kept.
    """
    now = base_of(observed)
    known = plan.base if plan.base.generation else replace(plan.base, generation=now.generation)
    if now != known:
        raise stale()
    return replace(plan, base=now)


def stale() -> LockedError:
    """That what a plan was made from has changed."""
    return LockedError(
        "the plan is stale: the slots, the route or the freeze have changed since it was made",
        hint="`mlops-deploy plan` makes a new one",
    )


def live_slot(observed: Observed) -> Slot | None:
    """The slot that gets all traffic and holds something; None before a first release."""
    slot = observed.router.route.live
    return slot if slot is not None and observed.slot(slot).key is not None else None


def free_slot(observed: Observed) -> Slot:
    """Where a candidate goes: the slot without traffic, a before a first release.

    Raises `UnusableInputError` when both slots get requests, which no finished release leaves behind.
    """
    route = observed.router.route
    for slot in SLOTS:
        if not route.weight(slot):
            return slot
    raise UnusableInputError(
        f"both slots get requests (b {route.share_b / WHOLE:.2%}), so none is free",
        hint="`mlops-deploy status` shows the route",
    )


def serving(observed: Observed, candidate: Artefact) -> bool:
    """Whether `candidate` is what runs and gets all traffic already."""
    slot = live_slot(observed)
    if slot is None or observed.router.route != whole(slot):
        return False
    return observed.slot(slot).key == candidate.key and observed.slot(slot).state == "running"


def save(plan: Plan) -> str:
    """The plan as a file: JSON with a checksum over everything else, so that an edited one is refused."""
    body = encode(plan)
    document = {"schema": SCHEMA, "checksum": _checksum(body), "plan": body}
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def load(text: str, name: str) -> Plan:
    """The plan of a file called `name`; raise `UnusableInputError` for one of another version, damaged or edited."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnusableInputError(f"`{name}` is not a plan: {str(error)[:200]}", hint=_AGAIN) from error
    if not isinstance(document, dict) or "schema" not in document:
        raise UnusableInputError(f"`{name}` is not a plan of mlops-deploy", hint=_AGAIN)
    if document["schema"] != SCHEMA:
        version = repr(document["schema"])[:40]
        raise UnusableInputError(
            f"`{name}` is a plan of version {version}; this mlops-deploy reads version {SCHEMA}", hint=_AGAIN
        )
    body = document.get("plan")
    if document.get("checksum") != _checksum(body):
        raise UnusableInputError(f"`{name}` has been changed since it was written", hint=_AGAIN)
    return decode(Plan, body, "plan")


_AGAIN: Final = "`mlops-deploy plan -o FILE` writes a new one"


def _checksum(body: object) -> str:
    return sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
