"""One registry: every request goes through here, with its retries, its redirects and its right to be sent."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Final, Protocol

import urllib3
from urllib3 import HTTPHeaderDict
from urllib3.response import BaseHTTPResponse
from urllib3.util import Timeout

from mlops_deploy.adapters.network import never_connected, reason
from mlops_deploy.adapters.registry.answers import NETWORK, Reply, refusal, said
from mlops_deploy.adapters.registry.modes import Modes
from mlops_deploy.adapters.registry.pace import HELD_BACK, RETRIED, Pace, Patience, retry_after
from mlops_deploy.adapters.registry.streaming import Outgoing
from mlops_deploy.adapters.registry.trust import UntrustedError
from mlops_deploy.errors import DeployError, UnreachableError, UnusableInputError

Scope = tuple[str, ...]

_HOPS: Final = 5
_UNAUTHORIZED: Final = 401
_DENIED: Final = frozenset({401, 403})
_MOVED_SAFELY: Final = frozenset({307, 308})
_MOVED: Final = _MOVED_SAFELY | {301, 302, 303}
_ALWAYS: Final = {"Accept-Encoding": "identity", "User-Agent": "mlops-deploy"}


class Access(Protocol):
    """How one registry is reached, and as whom."""

    @property
    def base(self) -> str:
        """`https://host[:port]`, or `http://…` where that is allowed."""
        ...

    def pool(self, url: str) -> urllib3.PoolManager:
        """What asks `url`, which has been checked."""
        ...

    def allows(self, url: str, base: str) -> str:
        """`url` as it is meant at `base`, absolute; raises `DeployError` for one that must not be asked."""
        ...

    def headers(self, url: str, scope: Scope) -> Mapping[str, str]:
        """What proves the right to ask `url`; nothing for another origin than the registry's."""
        ...

    def challenged(self, url: str, headers: HTTPHeaderDict, scope: Scope) -> bool:
        """Take note of a 401; whether there is something new to try."""
        ...

    def denied(self, scope: Scope) -> DeployError:
        """The error for a right that is not had."""
        ...

    def unreachable(self, error: Exception) -> UnreachableError:
        """The error for a connection that failed."""
        ...

    def redact(self, text: str) -> str:
        """`text` without the secrets that were sent."""
        ...


class Channel:
    """Requests to one registry, `host` as references name it. For several threads at once."""

    def __init__(self, host: str, access: Access, *, modes: Modes | None = None, pace: Pace | None = None) -> None:
        self.host = host
        self.pace = pace or Pace()
        self.modes = modes or Modes(None)
        self.held_back = 0
        self._access = access
        self._lock = Lock()

    def request(
        self,
        method: str,
        url: str,
        *,
        step: str,
        scope: Scope,
        expect: Collection[int],
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        silence: float | None = None,
        patience: Patience | None = None,
    ) -> BaseHTTPResponse:
        """Send a request to `url`, absolute or below the host, again while that may help.

        Gives an answer of a status in `expect`, its body not read yet; raises `DeployError` for any other, naming
        `step`: `the tag `1` of `team/digits``. `silence` is how long, in seconds, its next byte may take.
        """
        patience = patience or Patience(self.pace)
        while True:
            try:
                answer = self._follow(_Asked(method, headers or {}, body, silence or self.pace.silence, scope), url)
            except NETWORK as error:
                failure = self.unreachable(step, error)
                if not patience.again(nobody=never_connected(error)):
                    raise failure from error
                continue
            if answer.status in expect:
                return answer
            reply = Reply.of(answer)
            if reply.status not in RETRIED or not patience.again(retry_after(reply.headers.get("Retry-After"))):
                raise self.refusal(step, reply, scope)

    def outgoing(self, method: str, url: str, headers: Mapping[str, str], scope: Scope) -> Outgoing:
        """Begin a request whose body is sent bit by bit; not retried, not redirected. Raises what is in `NETWORK`."""
        target = self.absolute(url)
        pool = self._access.pool(target).connection_from_url(target)
        every = {**_ALWAYS, **headers, **self._access.headers(target, scope)}
        return Outgoing(pool, method, target, every, self.pace)

    def challenged(self, url: str, reply: Reply, scope: Scope) -> bool:
        """Whether a 401 to `outgoing` should be answered by asking again."""
        return reply.status == _UNAUTHORIZED and self._access.challenged(self.absolute(url), reply.headers, scope)

    def next(self, location: str, asked: str) -> str:
        """The URL that a `Location` means, in the answer to the request to `asked`."""
        return self._access.allows(location, self.absolute(asked))

    def absolute(self, url: str) -> str:
        """`url` below this host, or as it is."""
        return f"{self._access.base}{url}" if url.startswith("/") else url

    def heard(self, status: int) -> None:
        """Count the answers that ask for fewer requests."""
        if status in HELD_BACK:
            with self._lock:
                self.held_back += 1

    def refusal(self, step: str, reply: Reply, scope: Scope) -> DeployError:
        """The error for an answer that ends `step`."""
        # Before it is cut to a line too: a secret cut in two would not be known again.
        told = self._access.redact(said(self._access.redact(reply.data.decode(errors="replace")).encode()))
        if reply.status not in _DENIED:
            return refusal(self.host, step, reply.status, told)
        denied = self._access.denied(scope)
        tail = f": {told}" if told else ""
        message = f"the registry `{self.host}` denied {step} ({reply.status}){tail}"
        return UnusableInputError(message, hint=denied.hint, detail=(denied.message, *denied.detail))

    def unreachable(self, step: str, error: Exception) -> UnreachableError:
        """The error for a registry that did not answer, or broke off; raises it when trying again cannot help."""
        found = self._access.unreachable(error)
        if isinstance(found, UntrustedError):
            raise found from error
        message = f"the registry `{self.host}` did not answer to {step}: {self._access.redact(reason(error))}"
        return UnreachableError(message, hint=found.hint, detail=found.detail)

    def _follow(self, asked: "_Asked", url: str) -> BaseHTTPResponse:
        target, followed = self.absolute(url), _MOVED if asked.method in {"GET", "HEAD"} else _MOVED_SAFELY
        may_ask_again = True
        for _ in range(_HOPS + 1):
            answer = self._once(asked, target)
            if answer.status == _UNAUTHORIZED and may_ask_again:
                may_ask_again = False
                if self._access.challenged(target, answer.headers, asked.scope):
                    Reply.of(answer)
                    answer = self._once(asked, target)
            if answer.status not in followed or (location := answer.headers.get("Location")) is None:
                return answer
            answer.close()
            target = self._access.allows(location, target)
        raise UnusableInputError(f"the registry `{self.host}` redirects more than {_HOPS} times")

    def _once(self, asked: "_Asked", target: str) -> BaseHTTPResponse:
        answer = self._access.pool(target).request(
            asked.method,
            target,
            headers={**_ALWAYS, **asked.headers, **self._access.headers(target, asked.scope)},
            body=asked.body,
            redirect=False,
            retries=False,
            timeout=Timeout(connect=min(self.pace.connect, asked.silence), read=asked.silence),
            preload_content=False,
            decode_content=False,
        )
        self.heard(answer.status)
        return answer


@dataclass(frozen=True, slots=True)
class _Asked:
    method: str
    headers: Mapping[str, str]
    body: bytes | None
    silence: float
    scope: Scope
