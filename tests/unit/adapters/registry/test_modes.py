"""How a registry takes blobs is remembered, and what cannot be read is as nothing."""

import json
import stat

import pytest

from mlops_deploy.adapters.registry.modes import STREAM, UNSIZED, WHOLE, Mode, Modes, easier, teaches

MIB = 2**20
CHUNKS = [Mode(kind="chunked", chunk=size * MIB) for size in (96, 32, 8)]


def test_the_ladder_ends():
    rungs = [STREAM]
    while (following := easier(rungs[-1], 413)) is not None:
        rungs.append(following)
    assert rungs == [STREAM, *CHUNKS, WHOLE]


def test_a_length_that_is_refused_is_left_out_first():
    assert easier(STREAM, 416) == UNSIZED
    assert easier(UNSIZED, 416) == CHUNKS[0]
    assert easier(STREAM, None) == CHUNKS[0]


@pytest.mark.parametrize(
    ("mode", "status", "size", "worth"),
    [
        (WHOLE, 405, MIB, True),
        (UNSIZED, 416, MIB, True),
        (CHUNKS[1], 413, 99 * MIB, True),
        (WHOLE, 413, 9 * MIB, True),
        (WHOLE, 400, MIB, False),
        (CHUNKS[0], 502, 99 * MIB, True),
        (WHOLE, 502, 99 * MIB, False),
        (CHUNKS[0], None, 99 * MIB, False),
    ],
)
def test_only_what_is_a_property_of_the_registry_is_remembered(mode, status, size, worth):
    assert teaches(mode, status, size) is worth


@pytest.mark.parametrize("mode", [STREAM, UNSIZED, WHOLE, *CHUNKS])
def test_what_worked_is_known_to_the_next_process(tmp_path, mode):
    path = tmp_path / "new" / "folder" / "modes.json"
    Modes(path).learn("a:5000", mode)
    Modes(path).learn("b", UNSIZED)
    assert Modes(path).mode("a:5000") == mode
    assert Modes(path).mode("b") == UNSIZED
    assert Modes(path).mode("c") == STREAM
    assert list(path.parent.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_is_forgotten_after_some_days(tmp_path):
    path, now = tmp_path / "modes.json", [1000.0]
    modes = Modes(path, lambda: now[0])
    modes.learn("a", WHOLE)
    now[0] += 6 * 24 * 3600
    assert Modes(path, lambda: now[0]).mode("a") == WHOLE
    now[0] += 2 * 24 * 3600
    assert modes.mode("a") == STREAM
    modes.learn("b", WHOLE)
    assert list(json.loads(path.read_text())["hosts"]) == ["b"]


GOOD = {"kind": "whole", "chunk": 0, "until": 9e18}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"hosts": 3}',
        '{"hosts": {"a": 1}}',
        json.dumps({"hosts": {"a": GOOD | {"kind": "magic"}}}),
        json.dumps({"hosts": {"a": GOOD | {"kind": ["whole"]}}}),
        json.dumps({"hosts": {"a": GOOD | {"kind": "chunked", "chunk": -1}}}),
        json.dumps({"hosts": {"a": GOOD | {"chunk": "x"}}}),
        json.dumps({"hosts": {"a": GOOD | {"until": None}}}),
        "[" * 100_000,
        json.dumps({"hosts": {"a": GOOD}}) + " " * 2**20,
    ],
)
def test_a_damaged_file_is_as_none_and_is_mended(tmp_path, text):
    path = tmp_path / "modes.json"
    path.write_text(text)
    modes = Modes(path)
    assert modes.mode("a") == STREAM
    modes.learn("b", WHOLE)
    assert Modes(path).mode("b") == WHOLE


def test_a_file_that_cannot_be_is_not_missed(tmp_path):
    (tmp_path / "file").write_text("")
    modes = Modes(tmp_path / "file" / "modes.json")
    modes.learn("a", WHOLE)
    assert modes.mode("a") == WHOLE


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"XDG_CACHE_HOME": "/c", "HOME": "/h"}, "/c/mlops-deploy/registries.json"),
        ({"XDG_CACHE_HOME": "c", "HOME": "/h"}, "/h/.cache/mlops-deploy/registries.json"),
        ({"HOME": "/h"}, "/h/.cache/mlops-deploy/registries.json"),
        ({}, None),
    ],
)
def test_it_lies_in_the_cache(environ, path):
    assert str(Modes.of(environ)._path) == str(path)
