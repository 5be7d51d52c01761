"""What `pull` promises, case by case. Kills, mixes with deploy.sh, real registries: tests/integration/test_pull*.py."""

import os
import re
import shutil
import tarfile
import threading
import time
from pathlib import Path

import pytest

from mlops_deploy.api import pull as pulling
from mlops_deploy.api import receiving
from mlops_deploy.api.origins import StoreOrigin
from mlops_deploy.api.pull import pull_from
from mlops_deploy.errors import ContentMismatchError, UnreachableError
from mlops_deploy.oci import packing
from mlops_deploy.spec.refs import ContentId
from mlops_deploy.store import claims
from mlops_deploy.store import stage as staging
from mlops_deploy.store.layout import LayoutStore
from mlops_deploy.store.volume import InTheWayError, VolumeError
from tests.fakes.carriers import Silent
from tests.fakes.crafted import Crafted, good_carrier, huge_records, member, old_sparse, rewritten
from tests.fakes.pullable import FILES, Pullable, pullable

BIG = {f"part {n}": os.urandom(300_000 + n) for n in range(4)} | {"small/a": b"a", "small/b": b"b" * 9000}


@pytest.fixture
def volume(tmp_path: Path) -> Pullable:
    return pullable(tmp_path)


@pytest.fixture
def sharded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pullable:
    """A model of four big files, each in a layer of its own, and a layer of small ones."""
    monkeypatch.setattr(packing, "BIG", 100_000)
    return pullable(tmp_path, BIG)


def pull(volume, origin=None, **how):
    return pull_from(origin or volume.origin(), volume.path, Silent(), **how)


def claims_of(volume):
    return sorted(volume.path.glob("v/.[0-9a-f]*.*"))


def test_copies_once_and_then_finds(volume):
    first, second = pull(volume), pull(volume)
    size = sum(map(len, FILES.values()))
    said = rf"{volume.name} {volume.carrier.id[:12]}: {size} bytes in \d+ s"
    assert re.fullmatch("copied " + said, first.line)
    assert re.fullmatch("found " + said, second.line)
    assert (first.bytes_pulled, first.bytes_adopted, second.bytes_pulled) == (size, 0, 0)
    assert first.path == volume.home
    assert volume.is_whole()
    assert volume.is_clean()
    assert volume.link.readlink() == Path("v", volume.carrier.id)


def test_others_can_read_and_nobody_can_write(volume):
    before = os.umask(0o077)
    try:
        pull(volume)
    finally:
        os.umask(before)
    modes = {path.is_dir(): path.stat().st_mode & 0o7777 for path in [volume.home, *volume.home.rglob("*")]}
    assert modes == {True: 0o755, False: 0o444}
    assert (volume.path / "v").stat().st_mode & 0o7777 == 0o755


class Absent:
    """A registry that must not be asked."""

    def __init__(self, origin):
        self.ref, self.digest = origin.ref, origin.digest


def test_what_was_pulled_is_found_without_asking_anybody(volume):
    pull(volume)
    found = pull(volume, Absent(volume.origin()), content_id=ContentId(volume.carrier.id))
    assert found.found
    assert (found.name, found.content_id.hex) == (volume.name, volume.carrier.id)


def test_what_is_remembered_of_models_that_are_gone_is_forgotten(volume, tmp_path):
    pull(volume)
    other = pullable(tmp_path / "other", {"w": b"w"}, "wine")
    shutil.rmtree(volume.home)
    pull_from(other.origin(), volume.path, Silent())
    assert len(list((volume.path / "v" / ".listings").iterdir())) == 1


def test_another_model_than_expected_is_refused_before_the_volume_is_touched(volume):
    with pytest.raises(ContentMismatchError, match=r"carries model .* expected"):
        pull(volume, content_id=ContentId("0" * 64))
    assert not volume.path.exists()


