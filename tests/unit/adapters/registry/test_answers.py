"""What a registry says becomes one line, and what it does not say does not hang."""

import json
import ssl

import pytest
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProtocolError, SSLError

from mlops_deploy.adapters.network import printable, reason
from mlops_deploy.adapters.registry.answers import refusal, said
from mlops_deploy.adapters.registry.pace import Pace, Patience, retry_after
from mlops_deploy.errors import UnreachableError, UnusableInputError


def errors(*found):
    return json.dumps({"errors": list(found)}).encode()


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", ""),
        (errors({"code": "DENIED", "message": "no"}), "DENIED: no"),
        (errors({"code": "DENIED", "message": "no", "detail": "why"}), "DENIED: no (why)"),
        (errors({"code": "A"}, {"message": "b"}, {}, {"code": "D"}), "A; b"),
        (errors("text", 3, None, {"code": ["x"], "message": {"a": 1}}), ""),
        (b"<html><head><title>502 Bad\n Gateway</title></head><body>x</body></html>", "502 Bad Gateway"),
        (b"<p>no</p><b>room</b>", "no room"),
        (b"\x1b[31mred\x00\xff\n\nline", "[31mred � line"),
        (b"see https://cdn.example.com/a?X-Signature=abc&x=1 there", "see https://cdn.example.com/a?… there"),
    ],
)
def test_a_refusal_in_one_line(data, line):
    assert said(data) == line


@pytest.mark.parametrize("data", [b"[" * 60_000, b"{" * 60_000, b"<" * 60_000, b'{"errors":' * 9000, b"x" * 60_000])
def test_a_line_is_short_whatever_was_said(data):
    assert len(said(data)) <= 300


def test_nothing_that_moves_the_cursor_is_printable():
    assert printable("a\x1b[2Jb\u202ec\u2028d\x7fe\x9bf") == "a [2Jb c d e f"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, UnusableInputError), (404, UnusableInputError), (413, UnusableInputError), (302, UnusableInputError)]
    + [(status, UnreachableError) for status in (408, 425, 429, 500, 502, 503, 504, 507, 599)],
)
def test_what_may_pass_is_another_error_than_what_does_not(status, kind):
    error = refusal("r.example.com", "`v1` of `team/x`", status, "DENIED: no")
    assert type(error) is kind
    assert "`r.example.com`" in error.message
    assert str(status) in error.message
    assert "`v1` of `team/x`" in error.message
    assert error.message.endswith(": DENIED: no")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            ProtocolError("Connection aborted.", ConnectionResetError(104, "Connection reset by peer")),
            "connection reset",
        ),
        (TimeoutError("it has taken nothing for 60 s"), "it has taken nothing for 60 s"),
        (TimeoutError(), "no answer in time"),
        (MaxRetryError(None, "/v2/?secret=1", NewConnectionError(None, "x")), "the connection broke off"),
        (SSLError(ssl.SSLError(1, "wrong version number")), "wrong version number"),
        (OSError("/v2/?secret=1"), "the connection broke off"),
    ],
)
def test_why_a_connection_failed(error, text):
    assert text in reason(error)
    assert "secret" not in reason(error)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("7", 7),
        (" 0 ", 0),
        ("-3", None),
        ("soon", None),
        ("9" * 400, 999999999),
        ("1.5", None),
    ],
)
def test_how_long_a_registry_wants_us_to_wait(header, seconds):
    assert retry_after(header) == seconds


def test_a_date_is_a_wait_too():
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after("Wed, 21 Oct 2199 07:28:00 GMT") > 10**9
    assert retry_after("Wed, 99 Oct 2199 07:28:00 GMT") is None


class Time:
    def __init__(self):
        self.now, self.slept = 0.0, []

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


def patience(**options):
    clock = Time()
    return clock, Patience(Pace(sleep=clock.sleep, now=lambda: clock.now, **options))


def test_waits_grow_and_differ_and_end():
    clock, waiting = patience(tries=6, first=1.0, longest=4.0)
    assert [waiting.again() for _ in range(6)] == [True] * 5 + [False]
    assert all(full / 2 <= slept <= full for slept, full in zip(clock.slept, [1, 2, 4, 4, 4], strict=True))


def test_what_the_registry_asks_for_is_waited_up_to_a_limit():
    clock, waiting = patience(retry_after=60, total=300)
    assert waiting.again(10)
    assert waiting.again(10_000)
    assert clock.slept == [10, 60]


def test_no_try_is_begun_after_the_time():
    clock, waiting = patience(total=100, tries=99)
    assert waiting.again(60)
    assert not waiting.again(60)
    assert clock.slept == [60]


def test_what_is_not_wanted_any_more_is_not_tried_again():
    assert not Patience(Pace(), lambda seconds: True).again()
