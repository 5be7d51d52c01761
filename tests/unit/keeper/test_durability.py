"""What the keeper has answered survives a power cut: the file is flushed before it gets its name, then the name is."""

import os
from pathlib import Path

import pytest

from tests.fakes.routers import KEEPER


@pytest.fixture
def calls(monkeypatch):
    """Flushes and renames, in their order, as `(call, name, bytes)`; they are done all the same."""
    seen, flush, rename = [], os.fsync, os.rename

    def fsync(descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        seen.append(("fsync", path.name, path.is_file() and path.stat().st_size))
        flush(descriptor)

    def renamed(source, target):
        seen.append(("rename", Path(target).name, Path(source).stat().st_size))
        rename(source, target)

    monkeypatch.syspath_prepend(KEEPER)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", renamed)
    return seen


@pytest.fixture
def folder(state, calls):
    from mlops_keeper.folder import Folder  # noqa: PLC0415 - it is found by `calls`

    return Folder(str(state.root))


def test_a_value_is_flushed_before_it_takes_the_place_of_the_old_one_and_its_name_after(folder, calls):
    folder.write("keys/live.json", b"12345")
    assert calls == [("fsync", ".live.json.new", 5), ("rename", "live.json", 5), ("fsync", "keys", False)]


def test_what_is_made_anew_at_every_start_is_not_flushed(folder, calls):
    folder.write("route.map", b"12345", durable=False)
    assert calls == [("rename", "route.map", 5)]


def test_a_line_is_flushed_and_the_name_of_a_new_journal(folder, calls):
    from mlops_keeper import journals  # noqa: PLC0415 - as above

    journals.append(folder, "r-1", "first", 0)
    file, size = "00000001.r-1.jsonl", len(b"00000000 5 first\n")
    assert calls == [("fsync", file, size), ("fsync", "journals", False)]
    calls.clear()
    journals.append(folder, "r-1", "other", 1)
    assert calls == [("fsync", file, 2 * size)]


def test_a_route_is_flushed_before_the_map_is_written(folder, calls):
    from mlops_keeper.serve import Keeper  # noqa: PLC0415 - as above

    keeper = Keeper(folder.root, "/nowhere")
    lease = {"token": 1, "holder": "test", "ttl": 60.0}
    keeper.put({"key": "lease", "value": lease, "index": 0, "token": 1})
    calls.clear()
    keeper.commit({"route": {"share_b": 1, "closed": False}, "generation": 0, "token": 1})
    assert [call[:2] for call in calls] == [
        ("fsync", ".route.json.new"),
        ("rename", "route.json"),
        ("fsync", "state"),
        ("rename", "route.map"),
    ]
