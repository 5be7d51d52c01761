"""Sizes and times as people write them, and back."""

import re
from typing import Final

from mlops_deploy.errors import UnusableInputError

SIZE_PATTERN: Final = r"[0-9]{1,9}(\.[0-9]{1,3})?([KMGT]i?B?|ki?B?)"
DURATION_PATTERN: Final = r"(?=[0-9])([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}(\.[0-9]{1,3})?s)?"

_SIZE = re.compile(r"([0-9.]+)([A-Za-z])(i?)B?")
_DURATION = re.compile(r"(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9.]+)s)?")
_POWERS: Final = "kmgt"


def parse_size(text: str) -> int:
    """Bytes of `512Mi` and `2GiB` (powers of 1024) or `1.5G` and `500MB` (powers of 1000).

    A bare number and a lower-case `m` are refused: the first has no unit, the second means "thousandth" to Kubernetes.
    Raises `UnusableInputError`.
    """
    if not re.fullmatch(SIZE_PATTERN, text) or not (parts := _SIZE.fullmatch(text)):
        raise UnusableInputError(
            f"`{text[:80]}` is not a size", hint="write a number and a unit: `512Mi`, `2GiB`, `1.5G`"
        )
    number, unit, binary = parts.groups()
    return int(float(number) * (1024 if binary else 1000) ** (_POWERS.index(unit.lower()) + 1))


def parse_duration(text: str) -> float:
    """Seconds of `30s`, `2m`, `1h30m` or `0.5s`; raise `UnusableInputError` for anything else."""
    if not re.fullmatch(DURATION_PATTERN, text) or not (parts := _DURATION.fullmatch(text)):
        raise UnusableInputError(f"`{text[:80]}` is not a duration", hint="write `30s`, `2m` or `1h30m`")
    hours, minutes, seconds = (float(part or 0) for part in parts.groups())
    return hours * 3600 + minutes * 60 + seconds


def show_duration(seconds: float) -> str:
    """The form that `parse_duration` reads: `1h30m`, `45s`, `0.5s`."""
    hours, rest = divmod(seconds, 3600)
    minutes, left = divmod(rest, 60)
    parts = (f"{hours:.0f}h" if hours else "", f"{minutes:.0f}m" if minutes else "", f"{left:g}s" if left else "")
    return "".join(parts) or "0s"