@pytest.mark.parametrize(
    "damage", ["missing", "extra", "extra link", "short", "link", "link of its size", "file", "empty", "bits"]
)
def test_replaces_what_is_damaged(volume, damage):
    pull(volume)
    victim = volume.home / "model.bin"
    reader = victim.open("rb")
    match damage:
        case "missing":
            victim.unlink()
        case "extra":
            (volume.home / "extra").write_bytes(b"")
        case "extra link":
            (volume.home / "extra").symlink_to("model.bin")
        case "short":
            os.truncate(victim, 5)
        case "link":
            victim.unlink()
            victim.symlink_to(volume.carrier.root / "models" / "model.bin")
        case "link of its size":
            small = volume.home / "names with blanks" / "a b.txt"
            small.unlink()
            small.symlink_to("x" * 6)  # a link's size is its target's length
        case "file" | "empty":
            shutil.rmtree(volume.home)
            volume.home.mkdir() if damage == "empty" else volume.home.write_bytes(b"")
        case "bits":
            victim.chmod(0o600)
            victim.write_bytes(b"\xff" + victim.read_bytes()[1:])
            assert pull(volume).found
    assert not pull(volume, rehash=damage == "bits").found
    assert volume.is_whole()
    assert volume.is_clean()
    with reader:
        assert len(reader.read()) == (5 if damage == "short" else len(FILES["model.bin"]))


def test_hashes_what_it_finds_only_when_asked(volume):
    pull(volume)
    assert pull(volume, rehash=True).found


def test_the_link_follows_the_last_pulled(volume, tmp_path):
    other = pullable(tmp_path / "other", {"model.bin": b"other"})
    for each in (volume, other, volume):
        pull_from(each.origin(), volume.path, Silent())
        assert volume.link.readlink() == Path("v", each.carrier.id)


@pytest.mark.parametrize("place", ["v", "home", ".alive"])
def test_links_are_refused_and_not_followed(volume, tmp_path, place):
    outside = tmp_path / "outside"
    outside.mkdir()
    volume.path.mkdir()
    path = {"v": volume.path / "v", "home": volume.home, ".alive": volume.path / "v" / ".alive"}[place]
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(outside)
    with pytest.raises(InTheWayError, match="is a link"):
        pull(volume)
    assert not list(outside.iterdir())


def test_what_is_in_the_way_is_refused(volume):
    volume.link.mkdir(parents=True)
    with pytest.raises(InTheWayError, match="in the way"):
        pull(volume)
    volume.link.rmdir()
    (volume.path / "v").mkdir()
    (volume.path / "v" / ".alive").write_bytes(b"")
    with pytest.raises(InTheWayError, match="not a fifo"):
        pull(volume)


def test_a_volume_that_cannot_be_made(volume):
    volume.path.write_bytes(b"")
    with pytest.raises(VolumeError, match="is no folder") as refused:
        pull(volume)
    assert refused.value.code == 73


# Interrupted


def interrupted(volume, most, piece=4096):
    origin = volume.origin(most=most, piece=piece)
    with pytest.raises(UnreachableError):
        pull(volume, origin)
    assert not volume.home.exists()
    assert not volume.link.is_symlink()
    return origin.given


@pytest.mark.parametrize("most", [0, 600, 100_000, 305_000, 700_000, 1_200_000])
def test_goes_on_where_it_was_interrupted(sharded, most):
    """What was there is not asked for again, but for headers and what was in flight."""
    size = sum(map(len, BIG.values()))
    given = interrupted(sharded, most, piece=4096)
    again = sharded.origin(piece=4096)
    done = pull(sharded, again)
    assert done.bytes_pulled + done.bytes_adopted == size
    assert given - done.bytes_adopted <= 4 * 3 * 4096
    assert again.given <= done.bytes_pulled + 5 * 3 * 4096
    assert sharded.is_whole()
    assert sharded.is_clean()


def test_layers_that_were_whole_are_not_asked_for(sharded, monkeypatch):
    monkeypatch.setattr(receiving, "_ABREAST", 1)
    interrupted(sharded, 1_000_000)
    again = sharded.origin()
    pull(sharded, again)
    assert [start > 50_000 for _, start in again.reads] == [True, False]
    assert again.given < sum(map(len, BIG.values())) - 1_000_000 + 5 * 4096


def test_goes_on_after_several_interruptions(sharded):
    for _ in range(40):
        try:
            pull(sharded, sharded.origin(most=100_000, piece=4096))
            break
        except UnreachableError:
            assert sharded.is_never_half()
    assert sharded.is_whole()


