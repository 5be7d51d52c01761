"""What a volume remembers of carriers, whatever somebody has put among it."""

import os
from threading import Thread

import pytest

from mlops_deploy.api.pull import sound
from mlops_deploy.oci import partial
from mlops_deploy.spec.refs import Digest
from mlops_deploy.store import records as module
from mlops_deploy.store.records import Records
from mlops_deploy.store.volume import Volume
from tests.fakes.opened import opened
from tests.fakes.pullable import pullable

OTHER = Digest("0" * 64)


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A carrier's digest, its content id and its `manifest.json`."""
    origin = pullable(tmp_path_factory.mktemp("known"), {"m": b"m"}).origin()
    listing = origin.carrier.listing
    return origin.digest, listing.content_id, sound(listing).manifest


@pytest.fixture
def records(tmp_path, known):
    volume = Volume(tmp_path / "volume")
    volume.prepare()
    volume.home(known[1]).mkdir()
    return Records(volume)


@pytest.fixture
def folder(records):
    return records.volume.versions / ".listings"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_was_written_down_is_read_again(records, folder, known):
    digest, content, manifest = known
    assert records.listing(digest) is None
    records.remember(digest, manifest)
    assert records.listing(digest).content_id == content
    assert names(folder) == [digest.hex]


def test_it_is_on_disk_before_it_has_its_name(records, folder, known, monkeypatch):
    steps, flush, real = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (steps.append("flush"), flush(handle)))
    monkeypatch.setattr(os, "replace", lambda *paths, **how: (steps.append("name"), real(*paths, **how)))
    records.remember(known[0], known[2])
    assert steps == ["flush", "name"]


def test_models_that_are_there_are_remembered_and_those_that_are_gone_are_not(records, folder, known):
    digest, content, manifest = known
    records.remember(digest, manifest)
    records.remember(OTHER, manifest)
    assert names(folder) == sorted([digest.hex, OTHER.hex])
    records.volume.home(content).rmdir()
    records.remember(OTHER, manifest)
    assert names(folder) == []


@pytest.mark.parametrize("name", ["x" * 64, "A" * 64, "short", "0" * 64])
def test_what_is_no_record_holds_nobody_up(records, folder, known, name):
    folder.mkdir()
    (folder / name).write_bytes(b"nothing")
    records.remember(known[0], known[2])
    assert records.listing(known[0])
    assert (folder / name).exists() is (name != "0" * 64)


@pytest.mark.parametrize("what", ["empty", "no json", "other json", "deep", "long", "fifo", "folder", "endless"])
def test_what_cannot_be_read_is_not_remembered(records, folder, known, monkeypatch, what):
    place = folder / known[0].hex
    folder.mkdir()
    texts = {"empty": b"", "no json": b"\xff{", "other json": b"[1]", "deep": b"[" * 100_000}
    match what:
        case "fifo":
            os.mkfifo(place)
        case "folder":
            place.mkdir()
        case "endless":
            place.symlink_to("/dev/zero")
        case "long":
            monkeypatch.setattr(module, "LARGEST_METADATA", len(known[2]) // 2)
            place.write_bytes(known[2])
        case _:
            place.write_bytes(texts[what])
    read = []
    reading = Thread(target=lambda: read.append(records.listing(known[0])), daemon=True)
    reading.start()
    reading.join(60)
    assert read == [None]
    assert opened(folder) == []


def test_what_killed_writers_left_is_swept(records, folder, known):
    folder.mkdir()
    (folder / f"{partial._PREFIX}1-0{partial._SUFFIX}").write_bytes(b"half")
    records.remember(known[0], known[2])
    assert names(folder) == [known[0].hex]


def test_a_volume_that_cannot_be_written_is_no_error_and_leaves_no_half(records, folder, known, monkeypatch):
    def replace(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "replace", replace)
    records.remember(known[0], known[2])
    assert names(folder) == []
    folder.rmdir()
    folder.write_bytes(b"")
    records.remember(known[0], known[2])
    assert records.listing(known[0]) is None


def test_a_record_of_other_bytes_is_replaced(records, known):
    records.remember(known[0], b"{}")
    assert records.listing(known[0]) is None
    records.remember(known[0], known[2])
    assert records.listing(known[0]).content_id == known[1]
