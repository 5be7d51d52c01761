"""Asking the server that gives tokens."""

from collections.abc import Mapping
from typing import Final, Protocol

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse
from urllib3.util import Timeout

from mlops_deploy.adapters.registry.addresses import refused
from mlops_deploy.adapters.registry.answers import NETWORK, bounded
from mlops_deploy.adapters.registry.hosts import Origin
from mlops_deploy.adapters.registry.pace import RETRIED, Pace, Patience, retry_after
from mlops_deploy.adapters.registry.trust import UntrustedError
from mlops_deploy.errors import UnreachableError, UnusableInputError

_LARGEST: Final = 2**20
_HOPS: Final = 3
_OK: Final = 200
_MOVED: Final = frozenset({301, 302, 303, 307, 308})


class DeniedError(UnusableInputError):
    """It gives no token to who we are."""


class Way(Protocol):
    """The part of `HttpAccess` that is needed here."""

    pace: Pace

    @property
    def home(self) -> Origin:
        """The registry's own origin."""
        ...

    def pool(self, url: str) -> urllib3.PoolManager:
        """What asks `url`."""
        ...

    def allows(self, url: str, base: str) -> str:
        """`url` as seen from `base`, checked."""
        ...

    def unreachable(self, error: Exception) -> UnreachableError:
        """The error for a connection that failed."""
        ...


class TokenServer:
    """See `tokens.TokenServer`. A redirect is followed on the token server's own origin alone."""

    def __init__(self, way: Way) -> None:
        self._way = way

    def __call__(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
        """See `tokens.TokenServer`."""
        origin, home = Origin.of(url), self._way.home
        if origin.scheme == "http" and origin.host != home.host and (headers or body):
            raise refused(home, origin, "a password goes to another host by https alone")
        patience = Patience(self._way.pace)
        while True:
            answer = self._followed(method, url, headers, body)
            found = self._body(answer, origin) if isinstance(answer, BaseHTTPResponse) else answer
            if isinstance(found, bytes):
                return found
            if isinstance(answer, BaseHTTPResponse) and answer.status != _OK:
                again = answer.status in RETRIED and patience.again(retry_after(answer.headers.get("Retry-After")))
            else:
                again = not isinstance(found, UntrustedError) and patience.again()
            if not again:
                raise found

    def _followed(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> BaseHTTPResponse | UnreachableError:
        for _ in range(_HOPS):
            try:
                answer = self._way.pool(url).request(
                    method,
                    url,
                    headers=dict(headers),
                    body=body,
                    redirect=False,
                    retries=False,
                    timeout=Timeout(self._way.pace.connect, self._way.pace.silence),
                    preload_content=False,
                    decode_content=False,
                )
            except HTTPError as error:
                return self._way.unreachable(error)
            if answer.status not in _MOVED or method != "GET":
                return answer
            answer.close()
            url = self._moved(url, answer)
        return UnreachableError(f"the token server `{Origin.of(url)}` redirects more than {_HOPS} times")

    def _moved(self, url: str, answer: BaseHTTPResponse) -> str:
        target = self._way.allows(answer.headers.get("Location", ""), url)
        if Origin.of(target) != Origin.of(url):
            raise refused(self._way.home, Origin.of(target), "a token server may not pass a password on")
        return target

    def _body(self, answer: BaseHTTPResponse, origin: Origin) -> bytes | UnreachableError | UnusableInputError:
        """All of a token's answer, soon: others wait for it meanwhile."""
        if answer.status != _OK:
            answer.close()
            return _refusal(answer.status, origin)
        try:
            data = bounded(answer, _LARGEST, self._way.pace.token, answer.shutdown)
        except NETWORK as error:
            return self._way.unreachable(error)
        finally:
            answer.close()
        if len(data) > _LARGEST:
            raise UnreachableError(f"the token server `{origin}` answers without end")
        return data


def _refusal(status: int, origin: Origin) -> UnreachableError | UnusableInputError:
    message = f"the token server `{origin}` answered {status}"
    if status in RETRIED or status >= 500:  # noqa: PLR2004 - all server errors
        return UnreachableError(message, hint="try again a little later")
    return DeniedError(message)
