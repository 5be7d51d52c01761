"""`verify` as a user runs it."""

import json

import pytest

from tests.fakes.command import run
from tests.fakes.crafted import Crafted, good_carrier, member


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return good_carrier(tmp_path_factory.mktemp("good"))


def test_one_line_when_it_verifies(good, tmp_path):
    done = run("verify", "digits", "--store", good, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("sha256:")
    assert " verifies: 3 files, content " in done.stdout
    assert done.stdout.count("\n") == 1


def test_json(good, tmp_path):
    found = json.loads(run("verify", "digits", "--store", good, "--output", "json", cwd=tmp_path).stdout)
    assert found["verified"] is True
    assert found["files"] == 3


def test_every_mismatch_has_a_line(good, tmp_path):
    crafted = Crafted(good, tmp_path / "store")
    crafted.config["config"]["User"] = "0"
    crafted.before_last(member("etc/passwd", b"evil"))
    crafted.write()
    done = run("verify", "digits:1", "--store", crafted.path, cwd=tmp_path)
    assert done.returncode == 12
    assert done.stdout == ""
    assert "does not verify: 2 mismatches\n" in done.stderr
    assert '  linux/amd64 config: `config.User` is "0", expected absent\n' in done.stderr
    assert "  /etc/passwd: a file of that name has no place in a carrier\n" in done.stderr
    assert "hint:" in done.stderr
