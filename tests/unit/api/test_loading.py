import functools
import io
import json
import tarfile
import threading
import time

import pytest

from mlops_deploy.api import build_model as build_module
from mlops_deploy.api import conduit as conduit_module
from mlops_deploy.api import shells as shells_module
from mlops_deploy.api.build_model import build_model
from mlops_deploy.api.loading import EngineDestination, load_stored
from mlops_deploy.errors import ContentMismatchError, DeployError, UnreachableError, UnusableInputError
from mlops_deploy.oci.types import Platform
from mlops_deploy.spec.refs import Digest, ImageRef
from mlops_deploy.store.cache import DigestCache
from mlops_deploy.store.destination import StoreDestination
from mlops_deploy.store.layout import LayoutStore
from mlops_deploy.store.log import Built
from tests.fakes.carriers import Keeper, Silent, a_build, fake_shell, write_model

HERE = Platform("linux", "amd64")


class FakeEngine:
    """Keeps images as an engine does: by id, with names; `breaks` is asked with each number of bytes taken."""

    def __init__(self, breaks=lambda taken: None, *, containerd=False):
        self.names, self.ids, self.loads, self.tagged = {}, set(), 0, []
        self._breaks, self._containerd = breaks, containerd

    def ping(self):
        return True

    def platform(self):
        return HERE

    def image_id(self, ref):
        if ref in self.names:
            return self.names[ref]
        return next((found for found in self.ids if str(found) == ref), None)

    def load(self, archive):
        self.loads += 1
        data = bytearray()
        for block in archive:
            data += block
            self._breaks(len(data))
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            (manifest,) = json.load(tar.extractfile("manifest.json"))
            index = json.load(tar.extractfile("index.json"))
        found = index["manifests"][0]["digest"] if self._containerd else manifest["Config"].rpartition("/")[2]
        image = Digest.parse(found) if self._containerd else Digest(found)
        self.ids.add(image)
        self.names.update(dict.fromkeys(manifest["RepoTags"], image))

    def tag(self, source, target):
        self.tagged.append(target)
        self.names[target] = Digest.parse(source)


@pytest.fixture(autouse=True)
def recipe(tmp_path, monkeypatch):
    folder = tmp_path / "images" / "carrier"
    folder.mkdir(parents=True)
    (folder / "deploy.sh").write_bytes(b"#!/bin/sh\nexit 0\n")
    (folder / "applets").write_text("sh cat\n")
    for module in (build_module, shells_module):
        monkeypatch.setattr(module, "IMAGES", tmp_path / "images")


@pytest.fixture
def build(tmp_path):
    model = write_model(tmp_path / "model", {"a": b"weights" * 1000})
    return a_build(model, fake_shell(tmp_path), tags=[ImageRef.parse("digits:1.0")])


def load(build, engine, *others, cache=None):
    place = EngineDestination(engine, HERE)
    result = build_model(build, [place, *others], DigestCache(cache), Silent())
    return result, place


@pytest.mark.parametrize("containerd", [False, True])
def test_it_is_loaded_once_and_the_second_time_nothing_is_sent(build, tmp_path, containerd):
    time.sleep(0.15)
    engine = FakeEngine(containerd=containerd)
    first, place = load(build, engine, cache=tmp_path / "c")
    assert set(engine.names) == {"digits:1.0", f"digits:{first.carrier.digest.short}"}
    assert place.sent > 7000
    again, place = load(build, engine, cache=tmp_path / "c")
    assert (engine.loads, place.sent, again.bytes_read) == (1, 0, 0)


@pytest.mark.parametrize("containerd", [False, True])
def test_an_image_without_its_names_is_there_and_gets_them_again(build, tmp_path, containerd):
    time.sleep(0.15)
    engine = FakeEngine(containerd=containerd)
    first, _ = load(build, engine, cache=tmp_path / "c")
    engine.names.clear()
    _, place = load(build, engine, cache=tmp_path / "c")
    assert set(engine.names) == {"digits:1.0", f"digits:{first.carrier.digest.short}"}
    assert (engine.loads, place.sent) == (1, 0)


def test_another_image_under_the_tag_is_not_taken_for_this_one(build, tmp_path):
    time.sleep(0.15)
    engine = FakeEngine()
    load(build, engine, cache=tmp_path / "c")
    engine.ids.clear()
    engine.names["digits:1.0"] = Digest("f" * 64)
    result, _ = load(build, engine, cache=tmp_path / "c")
    assert engine.loads == 2
    assert engine.names["digits:1.0"] == result.carrier.images[0].config.descriptor.digest


def test_a_tag_that_moved_away_is_set_again(build, tmp_path):
    time.sleep(0.15)
    engine = FakeEngine()
    result, _ = load(build, engine, cache=tmp_path / "c")
    engine.names["digits:1.0"] = Digest("f" * 64)
    load(build, engine, cache=tmp_path / "c")
    assert engine.tagged == ["digits:1.0"]
    assert engine.names["digits:1.0"] == result.carrier.images[0].config.descriptor.digest


