"""In what registries differ although all of them follow the specification."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Personality:
    """What one kind of registry does where the specification leaves a choice, or where it does otherwise."""

    name: str
    location: Literal["relative", "absolute"] = "absolute"
    state_in_location: bool = False
    """Locations carry a `_state` that is good once: an older one is answered 404, and ends the session."""
    resumable: bool = True
    """A session whose request broke goes on with the bytes that arrived; else it is gone (404)."""
    checks_range: bool = True
    """A `Content-Range` that does not begin where the session stands is answered 416; else it is not looked at."""
    auth: Literal["none", "basic", "token"] = "none"
    users: dict[str, str] = field(default_factory=dict)
    identity_tokens: dict[str, str] = field(default_factory=dict)
    """Refresh tokens by the user that they stand for."""
    anonymous_pull: bool = False
    token_seconds: int | None = 300
    """How long a token is good; None: the answer does not say so, and it is good for 60."""
    chunk_min: int | None = None
    chunk_max: int | None = None
    longest_patch: int | None = None
    """416 for a PATCH whose `Content-Length` is above it; chunked encoding has no limit (GHCR)."""
    first_patch_status: int = 202
    """ECR answers the first PATCH with 201."""
    one_patch_only: bool = False
    """A second PATCH of a session is refused (Google)."""
    streams: bool = True
    """PATCH is served at all; without, only whole blobs (POST, then PUT with the body)."""
    mounts: bool = True
    cdn: bool = False
    """Blobs are fetched from another port, which refuses whoever brings an `Authorization`."""
    deletes: bool = True


def distribution(**options: object) -> Personality:
    """What Debian's `docker-registry` does."""
    settings: dict[str, object] = {
        "name": "distribution",
        "location": "absolute",
        "state_in_location": True,
        "resumable": False,
        "checks_range": False,
    }
    return Personality(**(settings | options))  # type: ignore[arg-type]


def cloud(**options: object) -> Personality:
    """A registry as clouds have it: bearer tokens, relative locations, blobs from elsewhere, sessions that go on."""
    settings: dict[str, object] = {
        "name": "cloud",
        "location": "relative",
        "auth": "token",
        "users": {"ann": "s3cret-of-ann"},
        "cdn": True,
    }
    return Personality(**(settings | options))  # type: ignore[arg-type]
