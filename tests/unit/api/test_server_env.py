"""The environment of a server: which one it is, when it is made, and what is left when that fails."""

import sys
from pathlib import Path

import pytest

from mlops_deploy.api.server_env import Packages, find_or_make
from mlops_deploy.errors import DeployError, UnreachableError
from tests.fakes.carriers import Silent


class Process:
    pid = 1

    def __init__(self, code, lines):
        self.code, self.last_lines = code, lines

    def wait(self, seconds):
        return self.code

    def end(self, grace):
        pass


class Maker:
    """Plays venv and pip: what they leave in the folder, what they say, and how they end."""

    def __init__(self, pip=0, said=(), *, interrupt=False):
        self.calls, self.pip, self.said, self.interrupt = [], pip, said, interrupt

    def start(self, argv, *, cwd, env, on_line):
        self.calls.append((argv, env))
        if "venv" in argv:
            python = Path(argv[-1]) / "bin" / "python"
            python.parent.mkdir(parents=True)
            python.symlink_to(sys.executable)
            return Process(0, ())
        for line in self.said:
            on_line(line)
        if self.interrupt:
            raise KeyboardInterrupt
        return Process(self.pip, self.said)


@pytest.fixture
def packages(tmp_path):
    (tmp_path / "requirements.txt").write_text("kserve\n")
    (tmp_path / "constraints.txt").write_text("kserve==0.21.0\n")
    return Packages(requirements=tmp_path / "requirements.txt", constraints=tmp_path / "constraints.txt")


def make(packages, maker, cache=None, environ=None):
    story = Silent()
    cache = cache or packages.requirements.parent / "cache"
    return find_or_make(packages, cache, environ or {}, maker, story), story


def left(packages):
    return [path.name for path in (packages.requirements.parent / "cache").iterdir() if path.is_dir()]


def test_it_is_made_once_and_then_found_without_starting_anything(packages):
    first, second = Maker(), Maker()
    programs, story = make(packages, first)
    assert make(packages, second)[0] == programs
    assert len(programs.parent.name) == 12
    assert [call[0][1:4] for call in first.calls] == [("-I", "-m", "venv"), ("-I", "-m", "pip")]
    assert second.calls == []
    assert "this happens once" in story.said[0]


def test_other_packages_are_another_environment(packages):
    programs, _ = make(packages, Maker())
    packages.constraints.write_text("kserve==0.21.1\n")
    other, _ = make(packages, Maker())
    packages.requirements.write_text("kserve\nskops\n")
    third, _ = make(packages, Maker())
    assert len({programs, other, third}) == 3


def test_one_whose_python_has_been_removed_is_made_again(packages):
    programs, _ = make(packages, Maker())
    (programs / "python").unlink()
    again = Maker()
    assert make(packages, again)[0] == programs
    assert len(again.calls) == 2


def test_one_that_a_killed_run_left_half_made_is_made_again(packages):
    programs, _ = make(packages, Maker())
    (programs.parent / "complete").unlink()
    (programs / "left").write_text("half")
    make(packages, Maker())
    assert not (programs / "left").exists()


def test_a_failure_leaves_nothing_and_shows_what_pip_said(packages):
    said = ("Collecting kserve", "", "ERROR: No matching distribution found for kserve==0.21.0")
    with pytest.raises(DeployError, match="cannot be made") as refused:
        make(packages, Maker(pip=1, said=said))
    assert refused.value.detail == ("ERROR: No matching distribution found for kserve==0.21.0",)
    assert "PIP_INDEX_URL" in refused.value.hint
    assert refused.value.exit_code == 1
    assert left(packages) == []


def test_an_index_that_does_not_answer_is_worth_a_retry(packages):
    said = (
        "WARNING: Retrying (Retry(total=0, connect=None)) after connection broken",
        "ERROR: No matching distribution",
    )
    with pytest.raises(UnreachableError, match="index does not answer") as refused:
        make(packages, Maker(pip=1, said=said))
    assert refused.value.exit_code == 8
    assert left(packages) == []


def test_an_interrupt_leaves_nothing(packages):
    with pytest.raises(KeyboardInterrupt):
        make(packages, Maker(interrupt=True))
    assert left(packages) == []


def test_the_large_packages_are_told_while_they_come(packages):
    said = (
        "Collecting scipy==1.17.1 (from -r requirements.txt (line 3))",
        "  Downloading scipy-1.17.1-cp311-cp311-manylinux_2_27_x86_64.whl (35.3 MB)",
        "Using cached numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.whl (16.9 MB)",
        "  Downloading https://files.example/packages/ab/grpcio_tools-1.81.1-cp311-cp311-linux.whl (2.7 MB)",
        "  Downloading six-1.17.0-py2.py3-none-any.whl (11 kB)",
    )
    _, story = make(packages, Maker(said=said))
    assert story.said[1:4] == ["  scipy: 35.3 MB", "  numpy: 16.9 MB", "  grpcio_tools: 2.7 MB"]
    assert len(story.said) == 5


def test_pip_gets_the_users_settings_but_no_setting_of_the_running_python(packages):
    maker = Maker()
    make(packages, maker, environ={"PIP_INDEX_URL": "https://index", "PYTHONPATH": "/here", "PATH": "/bin"})
    assert maker.calls[1][1] == {"PIP_INDEX_URL": "https://index", "PATH": "/bin"}


def test_a_cache_that_cannot_be_written_is_one_clear_error(packages, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DeployError, match="cannot be written"):
        make(packages, Maker(), cache=tmp_path / "file" / "servers")