def test_bytes_sent_are_the_bytes_of_the_archive(build):
    taken = []
    _, place = load(build, FakeEngine(taken.append))
    assert place.sent == taken[-1]


@pytest.mark.parametrize("at", [0, 3000, 9000])
def test_an_engine_that_refuses_half_way_fails_the_build_with_its_own_words(build, at):
    def full(taken):
        if taken > at:
            raise DeployError("the engine did not take the image: no space left on device")

    keeper = Keeper()
    with pytest.raises(DeployError, match="no space left on device"):
        load(build, FakeEngine(full), keeper)
    assert keeper.aborted == 1
    assert not keeper.finished


def test_an_engine_that_goes_away_is_unreachable(build):
    def gone(taken):
        raise UnreachableError("the engine went away")

    with pytest.raises(UnreachableError):
        load(build, FakeEngine(gone))


def test_an_engine_that_says_yes_without_having_it_is_not_believed(build):
    engine = FakeEngine()
    engine.load = lambda archive: [None for _ in archive] and None
    with pytest.raises(ContentMismatchError, match="does not have"):
        load(build, engine)


def test_a_build_that_fails_elsewhere_breaks_the_transfer_off(build):
    class Full(Keeper):
        def finish(self, carrier, names):
            raise DeployError("full")

    engine, endings = FakeEngine(), []
    real = engine.load

    def watched(archive):
        try:
            real(archive)
        except DeployError as error:
            endings.append(error)
            raise

    engine.load = watched
    with pytest.raises(DeployError, match="full"):
        build_model(build, [Full(), EngineDestination(engine, HERE)], DigestCache(None), Silent())
    assert len(endings) == 1
    assert not engine.ids


def test_an_interrupt_ends_a_load_that_hangs(build, monkeypatch):
    monkeypatch.setattr(conduit_module, "_PATIENCE", 0.1)
    release = threading.Event()

    class Interrupting(Keeper):
        def write(self, block):
            raise KeyboardInterrupt

    engine = FakeEngine(lambda taken: release.wait())
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        load(build, engine, Interrupting())
    assert time.monotonic() - started < 20
    release.set()


class TestFromTheStore:
    """A carrier that was built before goes into an engine, read from the store alone."""

    @pytest.fixture
    def stored(self, build, tmp_path):
        store = LayoutStore(tmp_path / "store")
        entry = functools.partial(_built, build)
        built = build_model(build, [StoreDestination(store, entry)], DigestCache(None), Silent())
        name = f"digits:{built.carrier.digest.short}"
        return store, built.carrier, name

    def test_it_is_the_same_image_and_sent_once(self, stored, build):
        store, carrier, name = stored
        engine, direct, story = FakeEngine(), FakeEngine(), Silent()
        load_stored(store, carrier.digest, name, engine, story)
        load(build, direct)
        assert engine.ids == direct.ids
        assert list(engine.names) == [name]
        assert story.told[-1] == ("digits", sum(layer.size for layer in carrier.layers), story.told[-1][2])
        assert story.told[-1][1] == story.told[-1][2]
        load_stored(store, carrier.digest, name, engine, Silent())
        assert engine.loads == 1

    def test_a_lost_name_is_given_again_and_nothing_sent(self, stored):
        store, carrier, name = stored
        engine = FakeEngine()
        load_stored(store, carrier.digest, name, engine, Silent())
        engine.names.clear()
        load_stored(store, carrier.digest, name, engine, Silent())
        assert (list(engine.names), engine.loads) == ([name], 1)

    @pytest.mark.parametrize("which", ["layer", "config", "index"])
    def test_damage_is_found_before_the_engine_has_it_whole(self, stored, which):
        store, carrier, name = stored
        damaged = {
            "layer": carrier.layers[1].digest,
            "config": carrier.images[0].config.descriptor.digest,
            "index": carrier.digest,
        }
        path, engine = store.blob_path(damaged[which]), FakeEngine()
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1] + b"\x01")
        with pytest.raises(ContentMismatchError, match="is damaged"):
            load_stored(store, carrier.digest, name, engine, Silent())
        assert engine.ids == set()

    def test_one_that_only_the_engine_has_will_do(self, tmp_path):
        engine, store = FakeEngine(), LayoutStore(tmp_path / "empty")
        with pytest.raises(UnusableInputError, match="neither in the store") as caught:
            load_stored(store, Digest("1" * 64), "digits:1", engine, Silent())
        assert "build-model" in caught.value.hint
        engine.names["digits:1"] = Digest("2" * 64)
        load_stored(store, Digest("1" * 64), "digits:1", engine, Silent())


def _built(build, carrier):
    return Built(
        time="2026-01-01T00:00:00+00:00",
        name=build.card.name,
        digest=str(carrier.digest),
        content_id=str(carrier.content_id),
        tags=tuple(str(name) for name in build.names(carrier)),
        source="/nowhere",
    )
