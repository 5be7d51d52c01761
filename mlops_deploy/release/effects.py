"""What the executor asks of the world, and what it may answer: data, which one driver performs and another simulates.

An answer `Lost` says that it is unknown whether the effect happened: every effect can be observed or repeated.
"""

from dataclasses import dataclass

from mlops_deploy.release.state import Artefact, Route, RouterView, Slot, SlotView
from mlops_deploy.spec.deploy import JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsureSlot:
    """Begin to make `slot` hold `artefact`; answers at once with `Accepted`."""

    slot: Slot
    artefact: Artefact


@dataclass(frozen=True, slots=True, kw_only=True)
class StopSlot:
    """Begin to stop what `slot` holds, with `grace` seconds to finish; answers at once with `Accepted`."""

    slot: Slot
    grace: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ObserveSlot:
    """Answers with the `SlotView` of `slot`."""

    slot: Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class ObserveRouter:
    """Answers with the `RouterView`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRoute:
    """Write the route when `generation` is still the router's and `token` the lease's; `Committed` or `Refused`."""

    route: Route
    generation: int
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AskServer:
    """Send one request to `slot` by the router's private way, or with None by the clients' entry; `Answered`."""

    slot: Slot | None
    path: str
    body: JsonValue = None
    timeout: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GetKey:
    """Answers with the `Stored` value of `key`, which is None with index 0 when there is none."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PutKey:
    """Write `key` when its index is still `index`; `Written` or `Refused`."""

    key: str
    value: JsonValue
    index: int
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendLine:
    """Append a line to `journal` when it has `position` lines; `Written` with the new count, or `Refused`."""

    journal: str
    line: str
    position: int
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadJournal:
    """Answers with the `Lines` of `journal`; none when there is none."""

    journal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Wait for `seconds`; `Paused`, earlier when the user asks to stop."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadClock:
    """Answers with the `Time`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tell:
    """Say what is being waited for; answers `Accepted`."""

    text: str


Effect = (
    EnsureSlot
    | StopSlot
    | ObserveSlot
    | ObserveRouter
    | CommitRoute
    | AskServer
    | GetKey
    | PutKey
    | AppendLine
    | ReadJournal
    | Pause
    | ReadClock
    | Tell
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """Begun; what comes of it is observed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """The route is written under this generation."""

    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A key has this index now, or a journal this many lines."""

    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Not done, because of what somebody else did, or, with `fenced`, for want of a live lease."""

    reason: str
    fenced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An HTTP answer; `body` is its JSON, None when it is none."""

    status: int
    body: JsonValue = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A value, its index, and for how many seconds of the ledger's own clock it has stood."""

    value: JsonValue
    index: int
    age: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """The lines of a journal; `damaged` when more than a torn last one could not be read."""

    lines: tuple[str, ...]
    damaged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused:
    """The wait is over; `interrupted` names what asked to stop."""

    interrupted: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Time:
    """`wall` in seconds since 1970, `elapsed` in seconds of a clock that never goes back."""

    wall: float
    elapsed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """No answer came: the effect may have happened or not."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """The world refuses for a reason that waiting does not mend."""

    reason: str
    lines: tuple[str, ...] = ()
    code: int = 1
    hint: str | None = None


Answer = (
    Accepted
    | Committed
    | Written
    | Refused
    | Answered
    | Stored
    | Lines
    | Paused
    | Time
    | Lost
    | Broken
    | SlotView
    | RouterView
)
