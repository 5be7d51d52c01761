"""What a model needs of its server, as far as its files say."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sniffed:
    """What one file says of itself: its format, None where that is not known, and what it needs, as requirements.

    `damaged` says why it can hardly be read, where that shows.
    """

    format: str | None = None
    requires: tuple[str, ...] = ()
    damaged: str | None = None
