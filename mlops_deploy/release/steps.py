"""The steps of a plan: a closed union, each idempotent, each with a deadline or instant."""

from dataclasses import dataclass
from typing import assert_never

from mlops_deploy.release.state import WHOLE, Route, Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Put the artefact `key` into `slot`, which has no traffic; what is there already stays."""

    slot: Slot
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitReady:
    """Wait until `slot` proves that it is `key`: process, endpoint, identity, golden request, the router's verdict."""

    slot: Slot
    key: str
    deadline: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Warm:
    """Send golden requests straight to `slot`, at most for `seconds`; never fails."""

    slot: Slot
    key: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Let go of the lease and wait for a decision: `advance` goes on, `abort` turns back, as does the deadline."""

    reason: str
    deadline: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """Commit `route` and confirm through the router that `serves` answers (None: that it answers 503)."""

    route: Route
    serves: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bake:
    """Watch `slot` under traffic for `seconds`; the other slot stays one router write away."""

    slot: Slot
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Promote:
    """Record that `key` in `slot` is live: from here on nothing turns back by itself."""

    slot: Slot
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """Wait until the router counts no request in flight to `slot`, at most for `seconds`."""

    slot: Slot
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Stop what is in `slot`, which has no traffic; it gets `seconds` to answer what it has taken."""

    slot: Slot
    seconds: float


Step = Start | AwaitReady | Warm | Hold | Shift | Bake | Promote | Drain | Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One step, and the steps that take it back, in their order."""

    step: Step
    undo: tuple[Step, ...] = ()


def describe(step: Step) -> str:  # noqa: PLR0911 - one return for each step
    """The step in a few words, for people."""
    match step:
        case Start(slot=slot):
            return f"start slot {slot}"
        case AwaitReady(slot=slot, deadline=deadline):
            return f"wait until slot {slot} is ready, at most {deadline:g} s"
        case Warm(slot=slot):
            return f"warm up slot {slot}"
        case Hold(reason=reason):
            return f"wait for a decision: {reason}"
        case Shift(route=route):
            return describe_route(route)
        case Bake(slot=slot, seconds=seconds):
            return f"watch slot {slot} under traffic for {seconds:g} s"
        case Promote(slot=slot):
            return f"promote slot {slot}"
        case Drain(slot=slot, seconds=seconds):
            return f"let slot {slot} finish its requests, at most {seconds:g} s"
        case Stop(slot=slot):
            return f"stop slot {slot}"
        case _:
            assert_never(step)


def describe_route(route: Route) -> str:
    """Where a route sends requests, in a few words."""
    if route.closed:
        return "close the router (503, Retry-After)"
    if route.live is not None:
        return f"send all traffic to slot {route.live}"
    return f"send {route.share_b / WHOLE:.2%} of the traffic to slot b"
