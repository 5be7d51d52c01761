"""When a batch run runs again: a cron line as Nomad's scheduler reads it, looked at before a cluster sees it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from mlops_deploy.errors import UnusableInputError

NAMED: Final = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@hourly")

_LONGEST: Final = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}
"""Days of the months that have less than 31."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    """One field of a line: its numbers, the names that stand for them, and what else may stand for a day."""

    what: str
    least: int
    most: int
    names: Mapping[str, int] = field(default_factory=dict)
    special: str = r"(?!)"


def _named(names: str, first: int) -> dict[str, int]:
    """Names that may be shortened to three letters."""
    counted = list(enumerate(names.split(), first))
    return {name: number for number, name in counted} | {name[:3]: number for number, name in counted}


_WEEK: Final = "sunday monday tuesday wednesday thursday friday saturday"
_YEAR: Final = "january february march april may june july august september october november december"
_SECONDS: Final = _Field(what="seconds", least=0, most=59)
_MINUTES: Final = _Field(what="minutes", least=0, most=59)
_HOURS: Final = _Field(what="hours", least=0, most=23)
_DAYS: Final = _Field(what="days of the month", least=1, most=31, special=r"L|LW|[0-9]{1,2}W")
_MONTHS: Final = _Field(what="months", least=1, most=12, names=_named(_YEAR, 1))
_WEEKDAYS: Final = _Field(
    what="days of the week", least=0, most=7, names=_named(_WEEK, 0), special=r"[0-7]L|[0-7]#[1-5]"
)
_YEARS: Final = _Field(what="years", least=1970, most=2099)
_USUAL: Final = (_MINUTES, _HOURS, _DAYS, _MONTHS, _WEEKDAYS)
_LAYOUTS: Final = {5: _USUAL, 6: (*_USUAL, _YEARS), 7: (_SECONDS, *_USUAL, _YEARS)}


def cron_line(text: str) -> str:
    """`text`, which is a cron line or a name such as `@daily`.

    Five fields, six with a year, or seven with seconds before all and a year. Raises `UnusableInputError` whose hint
    names the field that no scheduler would take, or the day that never comes.
    """
    if text.startswith("@"):
        if text not in NAMED:
            raise UnusableInputError("unknown", hint=f"known: {', '.join(f'`{name}`' for name in NAMED)}")
        return text
    parts = text.split()
    fields = _LAYOUTS[len(parts)]
    found = {one.what: _numbers(one, part) for one, part in zip(fields, parts, strict=True)}
    if parts[fields.index(_WEEKDAYS)] in {"*", "?"}:
        _refuse_never(found[_DAYS.what], found[_MONTHS.what])
    return text


def _numbers(one: _Field, part: str) -> set[int] | None:
    """Every number that a field stands for; None where the calendar decides."""
    found: set[int] = set()
    special = False
    for piece in part.split(","):
        if re.fullmatch(one.special, piece, re.IGNORECASE):
            special = True
        else:
            found |= _range(one, piece)
    return None if special else found


def _range(one: _Field, piece: str) -> set[int]:
    span, _, step = piece.partition("/")
    if "/" in piece and not (re.fullmatch(r"[0-9]{1,4}", step) and int(step)):
        raise _wrong(one, piece)
    if span in {"*", "?"}:
        first, last = one.least, one.most
    else:
        low, dash, high = span.partition("-")
        first = _number(one, low, piece)
        last = _number(one, high, piece) if dash else one.most if step else first
    if first > last:
        raise _wrong(one, piece)
    return set(range(first, last + 1, int(step or 1)))


def _number(one: _Field, text: str, piece: str) -> int:
    number = one.names.get(text.lower(), int(text) if re.fullmatch(r"[0-9]{1,4}", text) else -1)
    if not one.least <= number <= one.most:
        raise _wrong(one, piece)
    return number


def _wrong(one: _Field, piece: str) -> UnusableInputError:
    names = " or their English names" if one.names else ""
    hint = f"the {one.what} are `*`, or {one.least} to {one.most}{names}, not `{piece[:40]}`"
    return UnusableInputError("not a cron line", hint=hint)


def _refuse_never(days: set[int] | None, months: set[int] | None) -> None:
    if days and months and min(days) > max(_LONGEST.get(month, 31) for month in months):
        raise UnusableInputError("never", hint="no such month has such a day, so it would never run")
