"""Where a blob goes, and how its way there can end."""

from dataclasses import dataclass
from typing import Final

from mlops_deploy.adapters.registry.answers import Reply, not_believed
from mlops_deploy.adapters.registry.channel import Channel, Scope
from mlops_deploy.adapters.registry.pace import Patience, retry_after
from mlops_deploy.errors import DeployError
from mlops_deploy.spec.refs import Digest

_OK, _NOT_FOUND = 200, 404
_HAS: Final = frozenset({_OK, _NOT_FOUND})


class BreakError(Exception):
    """A session that did not get on; `error` is what to raise when nothing else helps."""

    def __init__(self, error: DeployError, reply: Reply | None = None, *, at_once: bool = False) -> None:
        super().__init__(error.message)
        self.error = error
        self.status = None if reply is None else reply.status
        self.codes = () if reply is None else reply.codes
        self.after = None if reply is None else retry_after(reply.headers.get("Retry-After"))
        self.at_once = at_once


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A repository by its path below the host, as in `/v2/team/digits`, and how to speak of what goes there."""

    channel: Channel
    base: str
    scope: Scope
    step: str

    def has(self, digest: Digest, size: int, patience: Patience | None = None) -> bool:
        """Whether the registry has the blob, of that size where it says one."""
        url, step = f"{self.base}/blobs/{digest}", f"the question for {self.step}"
        answer = self.channel.request("HEAD", url, step=step, scope=self.scope, expect=_HAS, patience=patience)
        Reply.of(answer)
        return answer.status == _OK and answer.headers.get("Content-Length") in {None, str(size)}


def require_digest(told: str | None, digest: Digest, host: str, step: str) -> None:
    """Refuse a registry that says it stored something else; one that says nothing is believed."""
    if told is not None and told.strip().startswith("sha256:") and told.strip() != str(digest):
        raise not_believed(host, f"stored other bytes than it was sent with {step}")
