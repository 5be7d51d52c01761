"""Sizes and durations as every section takes them: with a unit, within bounds."""

from typing import Final

from mlops_deploy.config.kinds import Bounded, Parsed, Text
from mlops_deploy.spec.units import DURATION_PATTERN, SIZE_PATTERN, parse_duration, parse_size

_FORM: Final = "a duration such as `30s`, `2m` or `1h30m`"

SIZE: Final = Bounded(
    Parsed(Text("a size such as `512Mi`, `2GiB` or `1.5G`, from 6Mi to 1024Ti", SIZE_PATTERN), parse_size),
    least=6 << 20,
    most=1 << 50,
)
WAIT: Final = Bounded(
    Parsed(Text(f"{_FORM}, at most 720h", DURATION_PATTERN), parse_duration), least=0.0, most=720 * 3600.0
)
DEADLINE: Final = Bounded(
    Parsed(Text(f"{_FORM}, from 1s to 720h", DURATION_PATTERN), parse_duration), least=1.0, most=720 * 3600.0
)
