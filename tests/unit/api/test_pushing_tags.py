"""A registry as a destination, step by step: which tags move, whom a layer is taken over from, what an abort ends."""

import threading
import time

import pytest

from mlops_deploy.api import pushing as module
from mlops_deploy.api.build_model import build_model
from mlops_deploy.api.pushing import RegistryDestination
from mlops_deploy.cli.destinations import push_destinations
from mlops_deploy.errors import DeployError, InterruptedByUserError
from mlops_deploy.oci.inventory import take_inventory
from mlops_deploy.oci.stream import LayerSource
from mlops_deploy.oci.types import LAYER, Descriptor
from mlops_deploy.spec.refs import Digest, ImageRef
from mlops_deploy.store.cache import DigestCache
from tests.fakes.carriers import Silent, a_build, fake_shell, write_model
from tests.fakes.registry import FakeRegistry, distribution

SHARD = Descriptor(media_type=LAYER, digest=Digest("5" * 64), size=7)


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    for name in ("XDG_CACHE_HOME", "HOME", "DOCKER_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path / "home"))


class TestTags:
    @pytest.fixture
    def registry(self):
        with FakeRegistry(distribution()).running() as running:
            yield running

    @pytest.fixture
    def pushed(self, tmp_path, registry):
        shell, models = fake_shell(tmp_path), {}

        def push(what, *tags):
            if what not in models:
                models[what] = write_model(tmp_path / what, {"m": what.encode()})
                time.sleep(0.15)  # older than the resolution of its times
            refs = [ImageRef.parse(f"{registry.host}/t/digits:{tag}") for tag in tags]
            return build_model(
                a_build(models[what], shell), push_destinations(refs, 4), DigestCache(tmp_path / "cache"), Silent()
            ).carrier

        return push

    def test_a_tag_that_names_another_carrier_is_moved_back_by_an_unchanged_push(self, registry, pushed):
        first = pushed("first", "1", "kept")
        other = pushed("other", "1")
        assert registry.content.tags["t/digits"] == {"1": str(other.digest), "kept": str(first.digest)}
        registry.asked.clear()
        assert pushed("first", "1", "kept").digest == first.digest
        assert registry.content.tags["t/digits"] == {"1": str(first.digest), "kept": str(first.digest)}
        assert [one.name for one in registry.steps("manifest-put")] == ["1"]
        assert registry.uploaded() == 0

    @pytest.mark.parametrize("longest", [2**20, 0])
    def test_a_list_that_is_too_long_is_not_fetched(self, registry, pushed, tmp_path, monkeypatch, longest):
        pushed("first", "1")
        registry.asked.clear()
        monkeypatch.setattr(module, "_LONGEST_LIST", longest)
        (place,) = push_destinations([ImageRef.parse(f"{registry.host}/t/digits:1")], 4)
        assert place.defers(take_inventory(tmp_path / "first").files) is bool(longest)

    def test_what_was_not_sent_is_not_remembered_as_being_there(self, registry, pushed, monkeypatch):
        held = []
        monkeypatch.setattr(DigestCache, "hold", lambda self, name, layers: held.append(name))
        pushed("first", "1")
        pushed("first", "2")
        assert held == [f"{registry.host}/t/digits"]


class Shelf:
    """One repository that says what it was asked for; `grants` are whom it takes layers over from."""

    def __init__(self, name="r.example/t/digits", *, has=(), grants=()):
        self.name = name
        self.has_them, self.grants = set(has), set(grants)
        self.asked, self.uploads = [], []

    def has(self, blob):
        return blob in self.has_them

    def mount(self, blob, source):
        self.asked.append(source)
        return source in self.grants

    def upload(self, size, again):
        self.uploads.append(Going())
        return self.uploads[-1]


class Going:
    def __init__(self):
        self.calls = []

    def write(self, block):
        self.calls.append("write")

    def commit(self, digest):
        self.calls.append("commit")

    def abort(self):
        self.calls.append("abort")


@pytest.fixture
def cache(tmp_path):
    return DigestCache(tmp_path / "cache.sqlite")


def source(size=7):
    return LayerSource(size=size, again=lambda: iter([bytes(size)]))


class TestTakenOver:
    def test_what_is_there_is_not_taken_over(self):
        shelf = Shelf(has=[SHARD])
        assert not RegistryDestination(shelf, ["1"], siblings=["r.example/t/b"]).wants(SHARD)
        assert shelf.asked == []

    def test_nobody_takes_a_layer_over_from_itself(self, cache):
        shelf = Shelf(grants=["r.example/t/digits"])
        cache.hold(shelf.name, [SHARD])
        assert RegistryDestination(shelf, ["1"], siblings=[shelf.name, "r.example/t/b"], cache=cache).wants(SHARD)
        assert shelf.asked == ["r.example/t/b"]

    def test_two_that_may_have_it_are_asked_and_none_of_another_registry(self, cache):
        for name in ("o.example/t/a", "r.example/a", "r.example/b", "r.example/c", "r.example.org/d"):
            cache.hold(name, [SHARD])
        shelf = Shelf()
        assert RegistryDestination(shelf, ["1"], cache=cache).wants(SHARD)
        assert len(shelf.asked) == 2
        assert set(shelf.asked) < {"r.example/a", "r.example/b", "r.example/c"}

    def test_the_first_that_grants_it_is_the_last_that_is_asked(self):
        shelf = Shelf(grants=["r.example/b"])
        place = RegistryDestination(shelf, ["1"], siblings=["r.example/a", "r.example/b", "r.example/c"])
        assert not place.wants(SHARD)
        assert shelf.asked == ["r.example/a", "r.example/b"]


class TestSending:
    def test_no_upload_begins_after_an_abort(self):
        shelf = Shelf()
        place = RegistryDestination(shelf, ["1"])
        place.abort()
        with pytest.raises(InterruptedByUserError):
            place.sink().begin(source())
        assert [upload.calls for upload in shelf.uploads] in ([], [["abort"]])

    def test_an_abort_gives_up_what_is_open_and_waits_for_it(self):
        shelf = Shelf()
        place = RegistryDestination(shelf, ["1"])
        done, sink = place.sink(), place.sink()
        done.begin(source())
        done.write(memoryview(b"x"))
        done.end(SHARD.digest)
        sink.begin(source())
        slow = shelf.uploads[1]
        give_up = slow.abort

        def abort():
            time.sleep(0.05)
            give_up()

        slow.abort = abort
        place.abort()
        assert [upload.calls for upload in shelf.uploads] == [["write", "commit"], ["abort"]]

    def test_those_that_are_open_are_given_up_at_once_and_one_that_fails_harms_none(self, monkeypatch):
        shelf, meet, raised = Shelf(), threading.Barrier(3), []
        monkeypatch.setattr(threading, "excepthook", raised.append)
        place = RegistryDestination(shelf, ["1"])
        for _ in range(3):
            place.sink().begin(source())

        def abort():
            meet.wait(60)
            raise DeployError("the registry does not answer")

        for upload in shelf.uploads:
            upload.abort = abort
        place.abort()
        assert raised == []
        assert not meet.broken

    def test_only_complete_layers_count_as_sent(self):
        place = RegistryDestination(Shelf(), ["1"])
        sink = place.sink()
        sink.begin(source(7))
        sink.write(memoryview(b"x" * 7))
        assert place.sent == 0
        sink.end(SHARD.digest)
        assert place.sent == 7

    def test_bytes_of_a_layer_that_is_complete_have_nowhere_to_go(self):
        sink = RegistryDestination(Shelf(), ["1"]).sink()
        sink.begin(source())
        sink.end(SHARD.digest)
        with pytest.raises(AssertionError, match="not begun"):
            sink.write(memoryview(b"x"))


class TestDeferred:
    @pytest.fixture
    def place(self, monkeypatch):
        place = RegistryDestination(Shelf(), ["1"])
        monkeypatch.setattr(place, "_sizes", {"a": 1, "b": 2})
        return place

    @pytest.mark.parametrize(
        ("sizes", "hashed_first"),
        [({"a": 1, "b": 2}, True), ({"a": 1, "b": 3}, False), ({"a": 1, "c": 2}, False), ({}, False)],
    )
    def test_only_what_had_the_same_names_and_sizes_is_hashed_first(self, place, tmp_path, sizes, hashed_first):
        root = write_model(tmp_path / "m", {path: bytes(size) for path, size in sizes.items()})
        assert place.defers(take_inventory(root).files if sizes else ()) is hashed_first

    def test_with_siblings_all_of_it_is(self):
        assert RegistryDestination(Shelf(), ["1"], siblings=["r.example/b"]).defers([])

    def test_what_the_tag_names_may_be_gone_meanwhile(self, tmp_path, monkeypatch):
        def gone(digest):
            raise FileNotFoundError(str(digest))

        shelf = Shelf()
        monkeypatch.setattr(shelf, "resolve", lambda tag: SHARD, raising=False)
        monkeypatch.setattr(shelf, "document", gone, raising=False)
        files = take_inventory(write_model(tmp_path / "m", {"a": b"1"})).files
        assert not RegistryDestination(shelf, ["1"]).defers(files)
