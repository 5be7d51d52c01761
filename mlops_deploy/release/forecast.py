"""What a target says beforehand of an artefact in a slot, without changing anything."""

from dataclasses import dataclass
from typing import Literal

ChangeKind = Literal["added", "deleted", "edited"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing of a job that will be otherwise; `place` is dotted, `note` says what the target makes of it."""

    kind: ChangeKind
    place: str
    old: str = ""
    new: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """How the job will differ from the one that is live, why it could not be placed now, and what to beware of."""

    changes: tuple[Change, ...] = ()
    obstacles: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