@pytest.mark.parametrize("packed", ["as today", "otherwise"])
@pytest.mark.parametrize("wrong", ["bits", "longer", "link", "hard link", "folder", "stranger", "zeros"])
def test_what_is_wrong_in_what_was_left_is_fetched_again(sharded, wrong, packed, monkeypatch, tmp_path):
    interrupted(sharded, 1_000_000)
    (left,) = claims_of(sharded)
    model = left / "model"
    victim = max(model.glob("part *"), key=lambda p: p.stat().st_size)
    outside = tmp_path / "outside"
    outside.write_bytes(b"outside")
    match wrong:
        case "bits":
            victim.write_bytes(b"\xff" * victim.stat().st_size if victim.stat().st_size else b"")
        case "longer":
            victim.write_bytes(bytes(2**20))
        case "zeros":
            victim.write_bytes(bytes(len(BIG[victim.name])))
        case "link":
            victim.unlink()
            victim.symlink_to(outside)
        case "hard link":
            victim.unlink()
            victim.hardlink_to(outside)
        case "folder":
            victim.unlink()
            victim.mkdir()
            (victim / "x").write_bytes(b"")
        case "stranger":
            (model / "stranger").mkdir()
            (model / "stranger" / "x").write_bytes(b"")
    if packed == "otherwise":
        monkeypatch.setattr(packing, "BIG", 1)
    pull(sharded)
    assert outside.read_bytes() == b"outside"
    assert sharded.is_whole()
    assert not (sharded.home / "stranger").exists()
    assert sharded.is_clean()


def test_what_dead_pulls_of_other_models_left_is_removed(sharded, tmp_path):
    interrupted(sharded, 700_000)
    other = pullable(tmp_path / "other", {"w": b"w"}, "wine")
    pull_from(other.origin(), sharded.path, Silent())
    assert not claims_of(sharded)


@pytest.mark.parametrize("large", [0, 2**40])
def test_all_of_it_is_on_disk_before_it_has_its_name(sharded, monkeypatch, large):
    """Also where each file is flushed as soon as it is whole; afterwards the name is, too."""
    monkeypatch.setattr(staging, "_LARGE", large)
    real, before, after = os.fsync, set(), set()

    def fsync(handle):
        path = Path(f"/proc/self/fd/{handle}").readlink()
        (after if sharded.home.exists() else before).add(path)
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    pull(sharded)
    model = sharded.path / "v" / f".{sharded.carrier.id}.1" / "model"
    assert before >= {model, model / "small", *(model / name for name in BIG)}
    assert after >= {sharded.path, sharded.path / "v"}


def test_a_file_that_the_kernel_takes_in_parts_is_whole(volume, monkeypatch):
    real_many, real_one = os.writev, os.write
    monkeypatch.setattr(os, "writev", lambda handle, pieces: real_many(handle, [pieces[0][:1000]]))
    monkeypatch.setattr(os, "write", lambda handle, data: real_one(handle, bytes(data[:5000])))
    pull(volume)
    assert volume.is_whole()


# At once


def test_several_at_once_copy_once(sharded, monkeypatch):
    monkeypatch.setattr(claims, "_LOOK", 0.05)
    done, origins = [], [sharded.origin() for _ in range(8)]
    threads = [threading.Thread(target=lambda o=o: done.append(pull(sharded, o))) for o in origins]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.found for one in done) == [False] + [True] * 7
    assert sum(one.bytes_pulled for one in done) == sum(map(len, BIG.values()))
    assert sharded.is_whole()
    assert sharded.is_clean()


def test_who_holds_the_fifo_open_holds_up_nobody_for_ever(volume, monkeypatch):
    monkeypatch.setattr(pulling, "_PATIENCE", 5)
    monkeypatch.setattr(claims, "_LOOK", 0.2)
    dead = volume.path / "v" / f".{volume.carrier.id}.1"
    dead.mkdir(parents=True)
    os.mkfifo(volume.path / "v" / ".alive")
    holder = os.open(volume.path / "v" / ".alive", os.O_RDWR)
    started = time.monotonic()
    assert not pull(volume).found
    assert 0.9 < time.monotonic() - started < 30
    assert dead.exists()
    os.close(holder)
    assert pull(volume).found
    assert volume.is_clean()


def test_without_fifos_they_copy_side_by_side(volume, monkeypatch):
    monkeypatch.setattr(os, "mkfifo", lambda *_: (_ for _ in ()).throw(PermissionError(1, "no fifos here")))
    dead = volume.path / "v" / f".{volume.carrier.id}.1"
    dead.mkdir(parents=True)
    assert not pull(volume).found
    assert volume.is_whole()


# Room


