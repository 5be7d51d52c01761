"""A rolling release of one job by the cluster's own canaries: what is seen of it, what is planned, what it cannot do.

There are no slots and no router here: the cluster replaces servers one after the other, and whoever finds them by its
catalogue sees old and new ones side by side.
"""

from dataclasses import dataclass
from typing import Final, Literal

from mlops_deploy.release.state import Artefact, Cause

RollingState = Literal["absent", "starting", "waiting", "rolling", "settled", "failed"]

LOST: Final = (
    "no hot rollback: the old server is stopped once the canary is promoted, the way back is another deployment",
    "no bake, and no share by requests: a canary is one server more, in the catalogue under its own tag",
    "no router: nothing counts requests or failures, and nothing is closed or drained for clients that do not look",
    "no lease, journal or history of ours: the versions of the job are the record, `nomad job history` shows them",
)
"""What a release on two slots has and this one has not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollingView:
    """The job of a service. `version` counts its registrations, `index` is what a registration must name (0 for none).

    `starting` until the canaries, or without any all servers, are healthy; `waiting` for a promotion; `rolling` after
    it; `settled` when the cluster has nothing left to do. `servers` are the healthy allocations of this version.
    `by_hand`: a file that was rendered for this service was run, and no release registered it.
    """

    state: RollingState
    version: int = 0
    index: int = 0
    key: str | None = None
    content: str | None = None
    deployment: str | None = None
    servers: tuple[str, ...] = ()
    healthy: int = 0
    wanted: int = 0
    cause: Cause | None = None
    by_hand: bool = False

    @property
    def busy(self) -> bool:
        """Whether a deployment is under way."""
        return self.deployment is not None and self.state in {"starting", "waiting", "rolling"}

    @property
    def complete(self) -> bool:
        """Whether all servers are there that prove their model for this version: one at least."""
        return len(self.servers) >= max(1, self.wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class RollingPlan:
    """What a rolling release would do; nothing when `candidate` runs already."""

    project: str
    target: str
    count: int
    before: RollingView
    candidate: Artefact

    @property
    def needed(self) -> bool:
        """Whether there is anything to do."""
        return not (self.before.state == "settled" and self.before.key == self.candidate.key)

    @property
    def steps(self) -> tuple[str, ...]:
        """What will happen, in order."""
        if not self.needed:
            return ()
        if self.before.state == "absent":
            return (f"register the job with {_servers(self.count)}", "wait until all are healthy and prove themselves")
        return (
            "register the job anew: one canary starts beside the servers that run",
            "wait until the canary is healthy and proves itself",
            f"promote it: {_servers(self.count)} replaced one after the other",
            "wait until the deployment is complete",
        )


def _servers(count: int) -> str:
    return "1 server" if count == 1 else f"{count} servers"
