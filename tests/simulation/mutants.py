"""Deliberate mistakes, each of which the simulation must find: what it does not catch, it does not prove."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

import pytest

from mlops_deploy.release import (
    acts,
    bluegreen,
    executor,
    journal,
    observe,
    outcome,
    readiness,
    recreate,
    session,
    turning,
    walk,
)
from mlops_deploy.release import lease as leases
from mlops_deploy.release.effects import Accepted, EnsureSlot, Lost, StopSlot
from mlops_deploy.release.exchange import asked, once
from mlops_deploy.release.journal import Began, Done
from mlops_deploy.release.state import Artefact, Route
from mlops_deploy.release.steps import Drain, Shift, Stop
from tests.simulation import oracle

Patch = pytest.MonkeyPatch
Generator = Any


def nothing(*_args: object, **_kwargs: object) -> Generator:
    """A generator that asks for nothing."""
    return
    yield


def giving(*_args: object, value: object, **_kwargs: object) -> Generator:
    return value
    yield


def _commit_before_proof(patch: Patch) -> None:
    patch.setattr(acts, "_prove_before", nothing)


def _steal_the_lease(patch: Patch) -> None:
    patch.setattr(leases, "holder_of", lambda _found: None)


def _skip_undo(patch: Patch) -> None:
    patch.setattr(turning, "_all_undone", nothing)


def _undo_in_order(patch: Patch) -> None:
    def wrong(one: session.Session, standing: journal.Standing) -> Generator:
        for index, planned in enumerate(standing.plan.steps[: standing.plan.point_of_no_return]):
            if planned.undo and (yield from turning._took_effect(planned.step, begun=index <= standing.index)):
                for part, step in enumerate(planned.undo):
                    yield from turning._undone(one, step, index, part)

    patch.setattr(turning, "_all_undone", wrong)


def _stop_before_drain(patch: Patch) -> None:
    def wrong(slot: Any, spec: Any) -> Any:
        return (Stop(slot=slot, seconds=spec.drain), Drain(slot=slot, seconds=spec.drain))

    patch.setattr(bluegreen, "emptied", wrong)
    patch.setattr(recreate, "emptied", wrong)


def _do_not_fence(patch: Patch) -> None:
    patch.setattr(session.Session, "fence", nothing)


def _act_without_intent(patch: Patch) -> None:
    right = session.Session.record

    def wrong(self: session.Session, entry: journal.Entry) -> Generator:
        if not isinstance(entry, Began):
            yield from right(self, entry)

    patch.setattr(session.Session, "record", wrong)


def _done_before_it_is(patch: Patch) -> None:
    def wrong(one: session.Session, step: Any) -> Generator:
        yield from acts._command(one, EnsureSlot(slot=step.slot, artefact=acts._known(one, step.key)))
        return "begun"

    patch.setattr(acts, "_start", wrong)


def _do_not_confirm(patch: Patch) -> None:
    patch.setattr(acts, "_confirmed", nothing)


def _confirm_by_the_answer_alone(patch: Patch) -> None:
    def wrong(route: Route, artefact: Artefact | None) -> Generator:
        answer = yield from asked(None, artefact.proof.identity if artefact else "/")
        if isinstance(answer, Lost):
            return answer.reason
        if route.closed:
            return None if answer.status == 503 else "open"
        return None if artefact is None else readiness.misidentified(artefact.proof, answer)

    patch.setattr(acts, "_unconfirmed", wrong)
    patch.setattr(oracle.Oracle, "_shows", lambda *_: True)  # the world alone has to find it


def _never_renew(patch: Patch) -> None:
    patch.setattr(session.Session, "keep", nothing)


def _renew_what_is_lost(patch: Patch) -> None:
    def wrong(lease: leases.Lease, index: int, *, token: int | None = None) -> Generator:
        found = yield from leases.stored(leases.KEY)
        fresh = replace(lease, beat=lease.beat + 1, token=lease.token if token is None else token)
        answer = yield from leases.put(leases.KEY, leases.encode(fresh), found.index, fresh.token)
        return fresh, getattr(answer, "index", index)

    patch.setattr(leases, "renew", wrong)


def _touch_with_traffic(patch: Patch) -> None:
    patch.setattr(acts, "_refuse_traffic", nothing)


def _take_a_promotion_back(patch: Patch) -> None:
    right = journal._after

    def wrong(state: journal.Standing, entry: journal.Entry) -> journal.Standing:
        after = right(state, entry)
        return replace(after, promoted=state.promoted) if isinstance(entry, Began) else after

    patch.setattr(journal, "_after", wrong)
    patch.setattr(observe, "_is_live", partial(giving, value=False))


def _skip_level(name: str) -> Callable[[Patch], None]:
    return lambda patch: patch.setattr(readiness, name, partial(giving, value=None))


def _forget_the_direction(patch: Patch) -> None:
    right = walk._walked

    def wrong(one: session.Session, standing: journal.Standing) -> Generator:
        forward = replace(standing, phase="forward")
        return (yield from right(one, forward))

    patch.setattr(walk, "_walked", wrong)


def _end_with_zero(patch: Patch) -> None:
    patch.setattr(turning, "_code_of", lambda _turned: 0)


def _never_exposed(patch: Patch) -> None:
    patch.setattr(turning, "_code_of", lambda _turned: turning.NEVER_READY)


def _ignore_open_releases(patch: Patch) -> None:
    patch.setattr(executor, "refuse_busy", nothing)


def _ignore_stale_plans(patch: Patch) -> None:
    patch.setattr(executor, "refuse_stale", nothing)


def _keep_the_lease(patch: Patch) -> None:
    patch.setattr(session.Session, "let_go", nothing)


def _trust_lost_lines(patch: Patch) -> None:
    patch.setattr(session.Session, "_is_last", partial(giving, value=True))


def _repeat_lost_lines(patch: Patch) -> None:
    right = session.Session._is_last

    def wrong(self: session.Session, line: str, answer: Any) -> Generator:
        before = self.position
        found = yield from right(self, line, answer)
        self.position = before + int(found)
        return False

    patch.setattr(session.Session, "_is_last", wrong)


def _do_not_bake(patch: Patch) -> None:
    patch.setattr(acts, "_bake", partial(giving, value="baked"))


def _do_not_drain(patch: Patch) -> None:
    patch.setattr(acts, "_drain", partial(giving, value="drained"))


def _do_not_wait_for_the_stop(patch: Patch) -> None:
    def wrong(one: session.Session, step: Stop) -> Generator:
        yield from acts._command(one, StopSlot(slot=step.slot, grace=step.seconds))
        return "stopped"

    patch.setattr(acts, "_stop", wrong)


def _command_without_a_look(patch: Patch) -> None:
    def wrong(_session: session.Session, effect: EnsureSlot | StopSlot) -> Generator:
        yield from once(effect, Accepted)

    patch.setattr(acts, "_command", wrong)


def _stop_without_closing(patch: Patch) -> None:
    right = recreate.recreate

    def wrong(*args: Any) -> Any:
        return tuple(p for p in right(*args) if not (isinstance(p.step, Shift) and p.step.route.closed))

    patch.setattr("mlops_deploy.release.strategies.STRATEGIES", {**_strategies(), "recreate": wrong})


def _strategies() -> Mapping[str, Any]:
    from mlops_deploy.release.strategies import STRATEGIES  # noqa: PLC0415 - as it is when the mistake is made

    return STRATEGIES


def _close_without_reopening(patch: Patch) -> None:
    patch.setattr(turning, "_took_effect", partial(_never_closed))


def _never_closed(step: Any, *, begun: bool) -> Generator:
    return begun and not (isinstance(step, Shift) and step.route.closed)
    yield


def _leave_the_freeze(patch: Patch) -> None:
    patch.setattr(outcome, "FREEZE", "another")


def _forget_the_hold(patch: Patch) -> None:
    right = session.Session.record

    def wrong(self: session.Session, entry: journal.Entry) -> Generator:
        if not isinstance(entry, journal.HeldBack):
            yield from right(self, entry)

    patch.setattr(session.Session, "record", wrong)


def _promote_first(patch: Patch) -> None:
    right = bluegreen.bluegreen

    def wrong(*args: Any) -> Any:
        steps = right(*args)
        return tuple(sorted(steps, key=lambda p: type(p.step).__name__ != "Promote"))

    patch.setattr("mlops_deploy.release.strategies.STRATEGIES", {**_strategies(), "bluegreen": wrong})


def _result_of_another_step(patch: Patch) -> None:
    right = session.Session.record

    def wrong(self: session.Session, entry: journal.Entry) -> Generator:
        yield from right(self, replace(entry, index=0) if isinstance(entry, Done) and not entry.undo else entry)

    patch.setattr(session.Session, "record", wrong)


def _do_not_record_what_is_live(patch: Patch) -> None:
    patch.setattr(acts, "_promote", partial(giving, value="recorded"))


MUTANTS: Final[Mapping[str, Callable[[Patch], None]]] = {
    "commit before proof": _commit_before_proof,
    "steal the lease": _steal_the_lease,
    "skip undo": _skip_undo,
    "undo in the wrong order": _undo_in_order,
    "stop before drain": _stop_before_drain,
    "do not fence": _do_not_fence,
    "act without intent": _act_without_intent,
    "done before it is": _done_before_it_is,
    "do not confirm": _do_not_confirm,
    "confirm by the answer alone": _confirm_by_the_answer_alone,
    "never renew": _never_renew,
    "renew a lease that is lost": _renew_what_is_lost,
    "touch a slot with traffic": _touch_with_traffic,
    "take a promotion back": _take_a_promotion_back,
    "skip the process": _skip_level("_process"),
    "skip the endpoint": _skip_level("_endpoint"),
    "skip identity": _skip_level("_identity"),
    "skip golden requests": _skip_level("_golden"),
    "skip the router's verdict": _skip_level("_admitted"),
    "forget the direction": _forget_the_direction,
    "end with zero": _end_with_zero,
    "never exposed": _never_exposed,
    "ignore open releases": _ignore_open_releases,
    "ignore stale plans": _ignore_stale_plans,
    "keep the lease": _keep_the_lease,
    "trust lost lines": _trust_lost_lines,
    "repeat lost lines": _repeat_lost_lines,
    "do not bake": _do_not_bake,
    "do not drain": _do_not_drain,
    "do not wait for the stop": _do_not_wait_for_the_stop,
    "command without a look": _command_without_a_look,
    "stop without closing": _stop_without_closing,
    "close without reopening": _close_without_reopening,
    "leave the freeze": _leave_the_freeze,
    "forget the hold": _forget_the_hold,
    "promote first": _promote_first,
    "result of another step": _result_of_another_step,
    "do not record what is live": _do_not_record_what_is_live,
}
