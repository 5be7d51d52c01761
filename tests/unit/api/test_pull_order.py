"""The order in which `pull` makes a model last and gives it its name, and what happens at its edges."""

import os
import shutil
from pathlib import Path

import pytest

from mlops_deploy.api import pull as pulling
from mlops_deploy.api import receiving
from mlops_deploy.api.pull import pull_from
from mlops_deploy.api.receiving import Receiver
from mlops_deploy.errors import ContentMismatchError
from mlops_deploy.oci import packing
from mlops_deploy.spec.refs import ContentId
from mlops_deploy.store import stage as staging
from mlops_deploy.store.claims import Claim, Claims
from mlops_deploy.store.stage import Stage
from mlops_deploy.store.volume import VolumeError
from tests.fakes.carriers import Silent
from tests.fakes.pullable import FILES, pullable


@pytest.fixture
def volume(tmp_path):
    return pullable(tmp_path)


def pull(volume, **how):
    return pull_from(volume.origin(), volume.path, Silent(), **how)


@pytest.fixture
def steps(monkeypatch):
    """Every flush, write and rename from now on, with the mode and size that are flushed."""
    seen, flush, rename, many, one = [], os.fsync, os.rename, os.writev, os.write

    def path_of(handle):
        return Path(f"/proc/self/fd/{handle}").readlink()

    def fsync(handle):
        status = os.fstat(handle)
        seen.append(("flush", path_of(handle), status.st_mode & 0o7777, status.st_size))
        flush(handle)

    def renamed(source, target, **how):
        rename(source, target, **how)
        seen.append(("rename", Path(source), Path(target)))

    def writev(handle, pieces):
        seen.append(("write", path_of(handle)))
        return many(handle, pieces)

    def write(handle, piece):
        seen.append(("write", path_of(handle)))
        return one(handle, piece)

    for name, call in (("fsync", fsync), ("rename", renamed), ("writev", writev), ("write", write)):
        monkeypatch.setattr(os, name, call)
    return seen


@pytest.mark.parametrize("large", [0, 6000, 2**40])
def test_all_of_it_lasts_before_its_one_rename_and_the_name_lasts_before_the_link(volume, steps, monkeypatch, large):
    monkeypatch.setattr(staging, "_LARGE", large)
    pull(volume)
    versions = volume.path / "v"
    model = versions / f".{volume.carrier.id}.1" / "model"
    ((named, _),) = [(at, step) for at, step in enumerate(steps) if step[0] == "rename" and step[2] == volume.home]
    assert steps[named] == ("rename", model, volume.home)
    before, after = steps[:named], steps[named + 1 :]
    places = [step[:2] for step in before]
    for path, data in FILES.items():
        flushed = before.index(("flush", model / path, 0o444, len(data)))
        assert ("write", model / path) not in places[flushed:]
        assert flushed < max(at for at, place in enumerate(places) if place == ("flush", (model / path).parent))
    for folder in (model, model / "z", model / "z" / "deep", model / "names with blanks"):
        assert [step[2] for step in before if step[:2] == ("flush", folder)] == [0o755]
    assert places.index(("flush", model)) > places.index(("flush", model / "z"))
    linked = next(at for at, step in enumerate(after) if step[0] == "rename" and step[2] == volume.link)
    lasting = [step[1] for step in after[:linked] if step[0] == "flush"]
    assert set(lasting) >= {versions, volume.path}


@pytest.mark.parametrize("failing", ["file", "folder", "v", "volume"])
def test_a_flush_that_fails_is_never_silent(volume, monkeypatch, failing):
    real = os.fsync

    def fsync(handle):
        path = Path(f"/proc/self/fd/{handle}").readlink()
        kind = {volume.path: "volume", volume.path / "v": "v"}.get(path) or ("folder" if path.is_dir() else "file")
        if kind == failing:
            raise OSError(5, "Input/output error")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(VolumeError, match="input/output error"):
        pull(volume)
    assert volume.home.exists() is (failing in {"v", "volume"})


def test_a_rename_that_fails_is_never_silent(volume, monkeypatch):
    real = os.rename

    def rename(source, target, **how):
        if Path(target) == volume.home:
            raise OSError(5, "Input/output error")
        real(source, target, **how)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(VolumeError, match="input/output error"):
        pull(volume)
    assert not volume.home.exists()
    assert not volume.link.is_symlink()
    assert not list(volume.path.glob("v/.[0-9a-f]*.*"))


