"""Cron lines: what Nomad's scheduler takes passes, what it would refuse or never run is named."""

import pytest

from mlops_deploy.config.cron import cron_line
from mlops_deploy.errors import UnusableInputError


@pytest.mark.parametrize(
    "text",
    [
        "* * * * *", "*/5 0-23/2 1,15 1-12 0-7", "0 9 * * mon-fri", "0 9 ? JAN,december Sunday", "0 0 L * *",
        "0 0 15W * *", "0 0 LW * ?", "0 0 * * 5L", "0 0 * * 6#3", "0 0 29 2 *", "0 0 30 2 mon", "5/15 * * * *",
        "0 0 * * * 2026-2030", "30 0 0 1 1 * 2027", "59 23 31 12 7", "@hourly", "@daily", "@weekly", "@monthly",
        "@yearly", "@annually", "0 0 31 2,3 *",
    ],
)  # fmt: skip
def test_a_line_that_a_scheduler_takes(text):
    assert cron_line(text) == text


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("61 * * * *", "the minutes are `*`, or 0 to 59, not `61`"),
        ("* 24 * * *", "the hours are `*`, or 0 to 23, not `24`"),
        ("* * 0 * *", "the days of the month are `*`, or 1 to 31, not `0`"),
        ("* * 1 13 *", "the months are `*`, or 1 to 12 or their English names, not `13`"),
        ("* * * * 8", "the days of the week are `*`, or 0 to 7 or their English names, not `8`"),
        ("* * * * funday", "the days of the week are `*`, or 0 to 7 or their English names, not `funday`"),
        ("*/0 * * * *", "the minutes are `*`, or 0 to 59, not `*/0`"),
        ("*/x * * * *", "the minutes are `*`, or 0 to 59, not `*/x`"),
        ("*/ * * * *", "the minutes are `*`, or 0 to 59, not `*/`"),
        ("30-10 * * * *", "the minutes are `*`, or 0 to 59, not `30-10`"),
        ("1,,2 * * * *", "the minutes are `*`, or 0 to 59, not ``"),
        ("5W * * * *", "the minutes are `*`, or 0 to 59, not `5W`"),
        ("60 0 0 1 1 * 2027", "the seconds are `*`, or 0 to 59, not `60`"),
        ("0 0 1 1 * 2100", "the years are `*`, or 1970 to 2099, not `2100`"),
        ("0 0 31 2 *", "no such month has such a day, so it would never run"),
        ("0 0 31 4,6 ?", "no such month has such a day, so it would never run"),
        ("@reboot", "known: `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily`, `@hourly`"),
    ],
)
def test_a_line_that_no_scheduler_takes_or_that_never_comes(text, hint):
    with pytest.raises(UnusableInputError) as refused:
        cron_line(text)
    assert refused.value.hint == hint