def test_no_room_is_said_before_anything_is_written(volume, monkeypatch):
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((4096, 4096, 9, 9, 300, 9, 9, 9, 0, 255)))
    origin = volume.origin()
    with pytest.raises(VolumeError, match="has 1 MiB free, the model needs 2") as refused:
        pull(volume, origin)
    assert (refused.value.code, origin.given) == (74, 0)
    assert not claims_of(volume)


def test_what_was_adopted_needs_no_room(sharded, monkeypatch):
    interrupted(sharded, 1_100_000)
    blocks = (1300 - 900 + 2048) // 4
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((4096, 4096, 9, 9, blocks, 9, 9, 9, 0, 255)))
    assert not pull(sharded).found


# Carriers that lie


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return good_carrier(tmp_path_factory.mktemp("good"))


def more(*members):
    return lambda crafted: crafted.before_last(*members)


def layer(change):
    """The layer of the model's files, changed."""

    def apply(crafted):
        crafted.layers[1:2] = change(crafted.layers[1])

    return apply


def said(old, new, cut=0):
    """Another `manifest.json`: `new` for `old` and the `cut` bytes after it."""

    def change(info, data):
        if info.name != "carrier/manifest.json":
            return info, data
        assert old in data
        before, _, after = data.partition(old)
        return member(info.name, before + new + after[cut:])

    return lambda crafted: crafted.in_last(change)


LIES = {
    "a stranger": more(member("models/stranger", b"x")),
    "a file twice": more(member("models/model.bin", b"weights" * 1000)),
    "a file outside": more(member("models/../../outside", b"x")),
    "a link": more(member("models/link", type=tarfile.SYMTYPE, linkname="/etc/passwd")),
    "a device": more(member("models/device", type=tarfile.CHRTYPE)),
    "a sparse file": layer(lambda data: [data, old_sparse("models/model.bin", 2**50) + bytes(1024)]),
    "endless records": layer(lambda data: [data, huge_records(2**30) + bytes(1024)]),
    "nothing": layer(lambda _: []),
    "other bytes": layer(lambda data: [data.replace(b"weightsweights", b"weightsWeights", 1)]),
    "bytes after the end": layer(lambda data: [data + b"x"]),
    "an end too early": layer(lambda data: [data[:-1024]]),
    "another size": layer(lambda data: [rewritten(data, lambda m, was: member(m.name, was + b"x" * bool(was)))]),
    "paths that leave": said(b'"path":"model.bin"', b'"path":"../odel.bin"'),
    "paths from the root": said(b'"path":"model.bin"', b'"path":"/tmp/x.bin"'),
    "a file in a file": said(b'"path":"with blanks/', b'"path":"model.bin/xx'),
    "a path twice": said('"path":"with blanks/vocäb"'.encode(), b'"path":"model.bin"'),
    "another content id": said(b'"content_id": "', b'"content_id": "0000', cut=4),
    "another hash": said(b'"sha256":"', b'"sha256":"00', cut=2),
}


@pytest.mark.parametrize("kind", LIES)
def test_a_carrier_that_lies_is_refused(good, tmp_path, kind):
    crafted = Crafted(good, tmp_path / "store")
    LIES[kind](crafted)
    crafted.write()
    store, volume = LayoutStore(crafted.path), tmp_path / "volume"
    with pytest.raises(ContentMismatchError, match="damaged") as refused:
        pull_from(StoreOrigin(store, store.find("digits:1")), volume, Silent())
    assert refused.value.hint
    assert {path.name for path in volume.rglob("*")} <= {"v", ".alive"}
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("how", ["missing", "longer", "shorter", "other"])
def test_a_blob_that_is_not_what_it_should_be(good, tmp_path, how):
    store = LayoutStore(Path(shutil.copytree(good, tmp_path / "store")))
    origin = StoreOrigin(store, store.find("digits:1"))
    path = store.blob_path(origin.carrier.images[0].layers[1].digest)
    data = path.read_bytes()
    match how:
        case "missing":
            path.unlink()
        case "longer":
            path.write_bytes(data + bytes(2**20))
        case "shorter":
            path.write_bytes(data[:-2000])
        case "other":
            path.write_bytes(data.replace(b"weightsweights", b"weightsWeights", 1))
    with pytest.raises(ContentMismatchError, match="damaged"):
        pull_from(origin, tmp_path / "volume", Silent())
    assert {path.name for path in (tmp_path / "volume").rglob("*")} <= {"v", ".alive"}
