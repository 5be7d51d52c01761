"""`mlops-deploy pull` as a user runs it: what it prints, and what it ends with."""

import json
import re

import pytest

from tests.fakes.command import run
from tests.fakes.pullable import FILES, pullable


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return pullable(tmp_path_factory.mktemp("model"))


def pull(model, folder, *options, ref=None, code=0):
    done = run("pull", ref or model.tag, "volume", "--store", model.store.path, *options, cwd=folder)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    return done


def test_it_says_what_it_did(model, tmp_path):
    size = sum(map(len, FILES.values()))
    first, second = pull(model, tmp_path), pull(model, tmp_path)
    short = model.carrier.id[:12]
    assert re.fullmatch(rf"copied digits {short}: {size} bytes in \d+ s\n", first.stdout)
    assert re.fullmatch(rf"found digits {short}: {size} bytes in \d+ s\n", second.stdout)
    assert f"pulling {size:,} bytes of `digits@sha256:" in first.stderr
    assert second.stderr == ""


def test_the_result_as_json(model, tmp_path):
    said = json.loads(pull(model, tmp_path, "--output", "json").stdout)
    assert said.pop("seconds") < 60
    assert said == {
        "name": "digits",
        "content_id": model.carrier.id,
        "digest": str(model.store.find("digits:1").digest),
        "path": str(tmp_path / "volume" / "v" / model.carrier.id),
        "state": "copied",
        "bytes_pulled": sum(map(len, FILES.values())),
        "bytes_adopted": 0,
    }


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--expect", "abc"), 2, "`abc` is not a content id"),
        (("--expect", "0" * 64), 12, "expected 0000"),
        (("--expect", ""), 2, "the value is empty"),
    ],
)
def test_what_is_expected_is_held_against_it(model, tmp_path, options, code, said):
    assert said in pull(model, tmp_path, *options, code=code).stderr
    assert not (tmp_path / "volume").exists()


@pytest.mark.parametrize(
    ("ref", "code", "said"),
    [
        ("wine", 2, "no carrier `wine` in the store"),
        ("127.0.0.1:1/digits:1", 8, "the registry `127.0.0.1:1`"),
        ("127.0.0.1:1/Digits:1", 2, "is not an image reference"),
    ],
)
def test_what_cannot_be_pulled(model, tmp_path, ref, code, said):
    assert said in pull(model, tmp_path, ref=ref, code=code).stderr
    assert not (tmp_path / "volume").exists()


def test_what_is_in_the_way(model, tmp_path):
    (tmp_path / "volume").write_bytes(b"")
    assert "is no folder" in pull(model, tmp_path, code=1).stderr
    (tmp_path / "volume").unlink()
    (tmp_path / "volume" / "digits").mkdir(parents=True)
    assert "is in the way of the link" in pull(model, tmp_path, code=2).stderr
