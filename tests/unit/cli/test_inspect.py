"""`inspect` as a user runs it: what is on stdout, what on stderr, and with which exit code it ends."""

import json

import pytest

from tests.fakes.command import run
from tests.fakes.crafted import Crafted, good_carrier


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return good_carrier(tmp_path_factory.mktemp("good"))


def test_text(good, tmp_path):
    done = run("inspect", "digits", "--store", good, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for line in ("name:        digits", "tags:", "  digits:1", "licence:     MIT", "  linux/arm64:", "built:"):
        assert line in done.stdout.splitlines() or f"\n{line} " in done.stdout, line
    assert "7,000  model.bin" in done.stdout
    assert done.stderr == f"next: mlops-deploy verify digits --store {good}\n"


def test_the_next_command_works(good, tmp_path):
    told = run("inspect", good.parent / "carrier.tar", cwd=tmp_path).stderr
    arguments = told.removeprefix("next: mlops-deploy ").split()
    assert run(*arguments, cwd=tmp_path).returncode == 0


def test_json(good, tmp_path):
    done = run("inspect", "digits", "--store", good, "--output", "json", cwd=tmp_path)
    found = json.loads(done.stdout)
    assert done.stderr == ""
    assert found["name"] == "digits"
    assert "digits:1" in found["tags"]
    assert found["requires"] == ["numpy>=2"]
    assert found["size"] == sum(file["size"] for file in found["files"])
    assert {file["path"] for file in found["files"]} == {"model.bin", "with blanks/vocäb", "x" * 120}


@pytest.mark.parametrize("output", ["text", "json"])
def test_labels_cannot_write_to_the_terminal(good, tmp_path, output):
    crafted = Crafted(good, tmp_path / "store")
    crafted.config["config"]["Labels"]["evil"] = "\x1b[2J\x9b1m\x07\u202e\r\n"
    crafted.write()
    done = run("inspect", "digits:1", "--store", crafted.path, "--output", output, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(line.isprintable() for line in done.stdout.split("\n"))
    assert "evil" in done.stdout


@pytest.mark.parametrize(
    "case",
    [
        ("nothing", 2, "no carrier `nothing`"),
        ("./nothing", 2, "no such file: `./nothing`"),
        ("nothing.tar", 2, "no such file: `nothing.tar`"),
        ("x" * 300, 2, "no carrier `xxx"),
        ("/dev/zero", 2, "`/dev/zero` is not a plain file"),
        ("words", 2, "`words` is not an archive of a carrier"),
        ("cut.tar", 12, "`cut.tar` is damaged: it ends too early"),
    ],
)
@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_what_is_no_carrier(good, tmp_path, command, case):
    ref, code, words = case
    (tmp_path / "words").write_text("words")
    (tmp_path / "cut.tar").write_bytes((good.parent / "carrier.tar").read_bytes()[:5000])
    done = run(command, ref, "--store", good, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert words in done.stderr
    assert "hint:" in done.stderr
    assert "unexpected" not in done.stderr
