"""Sizes and durations, read and shown."""

import pytest

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.spec.units import parse_duration, parse_size, show_duration


@pytest.mark.parametrize(
    ("text", "size"),
    [("512Mi", 512 << 20), ("2GiB", 2 << 30), ("1.5G", 1_500_000_000), ("500MB", 500_000_000), ("1Ti", 1 << 40),
     ("64k", 64_000), ("64K", 64_000), ("64KiB", 65_536), ("0.001G", 1_000_000)],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["512", "512m", "512 Mi", "-1Mi", "1e3Mi", "Mi", "", "1.Mi", "1Pi", "1Mib", "१Mi", "1Mi\n"]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UnusableInputError, match="is not a size") as caught:
        parse_size(text)
    assert caught.value.hint == "write a number and a unit: `512Mi`, `2GiB`, `1.5G`"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("2m", 120), ("1h30m", 5400), ("0s", 0), ("0.5s", 0.5), ("1h0m1.25s", 3601.25), ("90m", 5400)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["30", "", "s", "m", "1m1h", "-1s", "1.5m", "1 s", "1d", "30S", "१s", "1s\n"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UnusableInputError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["30s", "2m", "1h30m", "0s", "0.5s", "1h", "24h1s"])
def test_what_is_shown_is_read_again(text: str) -> None:
    assert show_duration(parse_duration(text)) == text
