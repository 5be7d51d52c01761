"""Asking the world and getting an answer of the right kind, however often the answer is lost on its way.

`Run[T]` is a generator that yields effects, is sent their answers, and returns a `T`.
"""

from collections.abc import Generator
from typing import Final, TypeVar

from mlops_deploy.errors import DeployError, InterruptedByUserError, UnreachableError
from mlops_deploy.release.effects import (
    Answer,
    Answered,
    AskServer,
    Broken,
    Effect,
    GetKey,
    Lines,
    Lost,
    ObserveRouter,
    ObserveSlot,
    Pause,
    Paused,
    PutKey,
    ReadClock,
    ReadJournal,
    Refused,
    Stored,
    Time,
    Written,
)
from mlops_deploy.release.state import RouterView, Slot, SlotView
from mlops_deploy.spec.deploy import JsonValue

T = TypeVar("T")
Run = Generator[Effect, Answer, T]

PATIENCE: Final = 20.0
"""Seconds for which an effect whose answer was lost is repeated; less than a lease lives."""

LOOK_SECONDS: Final = 2.0
"""How long a server may take to say that it is ready, or which model it is."""

PREDICTION_SECONDS: Final = 15.0
"""How long one golden request may take: a server that predicts slowly is no broken one.

A request that was sent is waited for, so an interrupt is heard that late at most; usually within `LOOK_SECONDS`.
"""

BREATH: Final = 0.5
"""Seconds between two tries."""


class BrokenWorldError(DeployError):
    """The world refuses for a reason that waiting does not mend; `code` is the exit code it calls for."""

    def __init__(self, broken: Broken) -> None:
        super().__init__(broken.reason, hint=broken.hint, detail=broken.lines)
        self.exit_code = broken.code


def once(effect: Effect, kind: type[T]) -> Run[T | Lost]:
    """Perform `effect` once; its answer, or `Lost`."""
    answer = yield effect
    if isinstance(answer, Broken):
        raise BrokenWorldError(answer)
    if isinstance(answer, kind | Lost):
        return answer
    raise TypeError(f"{type(effect).__name__} was answered with {type(answer).__name__}")


def surely(effect: Effect, kind: type[T]) -> Run[T]:
    """Repeat `effect`, which may be repeated, until it is answered; `UnreachableError` when patience is over."""
    started: float | None = None
    while True:
        answer = yield from once(effect, kind)
        if not isinstance(answer, Lost):
            return answer
        time = yield from clock()
        started = time.elapsed if started is None else started
        if time.elapsed - started >= PATIENCE:
            raise UnreachableError(answer.reason)
        yield from rest(BREATH)


def rest(seconds: float) -> Run[None]:
    """Wait; raise `InterruptedByUserError` as soon as the user asks to stop."""
    paused = yield from _paused(seconds)
    if paused.interrupted is not None:
        raise InterruptedByUserError(f"interrupted by {paused.interrupted}")


def _paused(seconds: float) -> Run[Paused]:
    answer = yield Pause(seconds=seconds)
    if not isinstance(answer, Paused):
        raise TypeError(f"Pause was answered with {type(answer).__name__}")
    return answer


def clock() -> Run[Time]:
    """What time it is."""
    answer = yield ReadClock()
    if not isinstance(answer, Time):
        raise TypeError(f"ReadClock was answered with {type(answer).__name__}")
    return answer


def slot_view(slot: Slot) -> Run[SlotView]:
    """How `slot` is."""
    return (yield from surely(ObserveSlot(slot=slot), SlotView))


def router_view() -> Run[RouterView]:
    """How the router is."""
    return (yield from surely(ObserveRouter(), RouterView))


def asked(slot: Slot | None, path: str, body: JsonValue = None) -> Run[Answered | Lost]:
    """The answer of a slot, or with None of whatever serves clients; not repeated, because not answering says a lot.

    A prediction gets longer than a look.
    """
    timeout = LOOK_SECONDS if body is None else PREDICTION_SECONDS
    return (yield from once(AskServer(slot=slot, path=path, body=body, timeout=timeout), Answered))


def stored(key: str) -> Run[Stored]:
    """What the ledger holds under `key`."""
    return (yield from surely(GetKey(key=key), Stored))


def lines(journal: str) -> Run[Lines]:
    """What a journal says."""
    return (yield from surely(ReadJournal(journal=journal), Lines))


def put(key: str, value: JsonValue, index: int, token: int) -> Run[Written | Refused]:
    """Write a key whose value nobody else would write; a lost answer is made up for by reading.

    Raises `UnreachableError` when patience is over.
    """
    started = (yield from clock()).elapsed
    while True:
        answer = yield from _put_once(PutKey(key=key, value=value, index=index, token=token))
        if isinstance(answer, Written) or (isinstance(answer, Refused) and answer.fenced):
            return answer
        found = yield from stored(key)
        if found.value == value and found.index != index:
            return Written(index=found.index)
        if isinstance(answer, Refused):
            return answer
        if found.index != index:
            return Refused(reason=f"`{key}` was written by somebody else")
        if (yield from clock()).elapsed - started >= PATIENCE:
            raise UnreachableError(answer.reason)
        yield from rest(BREATH)


def _put_once(effect: PutKey) -> Run[Written | Refused | Lost]:
    answer = yield effect
    if isinstance(answer, Broken):
        raise BrokenWorldError(answer)
    if isinstance(answer, Written | Refused | Lost):
        return answer
    raise TypeError(f"PutKey was answered with {type(answer).__name__}")
