"""What each step does, one generator each: guard, act, observe until it holds. Every one may be repeated.

A step that cannot hold raises `StepFailedError`; the world may also be unreachable, or the lease lost.
"""

from typing import Final, TypeVar, assert_never

from mlops_deploy.errors import DeployError, UnreachableError
from mlops_deploy.release.codec import encode
from mlops_deploy.release.effects import Accepted, AskServer, EnsureSlot, Lost, StopSlot
from mlops_deploy.release.exchange import BREATH, PATIENCE, Run, asked, clock, once, router_view, slot_view
from mlops_deploy.release.observe import LIVE, kept
from mlops_deploy.release.readiness import Dead, NotYet, Proven, Wrong, misidentified, prove
from mlops_deploy.release.session import Session
from mlops_deploy.release.state import Artefact, Live, Route, Slot, SlotView
from mlops_deploy.release.steps import AwaitReady, Bake, Drain, Hold, Promote, Shift, Start, Step, Stop, Warm

T = TypeVar("T")

START_SECONDS: Final = 60.0
"""How long a target may take from being asked until it shows the artefact in its slot."""

CONFIRM_SECONDS: Final = 30.0
"""How long a committed route may take until the answers of the router show it."""

PROOF_SECONDS: Final = 10.0
"""How long a slot that was ready may need to prove it once more before it gets traffic."""

STOP_MARGIN: Final = 30.0
"""What a target may take beyond the grace that a server has to end."""

STRIKES: Final = 3
"""Wrong answers in a row after which waiting is given up."""

_POLL: Final = 0.2
_QUICK: Final = 0.02
_CALM: Final = 1.0
_WARM_ROUNDS: Final = 10


class StepFailedError(DeployError):
    """A step cannot hold; `detail` holds the last lines of what failed. The release turns back."""


def act(session: Session, step: Step, spent: float = 0.0) -> Run[str]:  # noqa: PLR0911 - one return for each step
    """Make `step` hold and return the evidence; `spent` seconds of it have passed in another process."""
    match step:
        case Start():
            return (yield from _start(session, step))
        case AwaitReady():
            return (yield from _await_ready(session, step.slot, _known(session, step.key), step.deadline, STRIKES))
        case Warm():
            return (yield from _warm(session, step))
        case Shift():
            return (yield from _shift(session, step))
        case Bake():
            return (yield from _bake(session, step, spent))
        case Promote():
            return (yield from _promote(session, step))
        case Drain():
            return (yield from _drain(session, step))
        case Stop():
            return (yield from _stop(session, step))
        case Hold():
            return ""
        case _:
            assert_never(step)


def limit(step: Step) -> float:
    """Seconds that `step` may take from its beginning: after them it is over, has failed, or nobody carries it on."""
    match step:
        case AwaitReady(deadline=seconds) | Hold(deadline=seconds):
            return seconds
        case Warm(seconds=seconds) | Bake(seconds=seconds) | Drain(seconds=seconds):
            return seconds
        case Stop(seconds=seconds):
            return seconds + STOP_MARGIN
        case Start():
            return START_SECONDS
        case Shift() | Promote():
            return PROOF_SECONDS + CONFIRM_SECONDS
        case _:
            assert_never(step)


def _known(session: Session, key: str) -> Artefact:
    artefact = session.artefacts.get(key)
    if artefact is None:
        raise StepFailedError(f"nothing is known of the artefact `{key[:12]}`")
    return artefact


def _start(session: Session, step: Start) -> Run[str]:
    view = yield from slot_view(step.slot)
    if view.key == step.key and view.state in {"running", "preparing"}:
        return "there already"
    yield from _command(session, EnsureSlot(slot=step.slot, artefact=_known(session, step.key)))
    until = (yield from clock()).elapsed + START_SECONDS
    while True:
        view = yield from slot_view(step.slot)
        if view.cause is not None and view.key in {step.key, None}:
            raise StepFailedError(view.cause.message, detail=view.cause.lines)
        if view.key == step.key and view.state in {"running", "preparing"}:
            return "begun"
        if (yield from clock()).elapsed >= until:
            raise StepFailedError(f"slot {step.slot} did not start within {START_SECONDS:g} s: it is {view.state}")
        yield from session.rest(_POLL)


def _command(session: Session, effect: EnsureSlot | StopSlot) -> Run[None]:
    """Ask the target, which knows no tokens: so traffic and lease are looked at right before, each time."""
    started = (yield from clock()).elapsed
    while True:
        yield from _refuse_traffic(effect.slot)
        yield from session.keep()
        answer = yield from once(effect, Accepted)
        if not isinstance(answer, Lost):
            return
        if (yield from clock()).elapsed - started >= PATIENCE:
            raise UnreachableError(answer.reason)
        yield from session.rest(BREATH)


