import sqlite3
import time
from dataclasses import replace

import pytest

from mlops_deploy.oci.inventory import take_inventory
from mlops_deploy.oci.packing import plan_layers
from mlops_deploy.oci.types import LAYER, Descriptor
from mlops_deploy.spec.refs import Digest
from mlops_deploy.spec.requires import Sniffed
from mlops_deploy.store import cache as cache_module
from mlops_deploy.store.cache import DigestCache
from tests.fakes.carriers import write_model

SUM = "0" * 64


@pytest.fixture
def files(tmp_path):
    return take_inventory(write_model(tmp_path / "m", {"a": b"1", "b": b"22"})).files


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "digests.sqlite"


def remember(cache, files, seen_ns=None):
    plans = plan_layers(files)
    sums = {file.path: SUM for file in files}
    layers = [Descriptor(media_type=LAYER, digest=Digest("1" * 64), size=plan.size) for plan in plans]
    cache.remember(files, zip(plans, layers, strict=True), sums, seen_ns or time.time_ns() + 10**10)
    return plans, sums, layers


def test_what_was_remembered_is_known(path, files):
    plans, sums, layers = remember(DigestCache(path), files)
    assert DigestCache(path).known(files) == sums
    assert DigestCache(path).layers(plans, sums) == layers


@pytest.mark.parametrize("part", ["device", "inode", "size", "mtime_ns", "ctime_ns"])
def test_a_file_with_another_stamp_is_not_known(path, files, part):
    remember(DigestCache(path), files)
    stamp = replace(files[0].stamp, **{part: getattr(files[0].stamp, part) + 1})
    assert DigestCache(path).known([replace(files[0], stamp=stamp)]) == {}


def test_a_layer_with_another_file_name_sum_or_size_is_another(path, files):
    plans, sums, _ = remember(DigestCache(path), files)
    cache = DigestCache(path)
    assert cache.layers(plans, sums | {"a": "2" * 64}) == [None]
    assert cache.layers(plans, {"a": SUM}) == [None]
    renamed = plan_layers([replace(files[0], path="aa"), files[1]])
    assert cache.layers(renamed, sums | {"aa": SUM}) == [None]


def test_a_layer_of_another_revision_of_the_tar_writer_is_another(path, files, monkeypatch):
    plans, sums, layers = remember(DigestCache(path), files)
    monkeypatch.setattr(cache_module, "REVISION", cache_module.REVISION + 1)
    assert DigestCache(path).layers(plans, sums) == [None] * len(layers)


def test_a_file_touched_just_before_it_was_looked_at_is_read_again(path, files):
    ctime = files[0].stamp.ctime_ns
    remember(DigestCache(path), files, seen_ns=ctime + 50_000_000)
    assert DigestCache(path).known(files) == {}
    remember(DigestCache(path), files, seen_ns=max(file.stamp.ctime_ns for file in files) + 150_000_000)
    assert set(DigestCache(path).known(files)) == {"a", "b"}


def test_times_in_whole_seconds_are_trusted_later(path, files):
    coarse = replace(files[0], stamp=replace(files[0].stamp, ctime_ns=5 * 10**9))
    remember(DigestCache(path), [coarse], seen_ns=6 * 10**9)
    assert DigestCache(path).known([coarse]) == {}
    remember(DigestCache(path), [coarse], seen_ns=8 * 10**9)
    assert DigestCache(path).known([coarse]) == {"a": SUM}


def test_inodes_beyond_63_bits_and_names_that_are_not_utf_8(path, files):
    odd = replace(files[0], source="/m/\udcff", stamp=replace(files[0].stamp, inode=2**64 - 1))
    remember(DigestCache(path), [odd])
    assert DigestCache(path).known([odd]) == {"a": SUM}


@pytest.mark.parametrize("damage", [b"garbage" * 1000, b"", b"SQLite format 3\0" + b"\xff" * 8192])
def test_a_damaged_file_knows_nothing_and_is_made_again(path, files, damage):
    remember(DigestCache(path), files)
    path.write_bytes(damage)
    assert DigestCache(path).known(files) == {}
    remember(DigestCache(path), files)
    remember(DigestCache(path), files)
    assert set(DigestCache(path).known(files)) == {"a", "b"}


def test_a_file_cut_short_knows_nothing_that_is_wrong(path, files):
    remember(DigestCache(path), files)
    data = path.read_bytes()
    for length in range(0, len(data), 512):
        path.write_bytes(data[:length])
        assert DigestCache(path).known(files) in ({}, {"a": SUM, "b": SUM})


