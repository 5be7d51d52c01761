"""A release without slots: the cluster replaces the servers of one job behind a canary that has proved itself."""

from dataclasses import dataclass, replace
from typing import Final

from mlops_deploy.api.planning import Shelf, Wish, find_candidate
from mlops_deploy.api.report import Report
from mlops_deploy.api.server_inputs import known_preset
from mlops_deploy.api.service import Service, require_no_slots
from mlops_deploy.errors import DeployError, LockedError, UnusableInputError
from mlops_deploy.ports import Clock, Rolling, Story
from mlops_deploy.release.forecast import Forecast
from mlops_deploy.release.outcome import Result
from mlops_deploy.release.rolling import RollingPlan, RollingState, RollingView
from mlops_deploy.release.state import Artefact
from mlops_deploy.render.nomad import warnings
from mlops_deploy.spec.preset import fill_preset, filling

STRATEGY: Final = "rolling"
STRIKES: Final = 3
"""How often in a row a canary may fail its own proof."""

PROOF_SECONDS: Final = 30.0
PAUSE: Final = 0.3
SETTLE: Final = 60.0
"""Seconds for the way back: the old servers have never stopped, so that it only has to be written down."""

_LOOK: Final = "`nomad job status` and `nomad deployment list` show it"


class _FailedError(DeployError):
    """The candidate cannot take over."""


class _StoppedError(DeployError):
    """The user asked to stop."""

    exit_code = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    rolling: Rolling
    clock: Clock
    story: Story
    plan: RollingPlan
    command: tuple[str, ...]
    deadline: float


def preview(service: Service, shelf: Shelf, wish: Wish, story: Story) -> RollingPlan:
    """What a rolling release would do now; raise `UnusableInputError` where it is not possible, or slots are there."""
    rolling = _rolling(service, wish)
    require_no_slots(service)
    return RollingPlan(
        project=service.spec.project,
        target=service.target_name,
        count=service.spec.nomad.count,
        before=rolling.view(),
        candidate=find_candidate(service, shelf, wish, story),
    )


def forecast(service: Service, wish: Wish, plan: RollingPlan) -> Forecast:
    """What the cluster says of `plan` beforehand."""
    if not plan.needed:
        return Forecast()
    said = _rolling(service, wish).forecast(plan.candidate)
    return replace(said, warnings=(*warnings(service.spec), *said.warnings))


def release(service: Service, shelf: Shelf, wish: Wish, story: Story) -> Report:
    """Carry the plan out; the report of how it ended. What fails is taken back, the servers that ran go on."""
    rolling = _rolling(service, wish)
    plan = preview(service, shelf, wish, story)
    artefact = plan.candidate
    if plan.before.busy:
        raise LockedError(
            f"deployment `{(plan.before.deployment or '')[:8]}` of job `{plan.project}` is under way",
            hint="`nomad deployment promote` or `nomad deployment fail` ends it",
        )
    if not plan.needed:
        return Report(result="nothing", code=0, release=None, reason="", live=artefact.version, hint=_LOOK)
    service.supply().prepare(artefact, story)
    work = _Work(
        rolling=rolling,
        clock=service.clock,
        story=story,
        plan=plan,
        command=_proof(service, artefact),
        deadline=service.spec.release.deadline,
    )
    with service.clock.listening():
        return _carry_out(work)


def _rolling(service: Service, wish: Wish) -> Rolling:
    strategy = wish.strategy or service.spec.release.strategy or STRATEGY
    if service.rolling is None:
        raise UnusableInputError(
            f"target `{service.target_name}` has no canaries of its own", hint="`--native` needs `--target nomad`"
        )
    if strategy != STRATEGY:
        raise UnusableInputError(
            f"`--native` releases by the strategy `rolling`, not `{strategy}`",
            hint="`--strategy rolling` says otherwise for once, or leave `--native` out",
        )
    return service.rolling()


def _proof(service: Service, artefact: Artefact) -> tuple[str, ...]:
    preset = known_preset(service.spec.preset)
    values = filling(preset, name=artefact.model, content=artefact.content_id, path="")
    return fill_preset(preset, values).ready.command


