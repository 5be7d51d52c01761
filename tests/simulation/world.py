"""Two slots, a router and its keeper in virtual time: what Target, Keeper and a client load do, and what went wrong.

Every change goes through `perform`, every look too. `now` only grows. A promise that is broken raises at once.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from mlops_deploy.release import lease as leases
from mlops_deploy.release.effects import (
    Accepted,
    Answer,
    Answered,
    AppendLine,
    AskServer,
    CommitRoute,
    Committed,
    Effect,
    EnsureSlot,
    GetKey,
    Lines,
    Lost,
    ObserveRouter,
    ObserveSlot,
    PutKey,
    ReadJournal,
    Refused,
    StopSlot,
    Stored,
    Tell,
    Written,
)
from mlops_deploy.release.observe import CURRENT
from mlops_deploy.release.plan import Plan
from mlops_deploy.release.state import (
    CLOSED,
    SLOTS,
    Artefact,
    Cause,
    Counters,
    Lane,
    Route,
    RouterView,
    Slot,
    SlotView,
)
from mlops_deploy.release.steps import Shift

LAG = 0.3
"""Seconds after which the router's verdict on a server follows the server."""

FOREVER = 1e9

FateKind = Literal["good", "never", "bootstrap", "memory", "crash", "identity", "prediction", "flaps"]


class ViolationError(AssertionError):
    """A promise was broken."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a server: how long it loads, and what goes wrong with it `at` seconds after it has loaded."""

    kind: FateKind = "good"
    copy: float = 0.2
    load: float = 0.6
    at: float = FOREVER


@dataclass(slots=True)
class Server:
    """What one slot holds."""

    artefact: Artefact
    key: str
    revision: str
    fate: Fate
    prepared: float
    loaded: float
    stopping: float | None = None
    """When it was asked to stop; it takes no new request from then on."""
    ends: float = FOREVER
    killed: float = FOREVER

    def gone(self, now: float) -> bool:
        return now >= self.ends

    def died(self, now: float) -> bool:
        """By itself, or from outside: nobody who released it can be blamed."""
        return now >= self.killed or (self.fate.kind in {"crash", "memory"} and now >= self.loaded + self.fate.at)

    def answers(self, now: float) -> bool:
        if now < self.loaded or self.stopping is not None or self.gone(now) or self.died(now):
            return False
        return not self.blinks(now)

    def blinks(self, now: float) -> bool:
        return self.fate.kind == "flaps" and int((now - self.loaded) / 0.7) % 3 == 2


GOOD = Fate()