def _refuse_traffic(slot: Slot) -> Run[None]:
    """A slot that gets requests is never changed."""
    view = yield from router_view()
    weight = max(view.route.weight(slot), view.applied.weight(slot) if view.applied else 0)
    if weight:
        raise StepFailedError(f"slot {slot} gets {weight / 100:g} % of the traffic, so it is not touched")


def _await_ready(session: Session, slot: Slot, artefact: Artefact, deadline: float, restarts: int = 0) -> Run[str]:
    """Wait for the proof; what has gone meanwhile is started again, at most `restarts` times."""
    until = (yield from clock()).elapsed + deadline
    strikes, told = 0, ""
    while True:
        verdict = yield from _keeping(session, prove(slot, artefact))
        if isinstance(verdict, Proven):
            return verdict.evidence
        if isinstance(verdict, Dead):
            raise StepFailedError(f"not ready (process): {verdict.cause.message}", detail=verdict.cause.lines)
        strikes = strikes + 1 if isinstance(verdict, Wrong) else 0
        said = f"not ready ({verdict.level}): {verdict.reason}"
        if strikes >= STRIKES:
            raise StepFailedError(said)
        if (yield from clock()).elapsed >= until:
            raise StepFailedError(f"not ready within {deadline:g} s; {said}")
        if isinstance(verdict, NotYet) and verdict.gone and restarts:
            restarts -= 1
            yield from _command(session, EnsureSlot(slot=slot, artefact=artefact))
        if said != told:
            yield from session.tell(said)
            told = said
        yield from session.rest(_POLL)


def _keeping(session: Session, run: Run[T]) -> Run[T]:
    """`run` with the lease kept alive before each request that it sends: many golden requests may outlive one."""
    try:
        effect = next(run)
        while True:
            if isinstance(effect, AskServer):
                yield from session.keep()
            effect = run.send((yield effect))
    except StopIteration as end:
        result: T = end.value
        return result


def _warm(session: Session, step: Warm) -> Run[str]:
    artefact = _known(session, step.key)
    if not artefact.proof.golden:
        return "no golden requests to warm up with"
    started = (yield from clock()).elapsed
    count, took = 0, [0.0]
    while count < _WARM_ROUNDS * len(artefact.proof.golden):
        before = (yield from clock()).elapsed
        if before - started >= step.seconds:
            break
        request = artefact.proof.golden[count % len(artefact.proof.golden)].request
        yield from asked(step.slot, artefact.proof.infer, dict(request))
        took.append((yield from clock()).elapsed - before)
        count += 1
        yield from session.rest(0.0)
    return f"{count} requests, the last in {took[-1] * 1000:.0f} ms"


def _shift(session: Session, step: Shift) -> Run[str]:
    artefact = session.artefacts.get(step.serves) if step.serves else None
    before = yield from _committed(session, step.route, artefact)
    yield from _confirmed(session, step.route, artefact)
    session.switch = (yield from clock()).elapsed - before
    return f"confirmed through the router after {session.switch * 1000:.1f} ms"


def _committed(session: Session, route: Route, artefact: Artefact | None) -> Run[float]:
    """Commit `route` on a proof that is fresh, each time it is tried; when it was sent, by the clock."""
    tried: float | None = None
    while True:
        view = yield from router_view()
        if view.route == route:
            return (yield from clock()).elapsed
        yield from _prove_before(session, view.route, route, artefact)
        proven = (yield from clock()).elapsed
        yield from session.keep()
        now = (yield from clock()).elapsed
        if now - proven < PROOF_SECONDS and (yield from session.commit(route, view.generation)):
            return now
        tried = now if tried is None else tried
        if now - tried >= PATIENCE:
            raise UnreachableError("the router does not take the route")
        yield from session.rest(BREATH)


def _prove_before(session: Session, old: Route, new: Route, artefact: Artefact | None) -> Run[None]:
    """Traffic is admitted on a fresh proof only, however long ago the slot became ready."""
    for slot in ("a", "b"):
        if new.weight(slot) > old.weight(slot) and artefact is not None:
            yield from _await_ready(session, slot, artefact, PROOF_SECONDS)


