"""The driver: performs, one after the other, what a release asks for. Every release and every look runs through it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, assert_never

from mlops_deploy.api.trace import tracer
from mlops_deploy.errors import DeployError, UnreachableError
from mlops_deploy.ports import Clock, Keeper, Target
from mlops_deploy.release.effects import (
    Accepted,
    Answer,
    AppendLine,
    AskServer,
    Broken,
    CommitRoute,
    Effect,
    EnsureSlot,
    GetKey,
    Lost,
    ObserveRouter,
    ObserveSlot,
    Pause,
    Paused,
    PutKey,
    ReadClock,
    ReadJournal,
    StopSlot,
    Tell,
    Time,
)
from mlops_deploy.release.exchange import Run

T = TypeVar("T")

Witness = Callable[[Effect, Answer], None]
"""Sees every effect with its answer, in order: the story on a terminal, the trace of a test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The ports that a release acts through."""

    target: Target
    keeper: Keeper
    clock: Clock


def drive(run: Run[T], world: World, witness: Witness | None = None) -> T:
    """Perform `run` to its end; its result, or the error that it raises."""
    trace = tracer()
    try:
        effect = next(run)
        while True:
            answer = perform(effect, world)
            if trace is not None:
                trace(effect, answer)
            if witness is not None:
                witness(effect, answer)
            effect = run.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result


def perform(effect: Effect, world: World) -> Answer:
    """One effect; an absent world is `Lost`, one that refuses for good is `Broken`."""
    try:
        return _perform(effect, world)
    except UnreachableError as gone:
        return Lost(reason=gone.message)
    except DeployError as refused:
        return Broken(reason=refused.message, lines=refused.detail, code=refused.exit_code, hint=refused.hint)


def _perform(effect: Effect, world: World) -> Answer:  # noqa: PLR0911, PLR0912, C901 - one return for each effect
    target, keeper, clock = world.target, world.keeper, world.clock
    match effect:
        case EnsureSlot(slot=slot, artefact=artefact):
            target.ensure(slot, artefact)
            return Accepted()
        case StopSlot(slot=slot, grace=grace):
            target.stop(slot, grace)
            return Accepted()
        case ObserveSlot(slot=slot):
            return target.observe(slot)
        case ObserveRouter():
            return keeper.observed()
        case CommitRoute(route=route, generation=generation, token=token):
            return keeper.commit(route, generation, token)
        case AskServer(slot=asked, path=path, body=body, timeout=timeout):
            return keeper.ask(asked, path, body, timeout)
        case GetKey(key=key):
            return keeper.get(key)
        case PutKey(key=key, value=value, index=index, token=token):
            return keeper.put(key, value, index, token)
        case AppendLine(journal=journal, line=line, position=position, token=token):
            return keeper.append(journal, line, position, token)
        case ReadJournal(journal=journal):
            return keeper.read(journal)
        case Pause(seconds=seconds):
            return Paused(interrupted=clock.pause(seconds))
        case ReadClock():
            return Time(wall=clock.wall(), elapsed=clock.elapsed())
        case Tell():
            return Accepted()
        case _:
            assert_never(effect)