@dataclass(slots=True)
class World:
    """`plans` knows the plan of every release by its name: what a release may do is judged by it."""

    random: Random
    now: float = 1000.0
    slots: dict[Slot, Server | None] = field(default_factory=lambda: {"a": None, "b": None})
    route: Route = CLOSED
    generation: int = 0
    applying: float = 0.0
    """Seconds from a commit until the proxy has the route, and requests follow it."""
    ahead: list[tuple[float, Route]] = field(default_factory=list)
    """Routes that are committed and not in force yet, and when they will be."""
    behind: Route | None = None
    """The route in force while another one is committed already."""
    route_token: int = 0
    keys: dict[str, tuple[object, int, float]] = field(default_factory=dict)
    journals: dict[str, list[str]] = field(default_factory=dict)
    plans: dict[str, Plan] = field(default_factory=dict)
    fates: list[Fate] = field(default_factory=list)
    busy: dict[Slot, float] = field(default_factory=lambda: {"a": 0.0, "b": 0.0})
    left: dict[Slot, float] = field(default_factory=lambda: {"a": 0.0, "b": 0.0})
    harmed: dict[Slot, float] = field(default_factory=lambda: {"a": 0.0, "b": 0.0})
    requests: dict[Slot, int] = field(default_factory=lambda: {"a": 0, "b": 0})
    refused: int = 0
    silent: float = 0.0
    """The proxy answers nobody before this moment."""
    gone: float = 0.0
    """The router with its keeper answers nobody before this moment."""
    engine: float = 0.0
    """The engine answers nobody before this moment."""
    started: int = 1
    revisions: int = 0
    drain: float = 2.0
    long_requests: float = 0.02
    thinking: float = 0.0
    """Seconds that a server takes for a prediction."""
    pending: dict[Slot, list[tuple[float, int, Effect]]] = field(default_factory=lambda: {"a": [], "b": []})
    old: dict[Slot, SlotView] = field(default_factory=dict)
    seen: dict[Slot, SlotView] = field(default_factory=dict)

    # --- time and the load of the clients

    def advance(self, now: float) -> None:
        """Time goes on, requests arrive, what was late is done."""
        self.now = max(self.now, now)
        for slot in SLOTS:
            while self.pending[slot] and self.pending[slot][0][0] <= self.now:
                _, token, effect = self.pending[slot].pop(0)
                self._command(effect, token)
        self._apply()
        self._serve()

    @property
    def applied(self) -> Route:
        """The route in force."""
        return self.route if self.behind is None else self.behind

    def _apply(self) -> None:
        """The proxy follows, in the order of the commits."""
        while self.ahead and self.ahead[0][0] <= self.now:
            at, route = self.ahead.pop(0)
            self._leave(self.applied, route, at)
            self.behind = route
        if not self.ahead:
            self.behind = None

    def _leave(self, old: Route, new: Route, at: float) -> None:
        for slot in SLOTS:
            if old.weight(slot) and not new.weight(slot):
                self.left[slot] = at

    def _serve(self) -> None:
        """One request now: who gets it must be able to answer it, unless something outside is to blame."""
        if self.now < max(self.silent, self.gone):
            return
        if self.applied.closed:
            self.refused += 1
            return
        for slot in SLOTS:
            if self.applied.weight(slot):
                self._serve_by(slot)

    def _serve_by(self, slot: Slot) -> None:
        server, now = self.slots[slot], self.now
        self.requests[slot] += 1
        if self.random.random() < self.long_requests:
            self.busy[slot] = max(self.busy[slot], now + 3 * self.drain * self.random.random())
        if now < self.harmed[slot] or (server is not None and (server.died(now) or server.blinks(now))):
            return
        if server is None or not server.answers(now):
            raise ViolationError(f"I2: a request to slot {slot} fails: {server}")
        if server.fate.kind in {"identity", "prediction"}:
            raise ViolationError(f"I2: slot {slot} answers with the wrong {server.fate.kind}")
        self.busy[slot] = max(self.busy[slot], now + 0.05)

    # --- harm from outside

    def kill(self, slot: Slot) -> None:
        """Somebody kills what is in `slot`."""
        server = self.slots[slot]
        if server is not None:
            server.killed = min(server.killed, self.now)
            self.harmed[slot] = FOREVER

    def restart_engine(self, seconds: float) -> None:
        """Every container stops and comes back with what it held."""
        self.engine = self.now + seconds
        self.restart_router(seconds)
        for slot in SLOTS:
            server = self.slots[slot]
            if server is None:
                continue
            if server.stopping is not None:
                server.ends = min(server.ends, self.now)
                continue
            if self.now >= server.prepared and not server.died(self.now):
                server.loaded = self.now + seconds + server.fate.load
            else:
                server.prepared = max(server.prepared, self.now + seconds + server.fate.copy)
                server.loaded = server.prepared + server.fate.load
            self.harmed[slot] = max(self.harmed[slot], server.loaded + LAG)
            self.busy[slot] = self.now

    def restart_router(self, seconds: float) -> None:
        """The router's container starts anew: its counters too."""
        self.gone = max(self.gone, self.now + seconds)
        self.silent = max(self.silent, self.now + seconds)
        self.started += 1
        self._leave(self.applied, self.route, self.now)
        self.behind = None
        self.ahead.clear()
        self.requests = {"a": 0, "b": 0}
        self.busy = {"a": self.now, "b": self.now}

    def silence(self, seconds: float) -> None:
        """The proxy alone does not answer; its keeper does."""
        self.silent = max(self.silent, self.now + seconds)

    def mend(self) -> None:
        """A person sees to it that everything is well again: engine, router, and every server that should run."""
        self.engine = self.gone = self.silent = self.now
        for slot in SLOTS:
            server = self.slots[slot]
            wanted = None if server is None or server.stopping is not None else server
            if wanted is not None and (wanted.died(self.now) or wanted.fate.kind != "good"):
                wanted.fate, wanted.killed = GOOD, FOREVER
                wanted.prepared = wanted.loaded = self.now
            self.harmed[slot] = max(self.now + 5.0, wanted.loaded + LAG if wanted is not None else 0.0)

    # --- what is asked

    def perform(self, effect: Effect, token: int) -> Answer:
        """Do what is asked; `token` is the one that the asking process believes in, for acts that carry none."""
        match effect:
            case EnsureSlot() | StopSlot() | ObserveSlot():
                return self._at_target(effect, token)
            case Tell():
                return Accepted()
            case _:
                return Lost(reason="the router does not answer") if self.now < self.gone else self._at_keeper(effect)

    def late(self, effect: EnsureSlot | StopSlot, token: int, at: float) -> None:
        """The engine does this later, in the order in which it was asked."""
        queue = self.pending[effect.slot]
        queue.append((max(at, queue[-1][0] if queue else at), token, effect))

    def _at_target(self, effect: EnsureSlot | StopSlot | ObserveSlot, token: int) -> Answer:
        if self.now < self.engine:
            return Lost(reason="the engine does not answer")
        for _, asked, waiting in self.pending[effect.slot]:
            self._command(waiting, asked)
        self.pending[effect.slot].clear()
        if isinstance(effect, ObserveSlot):
            return self._seen(effect.slot)
        self._command(effect, token)
        return Accepted()

    def _seen(self, slot: Slot) -> SlotView:
        view = self.view(slot)
        if view != self.seen.get(slot):
            if slot in self.seen:
                self.old[slot] = self.seen[slot]
            self.seen[slot] = view
        return view

    def stale(self, effect: Effect) -> Answer | None:
        """What was true a moment ago, where the one who is asked may not know better."""
        if isinstance(effect, ObserveSlot) and self.now >= self.engine:
            return self.old.get(effect.slot)
        return None

    def _command(self, effect: Effect, token: int) -> None:
        if isinstance(effect, EnsureSlot):
            self._ensure(effect, token)
        elif isinstance(effect, StopSlot):
            self._stop(effect, token)

    def _ensure(self, effect: EnsureSlot, token: int) -> None:
        slot, now = effect.slot, self.now
        held = self._settled(slot)
        if held is not None and held.key == effect.artefact.key and not self._broken(held):
            return
        self._touch(slot, token, "made anew")
        fate = self.fates.pop(0) if self.fates else GOOD
        self.revisions += 1
        prepared = now + fate.copy
        self.slots[slot] = Server(
            artefact=effect.artefact,
            key=effect.artefact.key,
            revision=f"v{self.revisions}",
            fate=fate,
            prepared=prepared,
            loaded=FOREVER if fate.kind in {"never", "bootstrap"} else prepared + fate.load,
        )
        self.harmed[slot] = now if self.harmed[slot] == FOREVER else self.harmed[slot]

    def _broken(self, server: Server) -> bool:
        return server.died(self.now) or (server.fate.kind == "bootstrap" and self.now >= server.prepared)

    def _stop(self, effect: StopSlot, token: int) -> None:
        server = self._settled(effect.slot)
        if server is None or server.stopping is not None:
            return
        self._touch(effect.slot, token, "stopped")
        if server.died(self.now):
            self.slots[effect.slot] = None
            return
        server.stopping = self.now
        server.ends = self.now + min(effect.grace, max(0.2, self.busy[effect.slot] - self.now))

    def _settled(self, slot: Slot) -> Server | None:
        server = self.slots[slot]
        if server is not None and server.gone(self.now):
            self.slots[slot] = server = None
        return server

    def _touch(self, slot: Slot, token: int, how: str) -> None:
        """I1 and I6: nobody changes a slot with requests, or without a live lease."""
        self.leased(token, f"slot {slot} is {how}")
        server = self.slots[slot]
        if server is None:
            return
        weight = max(self.route.weight(slot), self.applied.weight(slot))
        if weight:
            raise ViolationError(f"I1: slot {slot} is {how} and has weight {weight}")
        in_flight = self.busy[slot] > self.now and not server.died(self.now)
        if in_flight and self.now - self.left[slot] < self.drain:
            raise ViolationError(f"I1: slot {slot} is {how} with requests in flight, before the drain was over")

    def leased(self, token: int, what: str) -> None:
        """I6: nothing moves without a live lease."""
        if not self._live_lease(token):
            raise ViolationError(f"I6: {what} with the token {token}; the lease is {self.keys.get(leases.KEY)}")

    def _live_lease(self, token: int) -> bool:
        value, _, at = self.keys.get(leases.KEY, (None, 0, 0.0))
        return (
            isinstance(value, dict)
            and value["token"] == token
            and value["holder"] is not None
            and self.now - at <= value["ttl"]
        )

    def view(self, slot: Slot) -> SlotView:
        """What the target says of `slot`."""
        server, now = self._settled(slot), self.now
        if server is None:
            return SlotView(slot=slot, state="absent")
        key, revision, content = server.key, server.revision, server.artefact.content_id.hex
        if server.fate.kind == "bootstrap" and now >= server.prepared:
            cause = Cause(kind="bootstrap", message="the bootstrap ended with 65", lines=("no such model",))
            return SlotView(slot=slot, state="failed", key=key, content=content, revision=revision, cause=cause)
        if server.died(now):
            if now >= server.killed:
                return SlotView(slot=slot, state="stopped", key=key, content=content, revision=revision)
            kind: Literal["memory", "crash"] = "memory" if server.fate.kind == "memory" else "crash"
            cause = Cause(kind=kind, message=f"the server ended: {kind}", lines=("killed",))
            return SlotView(slot=slot, state="failed", key=key, content=content, revision=revision, cause=cause)
        state: Literal["preparing", "running"] = "preparing" if now < server.prepared else "running"
        return SlotView(slot=slot, state=state, key=key, content=content, revision=revision)

    # --- the keeper

    def _at_keeper(self, effect: Effect) -> Answer:  # noqa: PLR0911 - one for each effect
        match effect:
            case ObserveRouter():
                return self.router()
            case CommitRoute():
                return self._commit(effect)
            case AskServer(slot=slot, path=path, body=body):
                return self._ask(slot, path, body)
            case GetKey(key=key):
                value, index, at = self.keys.get(key, (None, 0, self.now))
                return Stored(value=value, index=index, age=self.now - at)
            case PutKey():
                return self._put(effect)
            case AppendLine():
                return self._append(effect)
            case ReadJournal(journal=journal):
                return Lines(lines=tuple(self.journals.get(journal, ())))
            case _:
                raise TypeError(effect)

    def router(self) -> RouterView:
        """What the keeper says of the router."""
        quiet = self.now < self.silent
        return RouterView(
            route=self.route,
            applied=None if quiet else self.applied,
            generation=self.generation,
            token=self.route_token,
            a=self._lane("a", quiet=quiet),
            b=self._lane("b", quiet=quiet),
            entry=Counters(requests=sum(self.requests.values())),
            started=f"s{self.started}",
        )

    def _lane(self, slot: Slot, *, quiet: bool) -> Lane:
        server = self.slots[slot]
        up = not quiet and server is not None and server.answers(self.now) and server.answers(self.now - LAG)
        busy = int(self.busy[slot] > self.now)
        return Lane(
            up=up, verdict="UP" if up else "DOWN", sessions=busy, counters=Counters(requests=self.requests[slot])
        )

    def _commit(self, effect: CommitRoute) -> Answer:
        if not self._live_lease(effect.token):
            return Refused(reason="no live lease with this token", fenced=True)
        if effect.generation != self.generation:
            return Refused(reason=f"the route has generation {self.generation}")
        for slot in SLOTS:
            if effect.route.weight(slot) > self.route.weight(slot):
                self._admitted(slot)
        if self.applying:
            self.behind = self.applied
            self.ahead.append((self.now + self.applying, effect.route))
        else:
            self._leave(self.route, effect.route, self.now)
        self.route, self.route_token = effect.route, effect.token
        self.generation += 1
        return Committed(generation=self.generation)

    def _admitted(self, slot: Slot) -> None:
        """I2: only what was proved gets requests."""
        server, now = self.slots[slot], self.now
        if server is not None and (server.died(now) or server.blinks(now) or now < self.harmed[slot]):
            return
        if server is None or not server.answers(now) or server.fate.kind in {"identity", "prediction"}:
            raise ViolationError(f"I2: slot {slot} is admitted and is no candidate for it: {server}")
        plan = self.plans[str(self.keys[CURRENT][0])]
        known = {plan.candidate} if slot == plan.slot else {plan.base.a.key if slot == "a" else plan.base.b.key}
        if server.key not in known:
            raise ViolationError(f"I2: slot {slot} is admitted with the artefact {server.key[:6]}")

    def _put(self, effect: PutKey) -> Answer:
        if effect.key not in {leases.KEY, "freeze"} and not self._live_lease(effect.token):
            return Refused(reason="no live lease with this token", fenced=True)
        before, index, _ = self.keys.get(effect.key, (None, 0, 0.0))
        if index != effect.index:
            return Refused(reason=f"`{effect.key}` has index {index}")
        if effect.key == CURRENT and isinstance(before, str) and effect.value is not None and not self.ended(before):
            raise ViolationError(f"I8: {effect.value} begins and {before} has not ended")
        self.keys[effect.key] = (effect.value, index + 1, self.now)
        return Written(index=index + 1)

    def ended(self, release: str) -> bool:
        """Whether the journal of `release` has its last line."""
        lines = self.journals.get(release)
        return bool(lines) and '"kind":"ended"' in lines[-1]

    def _append(self, effect: AppendLine) -> Answer:
        if not self._live_lease(effect.token):
            return Refused(reason="no live lease with this token", fenced=True)
        lines = self.journals.setdefault(effect.journal, [])
        if len(lines) != effect.position:
            return Refused(reason=f"the journal has {len(lines)} lines")
        if lines and '"kind":"ended"' in lines[-1] and '"kind":"taken"' not in effect.line:
            raise ViolationError(f"I10: {effect.journal} goes on after its end: {effect.line[:200]}")
        self._recorded(effect)
        lines.append(effect.line)
        return Written(index=len(lines))

    def _recorded(self, effect: AppendLine) -> None:
        """I9: whoever says that requests were sent elsewhere has seen them there."""
        said = json.loads(effect.line)
        plan = self.plans.get(effect.journal)
        if said["kind"] != "done" or plan is None:
            return
        planned = plan.steps[said["index"]]
        step = planned.undo[said["part"]] if said["undo"] else planned.step
        if isinstance(step, Shift) and step.route == self.route != self.applied:
            raise ViolationError(f"I9: {step} is done and requests go by {self.applied}")

    def _ask(self, slot: Slot | None, path: str, body: object) -> Answer:
        if self.now < self.silent:
            return Lost(reason="the proxy does not answer")
        if slot is None:
            if self.applied.closed:
                return Answered(status=503)
            slot = "b" if self.applied.share_b else "a"
        server = self._settled(slot)
        if server is None or not server.answers(self.now):
            return Lost(reason="connection refused")
        return answer_of(server.artefact, server.fate.kind, path, body)


def answer_of(artefact: Artefact, kind: FateKind, path: str, body: object) -> Answered:
    """What a server of `artefact` answers."""
    version = "other" if kind == "identity" else artefact.proof.version
    if path == artefact.proof.endpoint:
        return Answered(status=200)
    if path == artefact.proof.identity:
        return Answered(status=200, body={"model_version": version})
    if path == artefact.proof.infer and body is not None:
        expected = list(artefact.proof.golden[0].expect)
        return Answered(status=200, body={"outputs": [0] if kind == "prediction" else expected})
    return Answered(status=404)


def journal_words(world: World, release: str) -> list[Mapping[str, object]]:
    """The lines of a journal, read."""
    return [json.loads(line) for line in world.journals.get(release, [])]
