"""What a registry asks for when it answers 401: the header `WWW-Authenticate`, RFC 9110 section 11.6.1."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

Scope = tuple[str, ...]
"""What a request needs, each as `repository:NAME:ACTION,ACTION`; the repository that is worked in comes first."""

_LONGEST: Final = 2**14
_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PART: Final = re.compile(
    rf'(?P<key>{_WORD})\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^\s,"]+))'
    rf"|(?P<scheme>{_WORD})(?=[\s,]|$)|[^\s,]+",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """A token is to be fetched at `realm`."""

    realm: str
    service: str = ""
    scope: Scope = ()


@dataclass(frozen=True, slots=True)
class Basic:
    """User and password are to be sent with each request."""


@dataclass(slots=True)
class _Challenge:
    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def challenge(header: str) -> Bearer | Basic | None:
    """What to do of what the header offers, a token before a password; None when there is nothing that we can do.

    Several headers of that name may have been joined by commas.
    """
    offered = list(_challenges(header[:_LONGEST]))
    for one in offered:
        if one.scheme == "bearer" and (realm := one.parameters.get("realm")):
            scope = tuple(one.parameters.get("scope", "").split())
            return Bearer(realm=realm, service=one.parameters.get("service", ""), scope=scope)
    return Basic() if any(one.scheme == "basic" for one in offered) else None


def united(*scopes: Scope) -> Scope:
    """All of `scopes`, the actions on one resource together; registries have scopes of other forms too."""
    found: dict[str, list[str]] = {}
    for scope in (one for each in scopes for one in each):
        resource, colon, actions = scope.rpartition(":")
        known = found.setdefault(resource if colon else scope, [])
        known += [action for action in actions.split(",") if colon and action and action not in known]
    return tuple(f"{resource}:{','.join(actions)}" if actions else resource for resource, actions in found.items())


def _challenges(value: str) -> Iterator[_Challenge]:
    current: _Challenge | None = None
    for part in _PART.finditer(value):
        if part["scheme"]:
            if current:
                yield current
            current = _Challenge(part["scheme"].lower())
        elif part["key"] and current:
            said = part["bare"] if part["quoted"] is None else re.sub(r"\\(.)", r"\1", part["quoted"])
            current.parameters.setdefault(part["key"].lower(), said)
    if current:
        yield current
