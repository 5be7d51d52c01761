"""The lease: who may change a service now. Its token grows at every acquisition, and every write carries it.

It expires by the ledger's own clock when nobody renews it, so that a dead holder blocks nobody, and a holder that
wakes up late is refused by whoever is written to.
"""

from dataclasses import dataclass, replace
from typing import Final

from mlops_deploy.errors import LockedError, UnusableInputError
from mlops_deploy.release.codec import decode, encode
from mlops_deploy.release.effects import PutKey, Refused, Stored
from mlops_deploy.release.exchange import Run, put, stored

KEY: Final = "lease"
TTL: Final = 60.0
RENEWAL: Final = 15.0
"""Seconds between two renewals: three may be lost before the lease is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who asks: `name` for people (`anna@build7`), `nonce` told from every other process, `url` of a CI run."""

    name: str
    nonce: str
    url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """What stands under `lease`; without a `holder` it is free, and keeps the last token."""

    token: int
    ttl: float
    holder: Holder | None
    release: str | None
    beat: int = 0


def holder_of(found: Stored) -> Lease | None:
    """The lease when somebody holds it now, None when it is free, let go or expired."""
    lease = _read(found)
    if lease is None or lease.holder is None or found.age > lease.ttl:
        return None
    return lease


def acquire(holder: Holder, release: str | None) -> "Run[tuple[Lease, int]]":
    """Take the lease and return it with its index; raise `LockedError` at once when another holds it."""
    while True:
        found = yield from stored(KEY)
        if (held := holder_of(found)) is not None:
            raise locked(held, found.age)
        last = _read(found)
        lease = Lease(token=(last.token if last else 0) + 1, ttl=TTL, holder=holder, release=release)
        answer = yield from put(KEY, encode(lease), found.index, lease.token)
        if not isinstance(answer, Refused):
            return lease, answer.index


def renew(lease: Lease, index: int, *, token: int | None = None) -> "Run[tuple[Lease, int]]":
    """Write the lease anew, also after it has expired, as long as nobody else took it; else raise `LockedError`.

    With a new `token`, whatever was sent with the old one and is still on its way will be refused.
    """
    fresh = replace(lease, beat=lease.beat + 1, token=lease.token if token is None else token)
    answer = yield from put(KEY, encode(fresh), index, fresh.token)
    if isinstance(answer, Refused):
        found = yield from stored(KEY)
        raise lost(holder_of(found))
    return fresh, answer.index


def let_go(lease: Lease, index: int) -> Run[None]:
    """Free the lease; somebody else's is left alone. Tried once: what is not let go of expires."""
    value = encode(replace(lease, holder=None, release=None))
    yield PutKey(key=KEY, value=value, index=index, token=lease.token)


def locked(held: Lease, age: float) -> LockedError:
    """The error that names who holds the lease, since when they were heard, and where they run."""
    who = held.holder.name if held.holder else "nobody"
    what = f"release `{held.release}`" if held.release else "a command"
    where = f", {held.holder.url}" if held.holder and held.holder.url else ""
    return LockedError(
        f"{what} by `{who}` is running (last heard {age:.0f} s ago{where})",
        hint="`mlops-deploy status` shows it; it ends by itself, or frees the lease "
        f"{held.ttl:.0f} s after its process died",
    )


def lost(taken: Lease | None) -> LockedError:
    """The error of a holder that woke up too late."""
    who = f"`{taken.holder.name}`" if taken and taken.holder else "somebody else"
    return LockedError(
        f"the lease was lost to {who}, so this command stopped without changing anything more",
        hint="`mlops-deploy status` shows what happens now",
    )


def _read(found: Stored) -> Lease | None:
    if found.value is None:
        return None
    try:
        return decode(Lease, found.value, KEY)
    except UnusableInputError as error:
        raise LockedError(
            f"the lease cannot be read: {error.message}", hint="another version of mlops-deploy wrote it; use that one"
        ) from error
