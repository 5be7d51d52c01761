"""Who may do what: Basic, or bearer tokens from a token endpoint as the Docker registry's specification has it."""

import base64
import json
import secrets
import time
from urllib.parse import parse_qs

from tests.fakes.registry.messages import Answer, Asked, RefusalError
from tests.fakes.registry.personality import Personality

Scopes = dict[str, set[str]]


class Tokens:
    """The tokens that are good now."""

    def __init__(self, personality: Personality, realm: str, service: str):
        self._personality, self._realm, self._service = personality, realm, service
        self.good: dict[str, tuple[float, Scopes]] = {}

    def expire(self) -> None:
        """From now on no token is good that was given before."""
        self.good.clear()

    def require(self, asked: Asked, wanted: Scopes) -> None:
        """Refuse who may not do what is `wanted`."""
        scheme, _, value = asked.headers.get("authorization", "").partition(" ")
        match self._personality.auth:
            case "none":
                return
            case "basic":
                if scheme.lower() != "basic" or self._user(value) is None:
                    self._challenge('Basic realm="the registry, of ours"')
            case "token":
                until, held = self.good.get(value, (0.0, {}))
                if scheme.lower() != "bearer" or until < time.monotonic() or not _covers(held, wanted):
                    self._challenge(self._bearer(wanted))

    def give(self, asked: Asked, body: bytes) -> Answer:
        """The token endpoint: GET with Basic, or POST of a refresh token."""
        form = parse_qs(body.decode())
        user: str | None = None
        if asked.method == "POST":
            named = self._personality.identity_tokens.get(form.get("refresh_token", [""])[0])
            if form.get("grant_type") != ["refresh_token"] or named is None:
                raise RefusalError("UNAUTHORIZED", "no such refresh token")
            user, texts = named, form.get("scope", [""])
        else:
            scheme, _, value = asked.headers.get("authorization", "").partition(" ")
            user = self._user(value) if scheme.lower() == "basic" else None
            if scheme and user is None:
                raise RefusalError("UNAUTHORIZED", "wrong user or password")
            texts = parse_qs(asked.query["*"]).get("scope", [])
        scopes = _parsed(texts)
        if user is None:
            if not self._personality.anonymous_pull:
                raise RefusalError("UNAUTHORIZED", "who are you")
            scopes = {name: deeds & {"pull"} for name, deeds in scopes.items()}
        return self._token(scopes, access=asked.method == "POST")

    def _token(self, scopes: Scopes, *, access: bool) -> Answer:
        token, seconds = secrets.token_urlsafe(24), self._personality.token_seconds
        self.good[token] = (time.monotonic() + (60 if seconds is None else seconds), scopes)
        document: dict[str, object] = {"access_token" if access else "token": token}
        if seconds is not None:
            document["expires_in"] = seconds
        return Answer.of_bytes(200, json.dumps(document).encode(), Content_Type="application/json")

    def _user(self, value: str) -> str | None:
        try:
            name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except ValueError:
            return None
        return name if self._personality.users.get(name) == password else None

    def _bearer(self, wanted: Scopes) -> str:
        scopes = " ".join(f"repository:{name}:{','.join(sorted(deeds))}" for name, deeds in wanted.items())
        parts = {"realm": self._realm, "service": self._service} | ({"scope": scopes} if scopes else {})
        return "Bearer " + ",".join(f'{key}="{value}"' for key, value in parts.items())

    def _challenge(self, text: str) -> None:
        raise RefusalError("UNAUTHORIZED", "authentication required", headers={"WWW-Authenticate": text})


def _parsed(texts: list[str]) -> Scopes:
    found: Scopes = {}
    for text in " ".join(texts).split():
        kind, _, rest = text.partition(":")
        name, _, deeds = rest.rpartition(":")
        if kind == "repository":
            found.setdefault(name, set()).update(deeds.split(","))
    return found


def _covers(held: Scopes, wanted: Scopes) -> bool:
    return all(deeds <= held.get(name, set()) for name, deeds in wanted.items())
