import time

import pytest

from mlops_deploy.cli.console import PlainStory


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