def _carry_out(work: _Work) -> Report:
    started = work.clock.elapsed()
    exposed = False
    try:
        work.rolling.register(work.plan.candidate, work.plan.before.index)
        work.story.say(work.plan.steps[0])
        view = _proven(work)
        if view.state == "waiting":
            work.rolling.promote(view.deployment or "")
            exposed = True
            work.story.say(f"promoted deployment `{(view.deployment or '')[:8]}`")
            view = _until(work, {"settled"})
    except _StoppedError as stopped:
        return _report(work, "interrupted", 130, stopped, started)
    except _FailedError as failed:
        return _taken_back(work, failed, started, exposed=exposed)
    return _report(work, "released", 0, None, started)


def _proven(work: _Work) -> RollingView:
    """Wait until every server has proved itself that is there now: another one may have taken a canary's place."""
    proven: set[str] = set()
    while True:
        view = _until(work, {"waiting", "settled"}, complete=True)
        if proven.issuperset(view.servers):
            return view
        for server in view.servers:
            if server not in proven:
                _prove(work, server)
                proven.add(server)


def _until(work: _Work, wanted: set[RollingState], *, complete: bool = False) -> RollingView:
    """Wait for the version that was registered to get there; with `complete` for its servers too."""
    until = work.clock.elapsed() + work.deadline
    told = ""
    while True:
        view = work.rolling.view()
        if view.key != work.plan.candidate.key:
            raise LockedError(f"job `{work.plan.project}` was registered anew by somebody else", hint=_LOOK)
        if view.cause is not None:
            raise _FailedError(view.cause.message, detail=view.cause.lines)
        if view.state in wanted and (view.complete or not complete):
            return view
        if work.clock.elapsed() >= until:
            missing = complete and view.state in wanted
            there = f", with {len(view.servers)} of {view.wanted} servers to prove their model" if missing else ""
            raise _FailedError(f"it is still {view.state} after {work.deadline:g} s{there}")
        if (said := f"{view.state}: {view.healthy} of {view.wanted} healthy") != told:
            work.story.say(said)
            told = said
        _rest(work)


def _prove(work: _Work, server: str) -> None:
    """A new server proves by itself that this very model answers."""
    strikes = 0
    while (why := work.rolling.prove(server, work.command, PROOF_SECONDS)) is not None:
        strikes += 1
        if strikes >= STRIKES:
            raise _FailedError(f"server `{server[:8]}` does not prove its model: {why}")
        _rest(work)
    work.story.say(f"server `{server[:8]}` proves its model")


def _rest(work: _Work) -> None:
    if (signal := work.clock.pause(PAUSE)) is not None:
        raise _StoppedError(f"{signal} came; the deployment goes on by itself", hint=_LOOK)


def _taken_back(work: _Work, failed: DeployError, started: float, *, exposed: bool) -> Report:
    code = 5 if exposed else 4
    try:
        work.rolling.take_back(work.rolling.view(), work.plan.before)
        _settle(work)
    except DeployError as error:
        reason = f"{failed.message}; the way back failed too: {error.message}"
        return _report(work, "stuck", 6, DeployError(reason, detail=failed.detail, hint=_LOOK), started)
    return _report(work, "reverted", code, failed, started)


def _settle(work: _Work) -> None:
    """Wait until the job is what it was before."""
    until = work.clock.elapsed() + SETTLE + work.deadline
    before = work.plan.before
    state: RollingState = "absent" if before.state == "absent" else "settled"
    while (view := work.rolling.view()).state != state or (state == "settled" and view.key != before.key):
        if work.clock.elapsed() >= until:
            raise DeployError("the job has not settled in time")
        work.clock.pause(PAUSE)


def _report(work: _Work, result: Result, code: int, error: DeployError | None, started: float) -> Report:
    before = work.plan.before
    old = None if before.content is None else f"{work.plan.candidate.model}@{before.content[:12]}"
    return Report(
        result=result,
        code=code,
        release=None,
        reason=error.message if error else "",
        lines=error.detail if error else (),
        hint=(error.hint if error else None) or (_LOOK if code == 0 else None),
        live=work.plan.candidate.version if code == 0 else old,
        seconds=work.clock.elapsed() - started,
    )
