"""What a release sees and says: slots, the router's state, an artefact and the proof that it answers. Data only."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Literal

from mlops_deploy.spec.deploy import GoldenRequest, JsonValue
from mlops_deploy.spec.refs import ContentId, Digest

Slot = Literal["a", "b"]
SLOTS: Final[tuple[Slot, Slot]] = ("a", "b")

WHOLE: Final = 10_000
"""All traffic, in basis points: what `share_b` counts in."""

SlotState = Literal["absent", "preparing", "running", "stopped", "failed"]
CauseKind = Literal["bootstrap", "memory", "image", "crash", "start", "placement"]


def other(slot: Slot) -> Slot:
    """The other one of the two slots."""
    return "b" if slot == "a" else "a"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where requests go: `share_b` of 10,000 to slot b, the rest to slot a; nowhere when `closed` (503, Retry-After).

    One absolute integer, so that every change is one atomic write.
    """

    share_b: int = 0
    closed: bool = False

    def weight(self, slot: Slot) -> int:
        """How many of 10,000 requests `slot` gets."""
        if self.closed:
            return 0
        return self.share_b if slot == "b" else WHOLE - self.share_b

    @property
    def live(self) -> Slot | None:
        """The slot that gets every request, None when there is no such slot."""
        if self.closed or self.share_b not in {0, WHOLE}:
            return None
        return "b" if self.share_b else "a"


def whole(slot: Slot) -> Route:
    """All traffic to `slot`."""
    return Route(share_b=WHOLE if slot == "b" else 0)


CLOSED: Final = Route(closed=True)
"""What a new router answers: 503 with Retry-After, until a first release opens it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What must be seen before a slot gets traffic: the model is loaded, it is this very one, it predicts as known.

    `endpoint` answers `status` once the model is loaded; `identity` answers it for this version only, and where its
    JSON has `version_in` it says `version`. `infer` takes the golden requests. `deadline` in seconds.
    """

    endpoint: str
    identity: str
    infer: str
    version: str
    version_in: str | None = None
    status: int = 200
    json: Mapping[str, str] = field(default_factory=dict)
    golden: tuple[GoldenRequest, ...] = ()
    deadline: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """One model on one server, as it will run: complete, so that a release can be resumed where nothing else is known.

    `job` is the target's own description of bootstrap and server without anything that depends on the slot; it never
    holds a secret's value. `server_id` is the id of a local image or the digest of a pushed one. With a `puller` the
    bootstrap pulls the model from the carrier's registry, by that image where there are images: nothing is copied here.
    """

    model: str
    content_id: ContentId
    carrier: str
    carrier_digest: Digest
    server: str
    server_id: str
    job: Mapping[str, JsonValue]
    proof: Proof
    puller: str | None = None

    @property
    def key(self) -> str:
        """What makes two artefacts the same: 64 hex digits over the job, the carrier and the server's identity."""
        parts = {"job": self.job, "carrier": str(self.carrier_digest), "server": self.server_id}
        return sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @property
    def version(self) -> str:
        """`NAME@<12 hex>`: the model as people and answers name it."""
        return f"{self.model}@{self.content_id.short}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why a slot cannot become ready by waiting; `lines` are the last ones of the task that failed."""

    kind: CauseKind
    message: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a server ended that can be started again, or was: `lines` are the last ones that it wrote."""

    message: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotView:
    """One slot as its target sees it. `key` names the artefact; `revision` changes when a task was made anew.

    `preparing` while the bootstrap runs, `failed` with a `cause` when waiting is of no use. `ended` tells of the server
    of a slot that is `stopped`, or that was started again a moment ago; None where a target does not know. `remark`
    is a sentence of the target's on what else people should know of it.
    """

    slot: Slot
    state: SlotState
    key: str | None = None
    content: str | None = None
    revision: str = ""
    restarts: int = 0
    cause: Cause | None = None
    ended: End | None = None
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What the router counted since it started: requests, and those that ended in a server's or the router's fault."""

    requests: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One slot as the router sees it: its verdict on the server, requests in flight, and counters."""

    up: bool
    verdict: str
    sessions: int
    counters: Counters


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterView:
    """The router: the committed route, the one in force (None when the proxy is silent), both lanes, the entry.

    `started` names this run of the proxy: counters of two different runs cannot be subtracted.
    """

    route: Route
    applied: Route | None
    generation: int
    token: int
    a: Lane
    b: Lane
    entry: Counters
    started: str

    def lane(self, slot: Slot) -> Lane:
        """The lane of `slot`."""
        return self.b if slot == "b" else self.a


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """The last promotion: what took over where and when (seconds since 1970), and what it took over from."""

    slot: Slot
    key: str
    release: str
    since: float
    previous: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """No release until somebody lifts it; `at` in seconds since 1970."""

    reason: str
    by: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything a strategy may look at. `artefacts` knows what is in the slots and what was live before."""

    a: SlotView
    b: SlotView
    router: RouterView
    freeze: Freeze | None = None
    live: Live | None = None
    artefacts: Mapping[str, Artefact] = field(default_factory=dict)

    def slot(self, slot: Slot) -> SlotView:
        """The view of `slot`."""
        return self.b if slot == "b" else self.a

    def artefact(self, slot: Slot) -> Artefact | None:
        """What `slot` holds, None when it is empty or holds something unknown."""
        key = self.slot(slot).key
        return None if key is None else self.artefacts.get(key)