def test_another_schema_knows_nothing(path, files):
    path.parent.mkdir()
    with sqlite3.connect(path) as database:
        database.execute("create table file (other int)")
        database.execute("insert into file values (1)")
    database.close()
    assert DigestCache(path).known(files) == {}
    remember(DigestCache(path), files)


def test_a_digest_that_is_none(path, files):
    plans, sums, _ = remember(DigestCache(path), files)
    with sqlite3.connect(path) as database:
        database.execute("update layer set digest = 'garbage'")
    database.close()
    assert DigestCache(path).layers(plans, sums) == [None]


def test_a_locked_database_is_left_alone(path, files, monkeypatch):
    remember(DigestCache(path), files)
    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **named: real(*args, **(named | {"timeout": 0.01})))
    holder = real(path)
    holder.execute("begin exclusive")
    assert DigestCache(path).known(files) == {}
    remember(DigestCache(path), files)
    holder.rollback()
    holder.close()
    assert set(DigestCache(path).known(files)) == {"a", "b"}


@pytest.mark.parametrize("where", ["file", "folder"])
def test_a_place_that_cannot_hold_it(tmp_path, files, where):
    if where == "file":
        (tmp_path / "cache").touch()
    else:
        (tmp_path / "cache" / "digests.sqlite").mkdir(parents=True)
    cache = DigestCache(tmp_path / "cache" / "digests.sqlite")
    remember(cache, files)
    assert cache.known(files) == {}


def test_no_cache_at_all(files):
    plans, sums, _ = remember(DigestCache(None), files)
    assert DigestCache(None).known(files) == {}
    assert DigestCache(None).layers(plans, sums) == [None]


def test_looking_makes_nothing(path, files):
    assert DigestCache(path).known(files) == {}
    assert not path.parent.exists()


def test_paths_with_odd_characters(tmp_path, files):
    path = tmp_path / "a?b#c %41" / "digests.sqlite"
    remember(DigestCache(path), files)
    assert set(DigestCache(path).known(files)) == {"a", "b"}
    assert list(path.parent.iterdir()) == [path]


FACTS = {"a": Sniffed(format="onnx", requires=("onnx-opset<=17", "onnx-ir<=9")), "b": Sniffed()}


def remember_facts(path, files, revision=3):
    plans = plan_layers(files)
    layers = [(plan, Descriptor(media_type=LAYER, digest=Digest("1" * 64), size=plan.size)) for plan in plans]
    sums = {file.path: SUM for file in files}
    DigestCache(path).remember(files, layers, sums, time.time_ns() + 10**10, facts=FACTS, revision=revision)


def test_what_files_say_of_themselves_is_known_to_readers_of_that_revision_alone(path, files):
    remember_facts(path, files)
    assert DigestCache(path).facts(files, 3) == FACTS
    assert DigestCache(path).facts(files, 4) == {}
    remember_facts(path, files, revision=4)
    assert DigestCache(path).facts(files, 4) == FACTS


def test_what_another_file_said_at_the_same_place_is_not_known(path, files):
    remember_facts(path, files)
    other = replace(files[0], stamp=replace(files[0].stamp, mtime_ns=1))
    assert set(DigestCache(path).facts([other, files[1]], 3)) == {"b"}


def test_what_a_file_says_under_another_name_is_not_known(path, files):
    remember_facts(path, files)
    assert set(DigestCache(path).facts([replace(files[0], path="c"), files[1]], 3)) == {"b"}
    assert set(DigestCache(path).facts([replace(files[0], path="folder/a")], 3)) == {"folder/a"}
    linked = [files[0], replace(files[0], path="b")]
    remember_facts(path, linked)
    assert DigestCache(path).facts(linked, 3) == FACTS


@pytest.mark.parametrize("said", ["{}", "[]", "nonsense", "[1"])
def test_facts_that_cannot_be_read_are_not_known(path, files, said):
    remember_facts(path, files)
    with sqlite3.connect(path) as database:
        database.execute("update said set said = ?", (said,))
    database.close()
    assert DigestCache(path).facts(files, 3) == {}


def test_a_file_was_written_when_it_is_the_same_with_another_time(path, files):
    remember(DigestCache(path), files)
    stamp = files[0].stamp
    written = replace(files[0], stamp=replace(stamp, mtime_ns=stamp.mtime_ns + 1))
    replaced = replace(files[0], stamp=replace(stamp, mtime_ns=stamp.mtime_ns + 1, inode=stamp.inode + 1))
    cache = DigestCache(path)
    assert cache.written([written, files[1]]) == {"a"}
    assert cache.written([replaced, files[1]]) == frozenset()
    assert DigestCache(None).written([written]) == frozenset()
