"""How one registry is asked: who we are there, whom we believe, and where it may send us.

A credential or token goes to the registry's own scheme, host and port, and to the token server that the registry names
over `https` or on its own host; never to where either redirects.
"""

import json
import ssl
import time
from collections.abc import Callable, Mapping
from threading import RLock
from typing import Final
from urllib.parse import quote

import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.util import Timeout

from mlops_deploy.adapters.registry.addresses import check_url
from mlops_deploy.adapters.registry.answers import Headers
from mlops_deploy.adapters.registry.challenges import Basic, Bearer, Scope, challenge, united
from mlops_deploy.adapters.registry.credentials import Credentials
from mlops_deploy.adapters.registry.hosts import Origin, host_and_port, is_loopback, registry_host
from mlops_deploy.adapters.registry.identity import Identity
from mlops_deploy.adapters.registry.pace import Pace
from mlops_deploy.adapters.registry.pools import Pools
from mlops_deploy.adapters.registry.token_server import DeniedError, TokenServer
from mlops_deploy.adapters.registry.tokens import Tokens
from mlops_deploy.adapters.registry.troubles import explained
from mlops_deploy.adapters.registry.trust import Trust
from mlops_deploy.errors import UnreachableError, UnusableInputError
from mlops_deploy.spec.secret import Secret

_FIRST_LOOK: Final = Timeout(connect=10, read=10)
_SHORTEST_SECRET: Final = 4


