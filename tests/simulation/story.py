"""One run from a start state to its end: a release, what goes wrong, who comes afterwards, and what must hold then."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final, Literal

from mlops_deploy.errors import LockedError, UnusableInputError
from mlops_deploy.release import executor, observe
from mlops_deploy.release import lease as leases
from mlops_deploy.release.exchange import Run
from mlops_deploy.release.journal import Ended, Entry, HeldBack
from mlops_deploy.release.lease import Holder
from mlops_deploy.release.observe import CURRENT, FREEZE, LIVE
from mlops_deploy.release.outcome import Outcome
from mlops_deploy.release.plan import Plan
from mlops_deploy.release.state import whole
from mlops_deploy.release.tend import tend
from tests.simulation.oracle import read_line, way_back
from tests.simulation.scenarios import SCENARIOS, Scenario, Start, plan_of, planned, world_of
from tests.simulation.sim import Actor, Fault, Injector, Sim, no_fault
from tests.simulation.world import ViolationError

observe.from_line = read_line  # reading a line is pure, so each is read once

Verb = Literal["resume", "abort", "advance", "tend"]
VERBS: Final[tuple[Verb, ...]] = ("resume", "abort", "advance", "tend")

NEXT: Final = Scenario(Start(), candidate=9)

COMMANDS: Final[dict[Verb, Callable[[Holder], Run[Outcome | None]]]] = {
    "resume": executor.resume,
    "abort": lambda holder: executor.abort(holder, "asked to"),
    "advance": executor.advance,
    "tend": tend,
}


@dataclass(slots=True)
class Story:
    """A simulation with the names of its processes and releases counted."""

    scenario: Scenario
    plan: Plan
    sim: Sim
    seed: int
    harmed: bool = False
    """Something outside may be to blame for what cannot be confirmed."""
    count: int = 0
    stuck: bool = False
    actors: list[tuple[str, Actor]] = field(default_factory=list)

    def holder(self) -> Holder:
        self.count += 1
        return Holder(name=f"p{self.count}", nonce=f"{self.seed}.{self.count}")

    def release(self, plan: Plan, inject: Injector = no_fault, *, after: float = 0.0) -> Actor:
        """Begin a release of `plan` by a process of its own."""
        holder = self.holder()
        name = f"r{self.count}"
        self.sim.world.plans[name] = plan
        actor = self.sim.start(holder.name, executor.release(plan, name, holder), inject, after=after)
        self.actors.append(("release", actor))
        return actor

    def visit(self, verb: Verb, inject: Injector = no_fault, *, after: float = 0.0) -> Actor:
        """Somebody else comes."""
        holder = self.holder()
        actor = self.sim.start(holder.name, COMMANDS[verb](holder), inject, after=after)
        self.actors.append((verb, actor))
        return actor

    # --- what the journal says

    def current(self) -> str | None:
        value = self.sim.world.keys.get(CURRENT, (None, 0, 0.0))[0]
        return value if isinstance(value, str) else None

    def last(self) -> Entry | None:
        lines = self.sim.world.journals.get(self.current() or "", [])
        return read_line(lines[-1], len(lines) - 1) if lines else None

    def open(self) -> bool:
        return self.current() is not None and not isinstance(self.last(), Ended)

    # --- the end

    def settle(self, verb: Verb) -> None:
        """Nothing goes wrong any more: whoever comes must reach the end."""
        for _ in range(12):
            self._check_codes()
            if not self.open():
                break
            doing: Verb = "advance" if self._is_held() and verb == "resume" else verb
            actor = self.visit(doing)
            self.sim.go()
            verb = self._after(actor, verb)
        else:
            raise ViolationError(f"I7: no end is reached; the journal ends with {self.last()}")

    def _is_held(self) -> bool:
        live = self.sim.world.keys.get(LIVE, (None, 0, 0.0))[0]
        if isinstance(live, dict) and live["release"] == self.current():
            return False
        entries = [read_line(line, n) for n, line in enumerate(self.sim.world.journals[self.current() or ""])]
        return any(isinstance(entry, HeldBack) for entry in entries[-2:])

    def _after(self, actor: Actor, verb: Verb) -> Verb:
        world = self.sim.world
        if isinstance(actor.error, UnusableInputError) and "promoted" in actor.error.message:
            return "resume"
        if isinstance(actor.error, UnusableInputError) and "decision" in actor.error.message:
            return "advance" if "waits" in actor.error.message else "resume"
        if isinstance(actor.error, LockedError) or (actor.outcome is not None and actor.outcome.result == "locked"):
            self.sim.idle(leases.TTL + 1)
        if actor.outcome is not None and actor.outcome.result in {"stuck", "unreachable"}:
            if not self.harmed:
                raise ViolationError(f"I10: {actor.outcome.result} and nothing is broken: {actor.outcome.reason}")
            world.mend()
            self.sim.idle(5.0)
        if verb == "tend" and actor.outcome is None:
            self.sim.idle(24 * 3600.0)
        return verb

    def _check_codes(self) -> None:
        """I10: what a process said is what the journal says."""
        for verb, actor in self.actors:
            outcome = actor.outcome
            if outcome is None or outcome.release is None:
                continue
            lines = self.sim.world.journals.get(outcome.release, [])
            last = read_line(lines[-1], len(lines) - 1) if lines else None
            if outcome.result in {"released", "reverted", "aborted"}:
                expected = last.code if isinstance(last, Ended) else None
                said = expected if outcome.result == "aborted" else outcome.code
                if said is None or said != expected:
                    raise ViolationError(f"I10: {verb} said {outcome.code} and the journal says {last}")
            self.stuck |= outcome.result == "stuck"
        self.actors = [(verb, actor) for verb, actor in self.actors if not actor.over]

    def check(self) -> None:
        """What holds at the end, whatever happened on the way."""
        world = self.sim.world
        world.advance(world.now + 1.0)
        lease = world.keys.get(leases.KEY, (None, 0, 0.0))
        if isinstance(lease[0], dict) and lease[0]["holder"] is not None and world.now - lease[2] <= leases.TTL:
            hindered = any(event[5] is not None for event in self.sim.trace)
            if not hindered:
                raise ViolationError("I6: the lease is held after the end")
        freeze = world.keys.get(FREEZE, (None, 0, 0.0))[0]
        if freeze is not None:
            raise ViolationError(f"a freeze is left: {freeze}")
        name = self.current()
        if name is None:
            return
        last = self.last()
        if not isinstance(last, Ended):
            raise ViolationError(f"I7: the journal ends with {last}")
        self._check_end(name, world.plans[name], last)

    def _check_end(self, name: str, plan: Plan, last: Ended) -> None:
        world = self.sim.world
        live = world.keys.get(LIVE, (None, 0, 0.0))[0]
        live_of = live["release"] if isinstance(live, dict) else None
        if last.code == 0:
            slot = plan.slot
            if slot is None or world.route != whole(slot):
                raise ViolationError(f"released, and the route is {world.route}")
            if not isinstance(live, dict) or live["key"] != plan.candidate or live_of != name:
                raise ViolationError(f"released, and live is {live}")
            self._check_slot(slot, plan.candidate)
            return
        if world.route != way_back(plan):
            raise ViolationError(f"turned back, and the route is {world.route}")
        if live_of == name:
            raise ViolationError("turned back, and it counts as live")
        for slot, held in (("a", plan.base.a), ("b", plan.base.b)):
            if plan.base.route.live == slot and held.key is not None:
                self._check_slot("a" if slot == "a" else "b", held.key)
        self._check_left(plan)

    def _check_slot(self, slot: Literal["a", "b"], key: str) -> None:
        world = self.sim.world
        server = world.slots[slot]
        if world.now < world.harmed[slot] or (
            server is not None and (server.died(world.now) or server.blinks(world.now))
        ):
            return
        if server is None or server.key != key or not server.answers(world.now):
            raise ViolationError(f"slot {slot} has the traffic and holds {server}")

    def _check_left(self, plan: Plan) -> None:
        """A candidate that was turned back is gone, unless it was there before, or somebody saw an old picture."""
        if plan.slot is None or any(event[5] is Fault.STALE for event in self.sim.trace):
            return
        world = self.sim.world
        base = plan.base.a if plan.slot == "a" else plan.base.b
        view = world.view(plan.slot)
        if view.key == plan.candidate and base.key != plan.candidate and view.state != "stopped":
            raise ViolationError(f"turned back, and the candidate is still there: {view}")

    def again(self) -> None:
        """The service takes its next release."""
        world = self.sim.world
        self.sim.idle(leases.TTL + 1)
        world.mend()
        self.sim.idle(10.0)
        world.fates.clear()
        actor = self.release(plan_of(NEXT, world))
        self.sim.go()
        if actor.outcome is None or actor.outcome.result != "released":
            raise ViolationError(f"the next release ends with {actor.outcome or actor.error!r}")


def begin(name: str, seed: int) -> Story:
    """A story in the start state `name`."""
    scenario = SCENARIOS[name]
    random = Random(seed)
    world = world_of(scenario, random)
    return Story(scenario=scenario, plan=planned(name), sim=Sim(world=world, random=random), seed=seed)
