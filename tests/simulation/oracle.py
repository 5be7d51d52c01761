"""The model of one process: which effects a release may ask for after the answers that it got.

It looks at pairs of an effect and its answer, wherever they come from: the simulation and real runs alike. What a
release may never do (act without intent, admit without proof, stop before the drain …) raises `RejectedError`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from math import inf

from mlops_deploy.release import lease as leases
from mlops_deploy.release.acts import PROOF_SECONDS
from mlops_deploy.release.effects import (
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
    ObserveRouter,
    ObserveSlot,
    PutKey,
    ReadClock,
    ReadJournal,
    Refused,
    StopSlot,
    Stored,
    Time,
    Written,
)
from mlops_deploy.release.journal import (
    Advanced,
    Began,
    Done,
    Ended,
    Entry,
    HeldBack,
    Interrupted,
    Opened,
    Taken,
    Turned,
    from_line,
)
from mlops_deploy.release.observe import CURRENT, FREEZE, LIVE
from mlops_deploy.release.plan import Plan
from mlops_deploy.release.readiness import misidentified, unexpected
from mlops_deploy.release.state import SLOTS, Route, RouterView, Slot, SlotView
from mlops_deploy.release.steps import AwaitReady, Bake, Drain, Promote, Shift, Start, Step, Stop


class RejectedError(AssertionError):
    """No release behaves like this."""


read_line = lru_cache(maxsize=4096)(from_line)


@dataclass(slots=True)
class Book:
    """What the journal says, as far as this process knows."""

    name: str
    entries: list[Entry] = field(default_factory=list)
    plan: Plan | None = None
    index: int = 0
    back: bool = False
    held: bool = False
    promoted: bool = False
    ended: Ended | None = None

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        match entry:
            case Opened(plan=plan):
                self.plan = plan
            case Began(undo=False, index=index):
                self.index = index
                self.promoted |= isinstance(self.step(entry), Promote)
                self.held &= not self.promoted
            case Done(undo=False, index=index):
                self.index = index + 1
            case Turned():
                self.back = True
            case HeldBack(index=index):
                self.held, self.index = True, index
            case Advanced(index=index):
                self.held, self.index = False, index + 1
            case Ended():
                self.ended = entry
            case _:
                pass

    @property
    def begun(self) -> Began | None:
        """The step whose intent is the last word of the journal."""
        return self.entries[-1] if self.entries and isinstance(self.entries[-1], Began) else None

    def step(self, at: Began | Done) -> Step:
        assert self.plan is not None
        planned = self.plan.steps[at.index]
        return planned.undo[at.part] if at.undo else planned.step


@dataclass(slots=True)
class Look:
    """How far one slot has come with its proof, in the order of the levels."""

    key: str | None = None
    level: int = 0
    at: float = -1e9
    """When the proof was complete, told by the first look at the clock afterwards."""


@dataclass(slots=True)
class Oracle:
    """One process from its first effect on."""

    now: float = 0.0
    wall: float = 0.0
    clock_read: bool = False
    token: int = 0
    lease_index: int = -1
    holding: bool = False
    heard: float = -1e9
    asked_lease: PutKey | None = None
    asked_at: float = 0.0
    seen_lease: Stored | None = None
    frozen: bool | None = None
    book: Book | None = None
    router: RouterView | None = None
    looks: dict[Slot, Look] = field(default_factory=lambda: {"a": Look(), "b": Look()})
    observed: dict[Slot, SlotView] = field(default_factory=dict)
    quiet: dict[Slot, int] = field(default_factory=lambda: {"a": 0, "b": 0})
    began_at: float = 0.0
    began_wall: float = 0.0
    generations: set[int] = field(default_factory=set)
    """Those that were seen since the last intent."""
    route: Route | None = None
    """The route that was written or seen since the last intent."""
    confirmed: bool = False
    live_written: bool = False
    lost_line: AppendLine | None = None
    carries: bool = False
    """Whether this process carries a release on: it wrote a line, or tried to."""
    closed_at: float = 0.0

    def see(self, effect: Effect, answer: Answer) -> None:  # noqa: C901, PLR0912 - one case for each effect
        """The next effect, and its answer."""
        match effect:
            case ReadClock():
                if isinstance(answer, Time):
                    _must(answer.elapsed >= self.now, "the clock that never goes back went back")
                    self.now, self.wall = answer.elapsed, answer.wall
                for look in self.looks.values():
                    look.at = min(look.at, self.now)
                self.clock_read = True
                return
            case PutKey(key=leases.KEY):
                self._lease(effect, answer)
            case GetKey(key=leases.KEY):
                self._lease_seen(answer)
            case GetKey(key=key):
                self._key_seen(key, answer)
            case PutKey():
                self._put(effect, answer)
            case AppendLine():
                self._append(effect, answer)
            case ReadJournal():
                self._journal(effect, answer)
            case CommitRoute():
                self._commit(effect, answer)
            case EnsureSlot() | StopSlot():
                self._act(effect)
            case ObserveSlot(slot=slot):
                self._slot(slot, answer)
            case ObserveRouter():
                self._router(answer)
            case AskServer():
                self._answered(effect, answer)
            case _:
                pass
        self.clock_read = False

    # --- the lease

    def _lease(self, effect: PutKey, answer: Answer) -> None:
        value = effect.value
        _must(isinstance(value, dict), "a lease is an object")
        assert isinstance(value, dict)
        if value["holder"] is None:
            self.holding = False
            return
        token = int(str(value["token"]))
        renewed = self.token and self.token <= token <= self.token + 1 and effect.index == self.lease_index
        # A command may take the lease in one run and renew it in another, as `router apply --replace` does.
        if not renewed and not (not self.token and value["beat"]):
            _must(self.seen_lease is not None, "the lease is taken without a look at it")
            assert self.seen_lease is not None
            _must(leases.holder_of(self.seen_lease) is None, "I8: the lease is taken from a living holder")
            _must(effect.index == self.seen_lease.index, "the lease is taken with another index than was seen")
            before = self.seen_lease.value
            last = int(str(before["token"])) if isinstance(before, dict) else 0
            _must(token == last + 1, "the token does not grow by one")
        self.asked_lease, self.asked_at = effect, self.now
        if isinstance(answer, Written):
            self._held(token, answer.index)
        elif isinstance(answer, Refused):
            self.holding = False

    def _held(self, token: int, index: int) -> None:
        self.token, self.lease_index, self.holding, self.heard = token, index, True, self.asked_at

    def _lease_seen(self, answer: Answer) -> None:
        if not isinstance(answer, Stored):
            return
        self.seen_lease = answer
        if self.asked_lease is not None and answer.value == self.asked_lease.value:
            value = answer.value
            self._held(int(str(value["token"])) if isinstance(value, dict) else 0, answer.index)

    def _key_seen(self, key: str, answer: Answer) -> None:
        if isinstance(answer, Stored) and key == FREEZE:
            self.frozen = answer.value is not None
        if isinstance(answer, Stored) and key == LIVE and self.book is not None and isinstance(answer.value, dict):
            self.live_written |= answer.value.get("release") == self.book.name

    def _needs_lease(self, what: str, token: int | None = None) -> None:
        _must(self.holding, f"I6: {what} without the lease")
        _must(token is None or token == self.token, f"I6: {what} with the token {token} instead of {self.token}")

    # --- the ledger

    def _put(self, effect: PutKey, answer: Answer) -> None:
        if effect.key == FREEZE:
            return
        self._needs_lease(f"`{effect.key}` is written", effect.token)
        if effect.key == LIVE:
            begun = self._intent(f"`{LIVE}` is written")
            _must(isinstance(begun, Promote), f"I4: `{LIVE}` is written in {begun}")
            self.live_written |= isinstance(answer, Written)
        if effect.key == CURRENT and effect.value is not None:
            _must(self.book is not None and self.book.name == effect.value, "a release without a journal is named")
        self._fenced(answer)

    def _fenced(self, answer: Answer) -> None:
        if isinstance(answer, Refused) and answer.fenced:
            self.holding = False

    def _append(self, effect: AppendLine, answer: Answer) -> None:
        self._needs_lease("a journal is written", effect.token)
        entry = read_line(effect.line, effect.position)
        if isinstance(entry, Ended) and not self.carries:
            _must(entry.code == _TAKEN_DOWN, "a release is ended by somebody who does not carry it on")
        elif isinstance(entry, Opened):
            _must(effect.position == 0, "a release begins in the middle of a journal")
            _must(self.frozen is False, "a release begins and nobody looked for a freeze")
            holds = self.router is not None and _base_holds(entry.plan, self.router)
            _must(holds or isinstance(answer, Refused), "a release begins on a stale plan")
        else:
            _must(self.book is not None and self.book.name == effect.journal, "another journal is written")
            assert self.book is not None
            _must(effect.position == len(self.book.entries), "a line is not written at the end")
            self._follows(self.book, entry)
        if isinstance(answer, Written):
            self._noted(effect.journal, entry)
        else:
            self.carries, self.lost_line = True, effect
        self._fenced(answer)

    def _noted(self, journal: str, entry: Entry) -> None:
        self.carries = True
        if self.book is None or self.book.name != journal:
            self.book = Book(name=journal)
        self.book.add(entry)
        self.lost_line = None
        if isinstance(entry, Began):
            self._intended()

    def _intended(self) -> None:
        self.began_at, self.began_wall, self.confirmed, self.route = self.now, self.wall, False, None
        self.quiet = {"a": 0, "b": 0}
        self.generations = set()
        self.observed = {}
        self.looks = {"a": Look(), "b": Look()}

    def _journal(self, effect: ReadJournal, answer: Answer) -> None:
        if not isinstance(answer, Lines) or answer.damaged:
            return
        if self.book is not None and self.book.name == effect.journal and len(answer.lines) == len(self.book.entries):
            return
        book = Book(name=effect.journal)
        for number, line in enumerate(answer.lines):
            book.add(read_line(line, number))
        ours = self.lost_line is not None and bool(answer.lines) and answer.lines[-1] == self.lost_line.line
        self.book = book
        if ours and book.begun is not None:
            self._intended()

    def _follows(self, book: Book, entry: Entry) -> None:
        _must(book.ended is None or isinstance(entry, Taken), "I10: a line after the end")
        match entry:
            case Began(undo=False, index=index):
                _must(not book.back, "a step goes forward after the release turned back")
                recorded = self.live_written and index > book.index and isinstance(book.step(entry), Promote)
                _must(index == book.index or recorded, f"step {index} begins where step {book.index} is next")
                _must(not book.held or recorded, "a step begins while the release is held")
            case Began():
                _must(book.back, "a step is undone before the release turned back")
            case Done():
                begun = book.begun
                _must(begun is not None, "I4: a result without an intent")
                assert begun is not None
                same = (begun.index, begun.undo, begun.part) == (entry.index, entry.undo, entry.part)
                _must(same, f"I4: the result of another step than was begun: {entry}")
                self._observed(book.step(entry), begun)
            case Turned():
                _must(not book.promoted, "I3: turned back after the promotion")
            case HeldBack(index=index):
                _must(index == book.index, "held at another step than the next")
            case Ended(code=code):
                self._ends(book, code)
            case Advanced() | Interrupted() | Taken() | Opened():
                pass

    def _ends(self, book: Book, code: int) -> None:
        if not book.back:
            assert book.plan is not None
            _must(code == 0, f"I10: ends with {code} and did not turn back")
            _must(book.promoted or not book.plan.steps, f"I10: ends with {code} and was not promoted")
            _must(book.index == len(book.plan.steps), "ends before its last step")
            return
        _must(code in {4, 5, 7}, f"I10: ends with {code} and turned back")
        assert book.plan is not None
        assert self.router is not None
        _must(self.router.route == way_back(book.plan), "I10: ends on another route")
        moved = self.router.generation != book.plan.base.generation
        _must(code == _OVERDUE or moved == (code == _EXPOSED), f"I10: ends with {code}, routes written: {moved}")

    def _intent(self, what: str) -> Step:
        _must(self.book is not None and self.book.begun is not None, f"I4: {what} without an intent")
        assert self.book is not None
        assert self.book.begun is not None
        return self.book.step(self.book.begun)

    # --- the world

    def _commit(self, effect: CommitRoute, answer: Answer) -> None:
        self._needs_lease("the route is written", effect.token)
        if effect.route.closed and not self.carries:
            self.router = None  # a service is taken down
            return
        step = self._intent("the route is written")
        _must(isinstance(step, Shift) and step.route == effect.route, f"I4: {effect.route} is written in {step}")
        _must(self.router is not None, "the route is written without a look at the router")
        assert self.router is not None
        _must(effect.generation in self.generations, "the route is written over a generation that was not seen")
        serves = step.serves if isinstance(step, Shift) else None
        for slot in SLOTS:
            known = serves is not None and self._artefact_known(serves)
            if effect.route.weight(slot) > self.router.route.weight(slot) and known:
                look = self.looks[slot]
                _must(look.level == _PROVEN and look.key == serves, f"I2: slot {slot} is admitted without a proof")
                _must(self.now - look.at <= PROOF_SECONDS * 3, f"I2: the proof of slot {slot} is old")
        if isinstance(answer, Committed):
            self.route = effect.route
        self._fenced(answer)

    def _artefact_known(self, key: str) -> bool:
        plan = self.book.plan if self.book is not None else None
        return plan is not None and any(one.key == key for one in plan.artefacts)

    def _act(self, effect: EnsureSlot | StopSlot) -> None:
        what = f"{type(effect).__name__} {effect.slot}"
        self._needs_lease(what)
        _must(self.clock_read and self.now - self.heard < leases.TTL, f"I6: {what}, and the lease may be over")
        _must(self.route is not None, f"I1: {what} without a look at the router")
        assert self.router is not None
        _must(self.router.applied is None or not self.router.applied.weight(effect.slot), f"I1: {what} is in the pool")
        _must(not self.router.route.weight(effect.slot), f"I1: {what} has traffic")
        if isinstance(effect, StopSlot) and self.router.route.closed and not self.carries:
            _must(self.quiet[effect.slot] > 1 or self.now - self.closed_at >= effect.grace, f"I9: {what} before drain")
            return
        step = self._intent(what)
        if isinstance(effect, StopSlot):
            _must(isinstance(step, Stop) and step.slot == effect.slot, f"I4: {what} in {step}")
            _must(self._drained_before(effect.slot), f"I9: {what} before its requests were let finish")
            return
        good = isinstance(step, Start | AwaitReady) and step.slot == effect.slot and step.key == effect.artefact.key
        _must(good, f"I4: {what} in {step}")

    def _drained_before(self, slot: Slot) -> bool:
        """Whether, since the slot last may have had requests, it was drained, or it never was in the pool."""
        assert self.book is not None
        for entry in reversed(self.book.entries):
            if isinstance(entry, Done):
                step = self.book.step(entry)
                if isinstance(step, Drain) and step.slot == slot:
                    return True
                if isinstance(step, Shift):
                    return False
        return False

    # --- what is observed

    def _slot(self, slot: Slot, answer: Answer) -> None:
        look = self.looks[slot] = Look()
        if isinstance(answer, SlotView):
            self.observed[slot] = answer
            if answer.state == "running" and answer.cause is None:
                look.key, look.level = answer.key, 1

    def _router(self, answer: Answer) -> None:
        if not isinstance(answer, RouterView):
            return
        if answer.route.closed and (self.router is None or not self.router.route.closed):
            self.closed_at = self.now
        self.router = answer
        self.generations.add(answer.generation)
        self.route = answer.route
        for slot in SLOTS:
            lane, look = answer.lane(slot), self.looks[slot]
            self.quiet[slot] = 0 if lane.sessions or answer.route.weight(slot) else self.quiet[slot] + 1
            if look.level == _PROVEN - 1 and lane.up:
                look.level, look.at = _PROVEN, inf

    def _answered(self, effect: AskServer, answer: Answer) -> None:
        plan = self.book.plan if self.book is not None else None
        if effect.slot is None:
            self.confirmed = self.confirmed or (plan is not None and self._shows(plan, answer))
            return
        look = self.looks[effect.slot]
        artefact = next((one for one in plan.artefacts if one.key == look.key), None) if plan is not None else None
        if artefact is None or not isinstance(answer, Answered):
            look.level = 0
            return
        proof = artefact.proof
        if effect.body is not None:
            golden = next((one for one in proof.golden if dict(one.request) == effect.body), None)
            good = golden is not None and unexpected(golden, answer) is None
            look.level = look.level + 1 if good and look.level >= _GOLDEN else 0
            if good and look.level == _GOLDEN + len(proof.golden):
                look.level = _PROVEN - 1
            return
        if effect.path == proof.endpoint and look.level == 1:
            look.level = 2 if answer.status == proof.status else 0
        elif effect.path == proof.identity and look.level == 2:
            look.level = 0 if misidentified(proof, answer) else (_GOLDEN if proof.golden else _PROVEN - 1)

    def _shows(self, plan: Plan, answer: Answer) -> bool:
        if not isinstance(answer, Answered) or self.book is None or self.book.begun is None:
            return False
        step = self.book.step(self.book.begun)
        if not isinstance(step, Shift) or self.route != step.route:
            return False
        if self.router is None or self.router.applied != step.route:
            return False  # whoever answered, it may have been asked on another route
        artefact = next((one for one in plan.artefacts if one.key == step.serves), None)
        if step.route.closed:
            return answer.status == 503
        return artefact is not None and misidentified(artefact.proof, answer) is None

    def _observed(self, step: Step, begun: Began) -> None:
        """I4: a result needs to have been seen since the intent."""
        match step:
            case Start(slot=slot, key=key):
                view = self.observed.get(slot)
                _must(view is not None and view.key == key, f"I4: {step} is done and was not seen")
            case AwaitReady(slot=slot, key=key):
                look = self.looks[slot]
                _must(look.level == _PROVEN and look.key == key, f"I4: {step} is done without a proof")
            case Shift():
                known = step.route.closed or (step.serves is not None and self._artefact_known(step.serves))
                _must(self.confirmed or not known, f"I9: {step} is done and was not confirmed through the router")
                _must(self.route == step.route, f"I4: {step} is done and was not seen")
            case Drain(slot=slot, seconds=seconds):
                over = self.now - self.began_at >= seconds
                _must(over or self.quiet[slot] > 1, f"I9: {step} is done with requests in flight")
            case Stop(slot=slot):
                view = self.observed.get(slot)
                gone = view is not None and view.state in {"absent", "stopped"}
                _must(gone, f"I4: {step} is done and the slot was not seen to be gone")
            case Bake(seconds=seconds):
                _must(self._baked(begun, seconds), f"I4: {step} is done before its time")
            case Promote():
                _must(self.live_written, "I4: promoted without a record")
            case _:
                pass

    def _baked(self, begun: Began, seconds: float) -> bool:
        """What this process watched, and what the intent says had been watched before, by the wall clock."""
        before = max(0.0, self.began_wall - begun.at)
        return self.now - self.began_at + before + _EPSILON >= seconds


_EPSILON = 0.01
_TAKEN_DOWN = 130
_OVERDUE = 7
_EXPOSED = 5
_GOLDEN = 10
_PROVEN = 1000


def _base_holds(plan: Plan, view: RouterView) -> bool:
    return plan.base.route == view.route and plan.base.generation == view.generation


def way_back(plan: Plan) -> Route:
    """Where requests go after `plan` was taken back."""
    shifts = [undo for planned in plan.steps for undo in planned.undo if isinstance(undo, Shift)]
    return shifts[0].route if shifts else plan.base.route


def _must(good: bool, what: str) -> None:  # noqa: FBT001 - reads as an assertion
    if not good:
        raise RejectedError(what)


def accept(trace: Iterable[tuple[Effect, Answer]]) -> None:
    """Raise `RejectedError` when no release behaves as `trace` says; one process, from its first effect."""
    oracle = Oracle()
    for number, (effect, answer) in enumerate(trace, 1):
        try:
            oracle.see(effect, answer)
        except RejectedError as rejected:
            raise RejectedError(f"effect {number} ({type(effect).__name__}): {rejected}") from None
