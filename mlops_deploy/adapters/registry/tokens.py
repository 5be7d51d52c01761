"""Tokens: fetched from the server that a registry names, kept as long as they last.

The exchange is the one of the distribution project: `GET realm?service=…&scope=…` with user and password, or nobody's;
for an identity token a `POST` with `grant_type=refresh_token`.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Final, Protocol
from urllib.parse import urlencode

from mlops_deploy.adapters.registry.challenges import Bearer, Scope
from mlops_deploy.adapters.registry.identity import Identity
from mlops_deploy.errors import UnreachableError
from mlops_deploy.spec.secret import Secret

_LIFE: Final = 60.0
_LONGEST_LIFE: Final = 3600.0
_MARGIN: Final = 30.0
_TOKEN: Final = re.compile(r"[!-~]{1,65536}")
_CLIENT: Final = "mlops-deploy"


class TokenServer(Protocol):
    """Asks a token server, whose URL has been checked, and gives the body of its answer."""

    def __call__(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
        """Raise `UnusableInputError` when we are refused, `UnreachableError` when there is no answer to use."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    value: Secret
    until: float


class Tokens:
    """Threads may share it; what two of them need at once is fetched once."""

    def __init__(self, ask: TokenServer, now: Callable[[], float]) -> None:
        self._ask = ask
        self._now = now
        self._kept: dict[tuple[str, str, Scope, Identity | None], _Token] = {}
        self._lock = Lock()

    def get(self, offer: Bearer, scope: Scope, identity: Identity | None) -> Secret:
        """A token for `scope` that still lasts, of `offer.realm`, an absolute URL that has been checked."""
        key = (offer.realm, offer.service, scope, identity)
        with self._lock:
            if key not in self._kept or self._kept[key].until <= self._now():
                self._kept[key] = self._fetched(offer, scope, identity)
            return self._kept[key].value

    def forget(self, scope: Scope) -> None:
        """The registry does not take what we have for `scope` any more."""
        with self._lock:
            self._kept = {key: kept for key, kept in self._kept.items() if key[2] != scope}

    def _fetched(self, offer: Bearer, scope: Scope, identity: Identity | None) -> _Token:
        begun = self._now()
        fields = [("service", offer.service)] if offer.service else []
        if identity and identity.is_token:
            fields += [("grant_type", "refresh_token"), ("client_id", _CLIENT), ("scope", " ".join(scope))]
            form = urlencode([*fields, ("refresh_token", identity.secret.reveal())]).encode()
            said = self._ask("POST", offer.realm, {"Content-Type": "application/x-www-form-urlencoded"}, form)
        else:
            query = urlencode([*fields, *(("scope", one) for one in scope)])
            headers = {"Authorization": identity.basic().reveal()} if identity else {}
            said = self._ask("GET", f"{offer.realm}{'&' if '?' in offer.realm else '?'}{query}", headers, None)
        return _token(said, begun)


def _token(said: bytes, begun: float) -> _Token:
    try:
        answer = json.loads(said)
    except (ValueError, RecursionError):
        answer = None
    fields = answer if isinstance(answer, dict) else {}
    value = fields.get("token") or fields.get("access_token")
    # What cannot stand in a header must not get there: the error of that would show it.
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise UnreachableError("the token server's answer holds no token")
    life = fields.get("expires_in")
    lasts = min(float(life), _LONGEST_LIFE) if isinstance(life, int | float) and life > 0 else _LIFE
    return _Token(value=Secret(value), until=begun + lasts - min(_MARGIN, lasts / 4))