class HttpAccess:
    """See `channel.Access`; `registry` as references name it. Threads may share it.

    `insecure` names the hosts, each with or without port, that may be asked without trust: TLS with any certificate,
    and plain HTTP where there is no TLS. This machine always may. `base` spares the look which of both it is.
    """

    def __init__(
        self,
        registry: str,
        credentials: Credentials,
        trust: Trust,
        environ: Mapping[str, str],
        *,
        insecure: frozenset[str] = frozenset(),
        base: str | None = None,
        pace: Pace | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pace = pace or Pace()
        self._registry = registry
        self._host = registry_host(registry)
        self._credentials = credentials
        self._trust = trust
        self._insecure = insecure
        self._base = base
        self._pools = Pools(environ, self._context)
        self._tokens = Tokens(TokenServer(self), now)
        self._offer: Bearer | Basic | None = None
        self._wanted: dict[Scope, Scope] = {}
        self._identities: dict[str, Identity | None] = {}
        self._secrets: set[Secret] = set()
        self._lock = RLock()

    @property
    def base(self) -> str:
        """The registry's own scheme, host and port; the first time it may be asked which scheme it speaks."""
        with self._lock:
            if self._base is None:
                found, certain = f"https://{self._host}", True
                if not self._must_be_secure(Origin.of(found)):
                    found, certain = self._looked(found)
                self._base = found if certain else None
                return found
            return self._base

    @property
    def home(self) -> Origin:
        """The same, taken apart."""
        return Origin.of(self.base)

    def pool(self, url: str) -> urllib3.PoolManager:
        """What asks `url`, which `allows` has let pass or which is the registry's own."""
        return self._pools.of(Origin.of(url), self.home)

    def allows(self, url: str, base: str) -> str:
        """See `addresses.check_url`."""
        return check_url(url, base, self.home, near=self._pools.near)

    def headers(self, url: str, scope: Scope) -> Mapping[str, str]:
        """`Authorization`, where the registry has asked for it and `url` is its own; a token is fetched if need be."""
        offer = self._offer
        if offer is None or Origin.of(url) != self.home:
            return {}
        identity = self._identity(scope)
        match offer:
            case Bearer():
                token = self._token(offer, scope, identity)
                return {"Authorization": f"Bearer {token.reveal()}"}
            case Basic() if identity and not identity.is_token:
                return {"Authorization": identity.basic().reveal()}
            case _:
                return {}

    def challenged(self, url: str, headers: Headers, scope: Scope) -> bool:
        """Take note of what a 401 asks for; whether there is something to try."""
        offer = challenge(headers.get("WWW-Authenticate") or "")
        if offer is None or Origin.of(url) != self.home:
            return False
        if isinstance(offer, Bearer):
            offer = Bearer(realm=self.allows(offer.realm, self.base), service=offer.service, scope=offer.scope)
            self._wanted[scope] = offer.scope
            self._tokens.forget(self._scope(scope, offer))
        self._offer = offer
        return isinstance(offer, Bearer) or self._identity(scope) is not None

    def denied(self, scope: Scope) -> UnusableInputError:
        """The error for a right that is not had: who we were, and what to do."""
        repository, action = _repository(scope), "push to" if any("push" in one for one in scope[:1]) else "read"
        identity = self._identities.get(repository)
        who = "anybody" if identity is None else "who we are"
        hint = f"log in with `docker login {self._registry}`" if identity is None else _check(identity)
        message = f"the registry `{self._registry}` does not let {who} {action} `{repository}`"
        return UnusableInputError(message, hint=hint, detail=self._credentials.trouble)

    def unreachable(self, error: Exception) -> UnreachableError:
        """The error for a connection that failed, with what may help."""
        return explained(error, self._registry, self._trust.place)

    def redact(self, text: str) -> str:
        """`text`, which somebody else wrote, without any secret of ours."""
        for secret in sorted((one.reveal() for one in self._secrets), key=len, reverse=True):
            for written in {secret, quote(secret, safe=""), json.dumps(secret)[1:-1]}:
                text = text.replace(written, str(Secret(secret)))
        return text

    def _must_be_secure(self, origin: Origin) -> bool:
        named = {(host, port) for host, port in map(host_and_port, self._insecure) if host == origin.host}
        return not is_loopback(origin.host) and not any(port in {None, origin.port} for _, port in named)

    def _looked(self, secure: str) -> tuple[str, bool]:
        """By TLS or without, and whether that is certain: what refuses connections may be about to start."""
        origin, plain = Origin.of(secure), f"http://{self._host}"
        try:
            answer = self._pools.of(origin, origin).request(
                "GET", f"{secure}/v2/", redirect=False, retries=False, timeout=_FIRST_LOOK, preload_content=False
            )
        except NewConnectionError:
            return plain, host_and_port(self._host)[1] is None
        except HTTPError:
            return plain, True
        answer.close()
        return secure, True

    def _context(self, origin: Origin) -> ssl.SSLContext:
        name = str(origin).removeprefix("https://")
        home = origin.host == host_and_port(self._host)[0]
        return self._trust.context(self._registry if home else name, verified=self._must_be_secure(origin))

    def _identity(self, scope: Scope) -> Identity | None:
        repository = _repository(scope)
        with self._lock:
            if repository not in self._identities:
                self._identities[repository] = identity = self._credentials.find(repository)
                if identity:
                    self._keep_quiet(identity.secret)
                    self._keep_quiet(Secret(identity.basic().reveal().removeprefix("Basic ")))
            return self._identities[repository]

    def _token(self, offer: Bearer, scope: Scope, identity: Identity | None) -> Secret:
        try:
            token = self._tokens.get(offer, self._scope(scope, offer), identity)
        except DeniedError as error:
            denied = self.denied(scope)
            message = f"{denied.message}: {error.message}"
            raise UnusableInputError(message, hint=denied.hint, detail=denied.detail) from error
        self._keep_quiet(token)
        return token

    def _scope(self, scope: Scope, offer: Bearer) -> Scope:
        general = tuple(one for one in offer.scope if not one.startswith("repository:"))
        return united(scope, self._wanted.get(scope, ()), general)

    def _keep_quiet(self, secret: Secret) -> None:
        if len(secret.reveal()) >= _SHORTEST_SECRET:
            self._secrets = {*self._secrets, secret}


def _repository(scope: Scope) -> str:
    return scope[0].removeprefix("repository:").rpartition(":")[0] if scope else ""


def _check(identity: Identity) -> str:
    return f"we are who {identity.source} says: check its rights, or log in anew"
