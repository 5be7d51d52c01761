"""A carrier between stores and registries, over real sockets: what is sent, what is not, and what a fault leaves."""

import json
import shutil
from pathlib import Path

import pytest

from mlops_deploy.api.carriers import find_carrier, found_in_registry, verify_carrier
from mlops_deploy.api.copy_places import RegistryPlace, StorePlace, require_nameable
from mlops_deploy.api.copying import copy_carrier
from mlops_deploy.api.into_store import bring_into_store
from mlops_deploy.api.registry_images import image_labels, look_up, remote_carrier
from mlops_deploy.cli import wiring
from mlops_deploy.errors import ContentMismatchError, DeployError, UnreachableError, UnusableInputError
from mlops_deploy.oci.blobs import LayoutBlobs
from mlops_deploy.oci.view import view_images
from mlops_deploy.spec.refs import Digest, ImageRef
from mlops_deploy.store.layout import LayoutStore
from tests.fakes.busybox_image import layer, plant_image, plant_index
from tests.fakes.carriers import Silent
from tests.fakes.crafted import good_carrier
from tests.fakes.registry import Answers, Corrupts, CutsAnswer, Endless, FakeRegistry, distribution


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return good_carrier(tmp_path_factory.mktemp("good"))


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    for name in ("XDG_CACHE_HOME", "HOME", "DOCKER_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def store(good, tmp_path):
    return LayoutStore(Path(shutil.copytree(good, tmp_path / "store")))


@pytest.fixture
def registry():
    with FakeRegistry(distribution()).running() as running:
        yield running


@pytest.fixture
def registries():
    return wiring.registries()


def ref_of(registry, text):
    return ImageRef.parse(f"{registry.host}/{text}")


def layers(store):
    digest = store.find("digits").digest
    return {str(part.digest) for image in view_images(LayoutBlobs(store.path), digest) for part in image.layers}


def to_registry(store, registries, ref):
    return copy_carrier(find_carrier("digits:1", store, None), RegistryPlace(registries.repository(ref), ref), Silent())


def found(registries, ref):
    return found_in_registry(look_up(ref, registries))


class TestToRegistry:
    def test_all_platforms_by_the_same_digest_and_the_tag_last(self, store, registry, registries):
        copied = to_registry(store, registries, ref_of(registry, "a/digits:1"))
        digest = store.find("digits").digest
        assert str(copied.ref) == f"{registry.host}/a/digits:1@{digest}"
        assert registry.content.tags["a/digits"] == {"1": str(digest)}
        assert not registry.content.dangling()
        assert registry.steps("manifest-put")[-1].name == "1"
        assert copied.layers == {"sent": len(layers(store)), "mounted": 0, "found": 0}
        assert copied.bytes_sent == sum(store.blob_path(Digest.parse(one)).stat().st_size for one in layers(store))

    def test_a_second_time_no_layer_is_read(self, store, registry, registries):
        ref = ref_of(registry, "a/digits")
        to_registry(store, registries, ref)
        sent = registry.uploaded()
        copied = to_registry(store, registries, ref)
        assert (registry.uploaded(), copied.bytes_sent) == (sent, 0)
        assert copied.layers["found"] == len(layers(store))
        assert registry.content.tags["a/digits"] == {copied.digest.short: str(copied.digest)}

    def test_what_the_registry_has_lost_is_sent(self, store, registry, registries):
        ref = ref_of(registry, "a/digits:1")
        digest = to_registry(store, registries, ref).digest
        parts = list(registry.content.manifests["a/digits"] | dict.fromkeys(registry.content.links["a/digits"]))
        assert len(parts) > len(layers(store)) + 2
        for part in parts:
            registry.content.lose("a/digits", part)
            assert to_registry(store, registries, ref).layers["sent"] == (part in layers(store))
            assert not registry.content.dangling()
            assert registry.content.tags["a/digits"] == {"1": str(digest)}

    def test_a_registry_that_makes_something_else_of_the_index_gets_no_tag(self, store, registry, registries):
        images = len(view_images(LayoutBlobs(store.path), store.find("digits").digest))
        other = {"Docker-Content-Digest": "sha256:" + "0" * 64}
        registry.fault("manifest-put", Answers(status=201, headers=other), skip=images, times=99)
        with pytest.raises(ContentMismatchError):
            to_registry(store, registries, ref_of(registry, "a/digits:1"))
        assert registry.steps("manifest-put")[-1].name == str(store.find("digits").digest)

    def test_a_registry_that_keeps_nothing_of_what_it_confirms_gets_no_tag(
        self, store, registry, registries, monkeypatch
    ):
        keep = registry.content.commit

        def confirm(session, digest):
            keep(session, digest)
            registry.content.lose("a/digits", digest)

        monkeypatch.setattr(registry.content, "_require_parts", lambda *_: None)
        monkeypatch.setattr(registry.content, "commit", confirm)
        with pytest.raises(ContentMismatchError, match="has said that it is stored there: no tag was set"):
            to_registry(store, registries, ref_of(registry, "a/digits:1"))
        assert not registry.content.tags["a/digits"]

    def test_within_one_registry_nothing_is_sent(self, store, registry, registries):
        to_registry(store, registries, ref_of(registry, "a/digits:1"))
        sent, got = registry.uploaded(), registry.downloaded()
        source, ref = found(registries, ref_of(registry, "a/digits:1")), ref_of(registry, "b/digits:2")
        copied = copy_carrier(source, RegistryPlace(registries.repository(ref), ref), Silent())
        assert copied.layers == {"sent": 0, "mounted": len(layers(store)), "found": 0}
        assert copied.bytes_sent == 0
        documents = 20_000
        assert registry.uploaded() - sent < documents
        assert registry.downloaded() - got < documents
        assert registry.content.tags["b/digits"] == {"2": str(copied.digest)}
        assert not registry.content.dangling()

    def test_what_had_arrived_when_it_was_cut_is_not_sent_again(self, store, registry, registries):
        ref = ref_of(registry, "a/digits:1")
        registry.fault("put", Answers(status=403), times=1, skip=2)
        with pytest.raises(DeployError):
            to_registry(store, registries, ref)
        registry.heal()
        assert not registry.content.tags["a/digits"]
        whole = set(registry.content.links["a/digits"]) & layers(store)
        assert whole
        copied = to_registry(store, registries, ref)
        assert copied.layers == {"sent": len(layers(store) - whole), "mounted": 0, "found": len(whole)}
        assert all(registry.content.stored[digest] == 1 for digest in layers(store))

    def test_a_damaged_layer_of_the_store_is_never_named(self, store, registry, registries):
        path = store.blob_path(
            Digest.parse(max(layers(store), key=lambda one: store.blob_path(Digest.parse(one)).stat().st_size))
        )
        data = bytearray(path.read_bytes())
        data[700] ^= 1
        path.write_bytes(data)
        with pytest.raises(ContentMismatchError, match="is damaged: its sha256 is"):
            to_registry(store, registries, ref_of(registry, "a/digits:1"))
        assert not registry.content.tags["a/digits"]
        assert not registry.content.manifests["a/digits"]

    @pytest.mark.parametrize("change", [lambda data: data + b"x", lambda data: data[:-1]])
    def test_a_layer_of_another_size_is_never_named(self, store, registry, registries, change):
        path = store.blob_path(Digest.parse(min(layers(store))))
        path.write_bytes(change(path.read_bytes()))
        with pytest.raises(ContentMismatchError):
            to_registry(store, registries, ref_of(registry, "a/digits:1"))
        assert not registry.content.tags["a/digits"]

    def test_names_that_belong_to_others_are_refused(self, registry):
        digest = Digest("a" * 64)
        require_nameable(ref_of(registry, f"a/digits:{'a' * 12}"), digest)
        with pytest.raises(UnusableInputError, match="belongs to one carrier alone"):
            require_nameable(ref_of(registry, f"a/digits:{'b' * 12}"), digest)
        with pytest.raises(UnusableInputError, match="is a registry without a name"):
            require_nameable(ImageRef.parse(registry.host), digest)
        with pytest.raises(UnusableInputError, match="is the name of another carrier"):
            require_nameable(ref_of(registry, f"a/digits@sha256:{'b' * 64}"), digest)


class TestToStore:
    @pytest.fixture
    def pushed(self, store, registry, registries):
        ref = ref_of(registry, "a/digits:1")
        to_registry(store, registries, ref)
        return ref

    def fetch(self, registries, ref, path, name="mine:2"):
        place = StorePlace(LayoutStore(path), ImageRef.parse(name), str(ref))
        return copy_carrier(found(registries, ref), place, Silent())

    def test_it_is_logged_and_named_as_a_build_is(self, pushed, registries, tmp_path):
        copied = self.fetch(registries, pushed, tmp_path / "other")
        other = LayoutStore(tmp_path / "other")
        stored = other.find("mine:2")
        assert (stored.digest, stored.source) == (copied.digest, str(pushed))
        assert stored.tags == ("mine:2", f"mine:{copied.digest.short}")
        assert other.newest("digits").digest == copied.digest
        assert verify_carrier(find_carrier("mine", other, None)).digest == copied.digest

    def test_each_byte_comes_once(self, store, registry, pushed, registries, tmp_path):
        self.fetch(registries, pushed, tmp_path / "other")
        blobs = [one.name for one in registry.steps("blob")]
        assert all(blobs.count(digest) == 1 for digest in layers(store))
        asked = len(blobs)
        self.fetch(registries, pushed, tmp_path / "other")
        assert not layers(store) & {one.name for one in registry.steps("blob")[asked:]}

    def test_a_registry_that_gives_other_bytes(self, registry, pushed, registries, tmp_path):
        registry.fault("blob", Corrupts(at=100), times=99, skip=2)
        with pytest.raises(ContentMismatchError):
            self.fetch(registries, pushed, tmp_path / "other")
        assert not list(LayoutStore(tmp_path / "other").builds())
        assert not list((tmp_path / "other").rglob("*.tmp"))

    def test_connections_that_break_are_taken_up(self, registry, pushed, registries, tmp_path):
        registry.fault("blob", CutsAnswer(after=700, reset=True), times=2, skip=2)
        copied = self.fetch(registries, pushed, tmp_path / "other")
        assert verify_carrier(find_carrier("mine", LayoutStore(tmp_path / "other"), None)).digest == copied.digest

    def test_what_is_fetched_to_be_run_is_no_newer_than_what_was_built(self, pushed, registries, store, tmp_path):
        log = store.path / "log.jsonl"
        index = json.loads((store.path / "index.json").read_text())
        before = log.read_bytes()
        shutil.rmtree(store.path / "blobs")
        (store.path / "index.json").write_text(json.dumps(index | {"manifests": []}))
        log.write_text("")
        brought = bring_into_store(pushed, store, lambda: registries, Silent())
        assert store.has_carrier(str(brought.ref))
        assert log.read_bytes() == b""
        assert before
        assert bring_into_store(brought.ref, store, None, Silent()) == brought


class TestLookedAt:
    def test_a_registry_is_read_once_to_be_verified(self, store, registry, registries):
        ref = ref_of(registry, "a/digits:1")
        to_registry(store, registries, ref)
        before = len(registry.asked)
        carrier = find_carrier(str(ref), LayoutStore(Path("none")), lambda: registries)
        assert carrier.registry == f"{registry.host}/a/digits"
        read = [one.name for one in registry.asked[before:] if one.step == "blob"]
        assert verify_carrier(carrier).digest == store.find("digits").digest
        read = [one.name for one in registry.asked[before:] if one.step == "blob"]
        assert all(read.count(digest) == 1 for digest in layers(store))

    def test_the_store_comes_first(self, store, registry, registries):
        copy_carrier(
            find_carrier("digits:1", store, None),
            StorePlace(store, ref_of(registry, "a/digits:1"), "here"),
            Silent(),
        )
        assert find_carrier(f"{registry.host}/a/digits:1", store, None).registry is None

    def test_all_that_is_wrong_is_listed(self, store, registry, registries):
        ref = ref_of(registry, "a/digits:1")
        to_registry(store, registries, ref)
        changed = sorted(layers(store))[:2]
        for digest in changed:
            registry.content.blobs[digest] = registry.content.blobs[digest][:-1] + b"?"
        with pytest.raises(ContentMismatchError) as caught:
            verify_carrier(found(registries, ref))
        text = "\n".join(caught.value.detail)
        assert all(Digest.parse(digest).short in text for digest in changed)
        assert "docker login" not in (caught.value.hint or "")

    def test_a_blob_without_end_is_left(self, store, registry, registries):
        ref = ref_of(registry, "a/digits:1")
        to_registry(store, registries, ref)
        registry.fault("blob", Endless(), times=99)
        with pytest.raises(DeployError):
            verify_carrier(found(registries, ref))

    @pytest.mark.parametrize("docker", [False, True])
    def test_an_image_that_is_no_carrier(self, registry, registries, docker):
        image = plant_image(registry.content, "server", layer(("x", b"y")), docker=docker, labels={"a": "b"})
        plant_index(registry.content, "server", "1", image, docker=docker)
        ref = ref_of(registry, "server:1")
        remote = look_up(ref, registries)
        assert image_labels(remote) == {"a": "b"}
        for looked in (found_in_registry, remote_carrier):
            with pytest.raises(UnusableInputError, match="is no carrier"):
                looked(remote)

    def test_the_image_of_one_platform_is_no_carrier(self, store, registry, registries):
        to_registry(store, registries, ref_of(registry, "a/digits:1"))
        manifest = view_images(LayoutBlobs(store.path), store.find("digits").digest)[0].manifest
        with pytest.raises(UnusableInputError, match="the image of one platform") as caught:
            found(registries, ref_of(registry, f"a/digits@{manifest.digest}"))
        assert caught.value.hint.startswith("name it by its tag")
        data = registry.content.manifests["a/digits"][str(manifest.digest)].data
        registry.content.plant_manifest("a/digits", data, manifest.media_type, "alone")
        with pytest.raises(UnusableInputError, match="the image of one platform") as caught:
            found(registries, ref_of(registry, "a/digits:alone"))
        assert caught.value.hint.startswith("`build-model --push` and `mlops-deploy copy` send all of it")

    def test_what_is_not_there_says_where_to_log_in(self, registry, registries):
        with pytest.raises(UnusableInputError, match="the registry has no") as caught:
            found(registries, ref_of(registry, "none:1"))
        assert f"`docker login {registry.host}`" in caught.value.hint
        with pytest.raises(UnusableInputError) as caught:
            found(registries, ref_of(registry, "none"))
        assert "without a tag it means `:latest`, which no push sets by itself" in caught.value.hint

    def test_nobody_answers(self, registries):
        with pytest.raises(UnreachableError):
            found(registries, ImageRef.parse("127.0.0.1:1/x:1"))

    def test_labels_say_the_model(self, store, registry, registries):
        ref = ref_of(registry, "a/digits:1")
        to_registry(store, registries, ref)
        stored = remote_carrier(look_up(ref, registries))
        ours = store.find("digits")
        assert (stored.name, stored.content_id, stored.digest) == (ours.name, ours.content_id, ours.digest)
        assert (stored.size, stored.pulled) == (ours.size, True)
        assert str(stored.ref) == f"{ref.name}@{ours.digest}"
