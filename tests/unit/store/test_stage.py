"""A model on its way to a volume: what is kept of an earlier try, what is hashed, and what is on disk."""

import os
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest

from mlops_deploy.oci.metadata import FileSum
from mlops_deploy.store import stage as module
from mlops_deploy.store.stage import Stage
from mlops_deploy.store.volume import VolumeError
from tests.fakes.opened import opened

DATA = {"a": os.urandom(3000), "deep/er/b": os.urandom(2000), "deep/c": b""}
LONG = os.urandom(5_000_000)


def sums(data=DATA):
    return [FileSum(path=path, size=len(content), sha256=sha256(content).hexdigest()) for path, content in data.items()]


def written(stage, data=DATA):
    for file in sums(data):
        with stage.open(file.path, file.size) as target:
            target.write(data[file.path])
            assert target.digest == file.sha256
            stage.finish(file.path, target)


def flushes(monkeypatch):
    """What is flushed from now on: the path, with its mode and size at that time."""
    real, seen = os.fsync, []

    def fsync(handle):
        status = os.fstat(handle)
        size = 0 if status.st_mode & 0o40000 else status.st_size
        seen.append((str(Path(f"/proc/self/fd/{handle}").readlink()), status.st_mode & 0o7777, size))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    return seen


@pytest.fixture
def top(tmp_path):
    return tmp_path / "model"


def test_files_are_flushed_with_their_modes_and_before_their_folders(top, monkeypatch):
    seen = flushes(monkeypatch)
    before = os.umask(0o077)
    try:
        stage = Stage(top, sums())
    finally:
        os.umask(before)
    written(stage)
    assert seen == []
    stage.flush()
    files = [(str(top / path), 0o444, len(content)) for path, content in DATA.items()]
    assert sorted(seen[:3]) == sorted(files)
    assert seen[3:] == [(str(top / folder), 0o755, 0) for folder in ("deep/er", "deep", ".")]


def test_a_large_file_is_flushed_with_its_mode_as_soon_as_it_is_whole(top, monkeypatch):
    monkeypatch.setattr(module, "_LARGE", 3000)
    seen = flushes(monkeypatch)
    stage = Stage(top, sums())
    written(stage)
    assert seen == [(str(top / "a"), 0o444, 3000)]
    stage.flush()
    assert {path for path, _, _ in seen} >= {str(top / path) for path in DATA}


def test_a_file_that_cannot_be_flushed_is_an_error(top, monkeypatch):
    def fsync(handle):
        raise OSError(5, "Input/output error")

    stage = Stage(top, sums())
    written(stage)
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(VolumeError, match="input/output error"):
        stage.flush()


