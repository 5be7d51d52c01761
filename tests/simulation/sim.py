"""Processes that work on one world: whose turn it is, what goes wrong on the way, and what came of each."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

from mlops_deploy.errors import DeployError
from mlops_deploy.release import lease as leases
from mlops_deploy.release.effects import (
    Answer,
    AppendLine,
    AskServer,
    Broken,
    CommitRoute,
    Effect,
    EnsureSlot,
    Lost,
    Pause,
    Paused,
    PutKey,
    ReadClock,
    StopSlot,
    Tell,
    Time,
    Written,
)
from mlops_deploy.release.exchange import Run
from mlops_deploy.release.outcome import Outcome
from tests.simulation.oracle import Oracle, RejectedError
from tests.simulation.world import ViolationError, World

TIMEOUT = 4.0
"""Seconds after which no answer counts as lost."""

LIMIT = 3000.0
"""More seconds than the deadlines of any plan here add up to."""

MOST_EFFECTS = 20_000


class Fault(StrEnum):
    """What goes wrong with one effect."""

    CRASH_BEFORE = "crash before"
    CRASH_AFTER = "crash after"
    LOST_REQUEST = "lost request"
    LOST_ANSWER = "lost answer"
    LATE = "late"
    DUPLICATE = "duplicate"
    STALE = "stale"
    SLOW = "slow"
    SLEPT = "slept"
    INTERRUPT = "interrupt"
    BROKEN = "broken"


LOCAL = (Pause, ReadClock, Tell)
"""Effects that nothing can happen to on their way."""

TARGET = (EnsureSlot, StopSlot)
"""Acts at an engine, which knows no tokens: a holder is not stopped between its last look at the clock and these."""

Injector = Callable[["Actor", Effect], Fault | None]


def no_fault(_actor: "Actor", _effect: Effect) -> None:
    return None


@dataclass(slots=True)
class Actor:
    """One process: a command, its view of the clock, and what came of it."""

    name: str
    run: Run[Outcome | None]
    ready: float
    inject: Injector = no_fault
    wall: float = 1_700_000_000.0
    missed: float = 0.0
    """Seconds that its elapsed time stood still."""
    token: int = 0
    count: int = 0
    begun: float = 0.0
    hindered: float = 0.0
    effect: Effect | None = None
    outcome: Outcome | None = None
    error: DeployError | None = None
    crashed: bool = False
    slept: bool = False
    oracle: Oracle | None = None

    @property
    def over(self) -> bool:
        return self.effect is None


Event = tuple[float, str, int, Effect, Answer | None, Fault | None]


@dataclass(slots=True)
class Sim:
    """One run: the world, who works on it, and what happened, in order."""

    world: World
    random: Random
    actors: list[Actor] = field(default_factory=list)
    trace: list[Event] = field(default_factory=list)
    late: list[tuple[float, Effect]] = field(default_factory=list)
    before: Callable[["Sim"], None] | None = None
    """Called before every event: harm from outside."""
    faults: int = 0
    lateness: float | None = None
    """Seconds until what is late arrives; drawn when None, at most 40."""

    def start(self, name: str, run: Run[Outcome | None], inject: Injector = no_fault, *, after: float = 0.0) -> Actor:
        """A process begins."""
        begun = self.world.now + after
        actor = Actor(name=name, run=run, ready=begun, inject=inject, begun=begun, oracle=Oracle())
        self.actors.append(actor)
        self._next(actor, None)
        return actor

    def go(self) -> None:
        """Everybody works until all are done."""
        waiting = [actor for actor in self.actors if not actor.over]
        while waiting:
            actor = min(waiting, key=lambda one: one.ready)
            self.step(actor)
            if actor.over:
                waiting = [one for one in waiting if not one.over]

    def idle(self, seconds: float) -> None:
        """Time passes, and nobody works: only what is late arrives."""
        until = self.world.now + seconds
        self._deliver_late(until)
        self.world.now = until

    def step(self, actor: Actor) -> None:
        """One effect of `actor`."""
        effect = actor.effect
        if effect is None:
            return
        fault = actor.inject(actor, effect)
        if fault is Fault.SLEPT and not actor.slept and not isinstance(effect, TARGET):
            self._sleep(actor, effect)
            return
        actor.slept = False
        self._deliver_late(actor.ready)
        self.world.advance(actor.ready)
        if self.before is not None:
            self.before(self)
        actor.count += 1
        self.faults += fault is not None
        answer, took = self._performed(actor, effect, fault)
        self.trace.append((self.world.now, actor.name, actor.count, effect, answer, fault))
        if fault in {Fault.CRASH_BEFORE, Fault.CRASH_AFTER}:
            actor.crashed, actor.effect = True, None
            actor.run.close()
            return
        actor.ready = self.world.now + took
        if isinstance(effect, PutKey) and effect.key == leases.KEY and isinstance(effect.value, dict):
            token = effect.value["token"]
            actor.token = token if isinstance(token, int) else 0
        self._bounded(actor)
        self._witnessed(actor, effect, answer)
        self._next(actor, answer)

    def _sleep(self, actor: Actor, effect: Effect) -> None:
        self.faults += 1
        actor.slept = True
        seconds = leases.TTL + 1 + 30 * self.random.random()
        actor.ready += seconds
        actor.hindered += seconds
        self.trace.append((self.world.now, actor.name, actor.count, effect, None, Fault.SLEPT))

    def _bounded(self, actor: Actor) -> None:
        if self.world.now - actor.begun - actor.hindered > LIMIT or actor.count > MOST_EFFECTS:
            raise ViolationError(f"I7: {actor.name} has worked for {self.world.now - actor.begun:.0f} s without an end")

    def _witnessed(self, actor: Actor, effect: Effect, answer: Answer) -> None:
        try:
            if actor.oracle is not None:
                actor.oracle.see(effect, answer)
        except RejectedError as rejected:
            raise ViolationError(f"the model rejects {actor.name}: {rejected}") from rejected

    def _next(self, actor: Actor, answer: Answer | None) -> None:
        try:
            actor.effect = next(actor.run) if answer is None else actor.run.send(answer)
        except StopIteration as end:
            actor.effect, actor.outcome = None, end.value
        except DeployError as error:
            actor.effect, actor.error = None, error

    def _performed(self, actor: Actor, effect: Effect, fault: Fault | None) -> tuple[Answer, float]:
        now = self.world.now
        match effect:
            case ReadClock():
                return Time(wall=actor.wall + now, elapsed=now - actor.missed), 0.0
            case Pause(seconds=seconds):
                if fault is Fault.INTERRUPT:
                    return Paused(interrupted="SIGINT"), 0.0
                return Paused(), seconds
            case Tell():
                return self.world.perform(effect, actor.token), 0.0
            case _:
                return self._sent(actor, effect, fault)

    def _sent(self, actor: Actor, effect: Effect, fault: Fault | None) -> tuple[Answer, float]:  # noqa: PLR0911
        world, took = self.world, 0.002 + 0.008 * self.random.random()
        timeout = effect.timeout if isinstance(effect, AskServer) else TIMEOUT
        match fault:
            case Fault.CRASH_BEFORE | Fault.LOST_REQUEST:
                actor.hindered += timeout
                return Lost(reason="lost request"), timeout
            case Fault.LOST_ANSWER:
                world.perform(effect, actor.token)
                actor.hindered += timeout
                return Lost(reason="lost answer"), timeout
            case Fault.LATE:
                self._postpone(actor, effect)
                actor.hindered += timeout
                return Lost(reason="late"), timeout
            case Fault.DUPLICATE:
                answer = world.perform(effect, actor.token)
                world.perform(effect, actor.token)
                return answer, took
            case Fault.STALE:
                return world.stale(effect) or world.perform(effect, actor.token), took
            case Fault.SLOW:
                seconds = timeout * self.random.random()
                actor.hindered += seconds
                return world.perform(effect, actor.token), seconds
            case Fault.BROKEN:
                return Broken(reason="no space left", lines=("ENOSPC",), code=1), took
            case _:
                if isinstance(effect, AskServer) and effect.body is not None:
                    took += world.thinking
                answer = world.perform(effect, actor.token)
                return answer, timeout if isinstance(answer, Lost) and "refused" not in answer.reason else took

    def _postpone(self, actor: Actor, effect: Effect) -> None:
        at = self.world.now + (self.lateness or 40 * self.random.random() ** 3)
        if isinstance(effect, EnsureSlot | StopSlot):
            self.world.late(effect, actor.token, min(at, self.world.now + TIMEOUT))
        elif isinstance(effect, PutKey | AppendLine | CommitRoute):
            self.late.append((at, effect))
            self.late.sort(key=lambda item: item[0])

    def _deliver_late(self, until: float) -> None:
        """Each at its own moment, whoever works then: what is written has stood since."""
        while self.late and self.late[0][0] <= until:
            at, effect = self.late.pop(0)
            self.world.advance(at)
            self.trace.append((self.world.now, "late", 0, effect, self.world.perform(effect, 0), Fault.LATE))


def told(trace: list[Event]) -> str:
    """A trace as text: the same seed gives the same bytes."""
    return "".join(
        f"{now:10.3f} {name} #{count} {effect!r} → {answer!r}{f'  [{fault}]' if fault else ''}\n"
        for now, name, count, effect, answer, fault in trace
    )


__all__ = ["Actor", "Fault", "Injector", "Sim", "Written", "no_fault", "told"]