def test_what_another_one_brought_while_the_claim_was_made_is_found_and_not_copied(volume, tmp_path, monkeypatch):
    pull(volume)
    volume.home.rename(tmp_path / "aside")
    volume.link.unlink()
    real = Claims.taken

    def taken(self):
        claim = real(self)
        (tmp_path / "aside").rename(volume.home)
        return claim

    monkeypatch.setattr(Claims, "taken", taken)
    origin = volume.origin()
    done = pull_from(origin, volume.path, Silent())
    assert (done.found, origin.given) == (True, 0)
    assert volume.link.readlink() == Path("v", volume.carrier.id)
    assert volume.is_clean()


def test_what_another_one_brings_while_it_is_waited_for_gets_its_link(volume, tmp_path, monkeypatch):
    pull(volume)
    volume.home.rename(tmp_path / "aside")
    volume.link.unlink()

    def taken(self):
        (tmp_path / "aside").rename(volume.home)

    monkeypatch.setattr(Claims, "taken", taken)
    assert pull(volume).found
    assert volume.link.readlink() == Path("v", volume.carrier.id)


def test_what_is_found_gets_its_link_and_dead_claims_go(volume):
    pull(volume)
    volume.link.unlink()
    (volume.path / "v" / f".{volume.carrier.id}.7").mkdir()
    assert pull(volume).found
    assert volume.link.readlink() == Path("v", volume.carrier.id)
    assert volume.is_clean()


@pytest.mark.parametrize(("free", "gone"), [(False, True), (True, False)])
def test_a_damaged_model_makes_room_only_where_there_is_none(volume, monkeypatch, free, gone):
    pull(volume)
    (volume.home / "more").write_bytes(b"damage")
    seen, real = [], os.statvfs

    def statvfs(path):
        room = real(path)
        if free or not volume.home.exists():
            return room
        return os.statvfs_result((4096, 4096, 9, 9, 300, 9, 9, 9, 0, 255))

    class Looking(Receiver):
        def receive(self, layers, tick):
            seen.append(not volume.home.exists())
            super().receive(layers, tick)

    monkeypatch.setattr(os, "statvfs", statvfs)
    monkeypatch.setattr(pulling, "Receiver", Looking)
    assert not pull(volume).found
    assert seen == [gone]
    assert volume.is_whole()


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (KeyboardInterrupt(), True),
        (ContentMismatchError("damaged"), False),
        (VolumeError("full", code=74), False),
    ],
)
def test_what_was_copied_stays_but_for_what_is_itself_at_fault(volume, monkeypatch, error, kept):
    def flush(self):
        raise error

    monkeypatch.setattr(Stage, "flush", flush)
    with pytest.raises(type(error)):
        pull(volume)
    assert bool(list(volume.path.glob("v/.[0-9a-f]*.*/model/model.bin"))) is kept
    assert not volume.home.exists()


def test_a_claim_is_released_when_all_went_well(volume, monkeypatch):
    released, real = [], Claim.release
    monkeypatch.setattr(Claim, "release", lambda self, **how: (released.append(how), real(self, **how)))
    pull(volume)
    assert released == [{}]


def test_another_model_than_expected_is_refused_also_when_it_is_there(volume):
    pull(volume)
    with pytest.raises(ContentMismatchError, match="expected"):
        pull(volume, content_id=ContentId("0" * 64))


def test_a_layer_that_fails_ends_the_others(tmp_path, monkeypatch):
    """The first failure is the one that is told, and layers that wait are not begun."""
    monkeypatch.setattr(packing, "BIG", 1000)
    monkeypatch.setattr(receiving, "_ABREAST", 1)
    volume = pullable(tmp_path, {f"{number}": os.urandom(2000 + number) for number in range(6)})
    origin = volume.origin()
    real, begun = origin.read, []

    def read(digest, **how):
        begun.append(digest)
        if len(begun) == 2:
            raise VolumeError("the first", code=74)
        return real(digest, **how)

    origin.read = read
    with pytest.raises(VolumeError, match="the first"):
        pull_from(origin, volume.path, Silent())
    assert len(begun) == 2


def test_records_that_are_lost_are_written_anew(volume):
    pull(volume)
    shutil.rmtree(volume.path / "v" / ".listings")
    assert pull(volume).found
    assert len(list((volume.path / "v" / ".listings").iterdir())) == 1


def test_what_is_remembered_is_not_written_again(volume, steps):
    pull(volume)
    (record,) = (volume.path / "v" / ".listings").iterdir()
    before = record.stat().st_ino
    kept = record.open("rb")
    origin = volume.origin()
    assert origin.ref.digest
    pull_from(origin, volume.path, Silent())
    assert record.stat().st_ino == before
    kept.close()