def test_what_became_a_link_meanwhile_is_not_flushed_in_its_place(top, tmp_path):
    stage = Stage(top, sums())
    written(stage)
    (top / "a").rename(tmp_path / "elsewhere")
    (top / "a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(VolumeError):
        stage.flush()


def test_a_link_in_the_place_of_a_file_is_not_written_through(top, tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"outside")
    stage = Stage(top, sums())
    (top / "a").symlink_to(outside)
    with pytest.raises(VolumeError):
        stage.open("a", 3000)
    assert outside.read_bytes() == b"outside"
    assert opened(tmp_path) == []


def test_a_file_that_cannot_be_read_is_an_error_and_is_let_go_of(top, monkeypatch):
    def read(handle, size):
        raise OSError(5, "Input/output error")

    stage = Stage(top, sums())
    monkeypatch.setattr(os, "read", read)
    with pytest.raises(VolumeError, match="input/output error"):
        stage.open("a", 3000)
    assert opened(top) == []


def test_a_link_in_the_place_of_the_folder_is_not_followed(top, tmp_path):
    outside = tmp_path / "outside"
    (outside / "stranger").mkdir(parents=True)
    (outside / "x").write_bytes(b"outside")
    top.symlink_to(outside)
    assert not Stage(top, sums()).kept
    assert (outside / "x").read_bytes() == b"outside"
    assert (outside / "stranger").is_dir()


@pytest.mark.parametrize("what", ["longer", "no part", "link", "hard link", "fifo", "folder", "stranger"])
def test_what_cannot_be_a_part_of_the_model_is_removed_and_not_kept(top, tmp_path, what):
    outside = tmp_path / "outside"
    outside.write_bytes(b"outside")
    top.mkdir()
    place = top / "a"
    match what:
        case "longer":
            place.write_bytes(bytes(3001))
        case "no part":
            place = top / "no part"
            place.write_bytes(b"")
        case "link":
            place.symlink_to(outside)
        case "hard link":
            place.hardlink_to(outside)
        case "fifo":
            os.mkfifo(place)
        case "folder":
            place.mkdir()
        case "stranger":
            place = top / "stranger"
            (place / "er").mkdir(parents=True)
    assert Stage(top, sums()).kept == {}
    assert not os.path.lexists(place)
    assert outside.read_bytes() == b"outside"
    assert outside.stat().st_nlink == 1


@pytest.mark.parametrize("size", [0, 1, 2999, 3000])
def test_the_first_bytes_of_a_file_are_kept_and_hashed(top, size):
    top.mkdir()
    (top / "a").write_bytes(DATA["a"][:size])
    (top / "a").chmod(0o444)
    stage = Stage(top, sums())
    assert stage.kept == {"a": size}
    with stage.open("a", 3000) as file:
        assert file.kept == size
        file.write(DATA["a"][size:])
        assert file.digest == sums()[0].sha256
    assert (top / "a").read_bytes() == DATA["a"]


def test_only_a_whole_file_with_the_right_bytes_is_right(top, monkeypatch):
    for left, right in ((DATA["a"], True), (bytes(3000), False), (DATA["a"][:2999], False)):
        top.mkdir(exist_ok=True)
        (top / "a").unlink(missing_ok=True)
        (top / "a").write_bytes(left)
        stage = Stage(top, sums())
        assert stage.is_right("a", 3000, sums()[0].sha256) is right
        assert (top / "a").exists() is (right or len(left) < 3000)
    assert not Stage(top, sums()).is_right("deep/c", 0, sha256(b"").hexdigest())
    assert not (top / "deep" / "c").exists()


def test_what_was_left_whole_is_flushed_too(top, monkeypatch):
    top.mkdir()
    (top / "a").write_bytes(DATA["a"])
    stage = Stage(top, sums())
    assert stage.is_right("a", 3000, sums()[0].sha256)
    seen = flushes(monkeypatch)
    stage.flush()
    assert (str(top / "a"), 0o444, 3000) in seen


def slow_first(monkeypatch):
    """The first pieces are hashed late, and all of them on other threads."""
    real, calls = module._update, []

    def update(hashed, pieces):
        calls.append(len(calls))
        if calls[-1] == 0:
            time.sleep(0.2)
        real(hashed, pieces)

    monkeypatch.setattr(module, "_WORTH_A_THREAD", 1)
    monkeypatch.setattr(module, "_update", update)


def test_pieces_are_hashed_in_their_order_however_slow(top, monkeypatch):
    slow_first(monkeypatch)
    stage = Stage(top, sums({"m": LONG}))
    with stage.open("m", len(LONG)) as file:
        for at in range(0, len(LONG), 2**20):
            file.write(LONG[at : at + 2**20])
        assert file.digest == sha256(LONG).hexdigest()


def test_the_digest_waits_for_what_is_still_hashed(top, monkeypatch):
    slow_first(monkeypatch)
    with Stage(top, sums({"m": LONG})).open("m", len(LONG)) as file:
        file.write(LONG)
        assert file.digest == sha256(LONG).hexdigest()


@pytest.mark.parametrize("wrong", [b"x" * 100, b"x" * 2**21, b"x" * (2**21 + 100)])
def test_to_start_again_forgets_all_that_was_written_held_or_still_hashed(top, monkeypatch, wrong):
    slow_first(monkeypatch)
    with Stage(top, sums({"m": DATA["a"]})).open("m", 3000) as file:
        file.write(wrong)
        file.restart()
        file.write(DATA["a"])
        assert file.digest == sha256(DATA["a"]).hexdigest()
        assert file.kept == 0
    assert (top / "m").read_bytes() == DATA["a"]


def test_what_has_come_is_on_the_volume_when_a_copy_breaks_off(top):
    stage = Stage(top, sums())
    with suppress(KeyboardInterrupt), stage.open("a", 3000) as file:
        file.write(DATA["a"][:1234])
        raise KeyboardInterrupt
    assert (top / "a").read_bytes() == DATA["a"][:1234]
    assert Stage(top, sums()).kept == {"a": 1234}


def test_the_kernel_is_asked_to_write_back_each_byte_once(top, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "_begin_write_back", lambda handle, start, size: asked.append((start, size)))
    monkeypatch.setattr(module, "_WRITE_BACK", 2 * 2**20)
    with Stage(top, sums({"m": LONG})).open("m", len(LONG)) as file:
        for at in range(0, len(LONG), 2**20):
            file.write(LONG[at : at + 2**20])
    assert asked == [(0, 2 * 2**20), (2 * 2**20, 2 * 2**20)]


def test_a_write_that_the_kernel_takes_in_parts_is_whole(top, monkeypatch):
    many, one = os.writev, os.write
    monkeypatch.setattr(os, "writev", lambda handle, pieces: many(handle, [bytes(pieces[0])[:7]]))
    monkeypatch.setattr(os, "write", lambda handle, data: one(handle, bytes(data[:1000])))
    written(Stage(top, sums()))
    assert (top / "a").read_bytes() == DATA["a"]