def _confirmed(session: Session, route: Route, artefact: Artefact | None) -> Run[None]:
    until = (yield from clock()).elapsed + CONFIRM_SECONDS
    while True:
        why = yield from _unconfirmed(route, artefact)
        if why is None:
            return
        if (yield from clock()).elapsed >= until:
            raise StepFailedError(f"the route is committed and could not be confirmed: {why}")
        yield from session.rest(_QUICK)


def _unconfirmed(route: Route, artefact: Artefact | None) -> Run[str | None]:
    """Why the answers that clients get do not show `route` yet, None when they do.

    The proxy may follow what is committed a moment later, and the answer of an old server may look like a new one's:
    where only the server is new, both are of one model. So an answer counts once the proxy says that it has the route.
    """
    view = yield from router_view()
    if view.applied is None:
        return "the proxy does not answer"
    if (view.route, view.applied) != (route, route):
        return "the proxy has another route in force"
    if not route.closed and (artefact is None or route.live is None):
        return None
    answer = yield from asked(None, artefact.proof.identity if artefact else "/")
    if isinstance(answer, Lost):
        return answer.reason
    if route.closed:
        return None if answer.status == 503 else f"the router answers {answer.status}"  # noqa: PLR2004 - HTTP's number
    return None if artefact is None else misidentified(artefact.proof, answer)


def _bake(session: Session, step: Bake, spent: float) -> Run[str]:
    left = min(step.seconds, max(0.0, step.seconds - spent))
    until = (yield from clock()).elapsed + left
    strikes, first = 0, None
    while True:
        view = yield from slot_view(step.slot)
        first = view if first is None else first
        _refuse_death(first, view)
        lane = (yield from router_view()).lane(step.slot)
        strikes = 0 if lane.up and view.state == "running" else strikes + 1
        if strikes >= STRIKES:
            why = f"the router says {lane.verdict}" if not lane.up else f"it is {view.state}"
            raise StepFailedError(f"slot {step.slot} failed under traffic: {why}", detail=_last_words(view))
        now = (yield from clock()).elapsed
        if now >= until and not strikes:
            return f"slot {step.slot} runs, and the router calls it up"
        yield from session.rest(min(_CALM, max(until - now, _POLL)))


def _refuse_death(first: SlotView, now: SlotView) -> None:
    """A candidate that ended under traffic is given up, also when it was started again before anybody else noticed."""
    if now.cause is not None:
        raise StepFailedError(f"slot {now.slot} failed under traffic: {now.cause.message}", detail=now.cause.lines)
    if now.restarts > first.restarts:
        why = now.ended.message if now.ended else "its server ended, and was started again"
        raise StepFailedError(f"slot {now.slot} failed under traffic: {why}", detail=_last_words(now))


def _last_words(view: SlotView) -> tuple[str, ...]:
    return view.ended.lines if view.ended else ()


def _promote(session: Session, step: Promote) -> Run[str]:
    before = yield from kept(LIVE, Live)
    if before is not None and before.key == step.key and before.release == session.release:
        return "recorded"
    live = Live(
        slot=step.slot,
        key=step.key,
        release=session.release,
        since=(yield from clock()).wall,
        previous=before.key if before is not None and before.key != step.key else before.previous if before else None,
    )
    yield from session.put(LIVE, encode(live))
    return "recorded"


def _drain(session: Session, step: Drain) -> Run[str]:
    until = (yield from clock()).elapsed + step.seconds
    quiet = 0
    while True:
        view = yield from router_view()
        if view.route.weight(step.slot):
            raise StepFailedError(f"slot {step.slot} still gets traffic, so it cannot finish")
        sessions = view.lane(step.slot).sessions
        quiet = 0 if sessions else quiet + 1
        if quiet > 1:
            return "no request in flight"
        if (yield from clock()).elapsed >= until:
            requests = "1 request was" if sessions == 1 else f"{sessions} requests were"
            return f"{requests} still in flight after {step.seconds:g} s"
        yield from session.rest(_QUICK if not sessions else _POLL)


def _stop(session: Session, step: Stop) -> Run[str]:
    view = yield from slot_view(step.slot)
    if view.state == "absent":
        return "nothing is there"
    yield from _command(session, StopSlot(slot=step.slot, grace=step.seconds))
    until = (yield from clock()).elapsed + step.seconds + STOP_MARGIN
    while True:
        view = yield from slot_view(step.slot)
        if view.state in {"absent", "stopped"}:
            return "stopped"
        if (yield from clock()).elapsed >= until:
            raise StepFailedError(f"slot {step.slot} did not stop within {step.seconds + STOP_MARGIN:g} s")
        yield from session.rest(_POLL)
