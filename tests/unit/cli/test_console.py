import time

import pytest

from mlops_deploy.cli.console import PlainStory
from mlops_deploy.cli.main import _show
from mlops_deploy.errors import DeployError


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves when it is told to."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_off_a_terminal_progress_is_a_line_every_ten_seconds(clock, capsys):
    story = PlainStory()
    for second in range(1, 31):
        clock[0] = 1000.0 + second
        story.progress("digits", second * 10_000_000, 1_000_000_000)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "digits: 100 of 1,000 MB, 10 MB/s",
        "digits: 200 of 1,000 MB, 10 MB/s",
        "digits: 300 of 1,000 MB, 10 MB/s",
    ]


def test_facts_and_warnings_are_lines_on_stderr(capsys):
    story = PlainStory()
    story.say("shell: busybox")
    story.warn("the model has changed")
    assert capsys.readouterr() == ("", "shell: busybox\nwarning: the model has changed\n")


def test_what_others_wrote_is_no_command_to_the_terminal(capsys):
    bad = "\x1b]0;owned\x07\x1b[2J\r"
    story = PlainStory()
    story.say(bad)
    story.warn(bad)
    _show(DeployError(bad, hint=bad, detail=[f"{bad}\n\tsecond"]))
    said = capsys.readouterr().err
    assert said.count("\\x1b]0;owned\\x07\\x1b[2J\\r") == 5
    assert "\x07" not in said
    assert "\r" not in said
    assert "\n\tsecond\n" in said
