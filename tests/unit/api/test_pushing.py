"""Carriers on their way into registries, over real sockets."""

import os
import time
from itertools import count

import pytest

from mlops_deploy.api import build_model as build_module
from mlops_deploy.api.build_model import build_model
from mlops_deploy.api.pushing import RegistryDestination
from mlops_deploy.cli.destinations import push_destinations
from mlops_deploy.compat import sniff
from mlops_deploy.errors import ContentMismatchError, DeployError, UnusableInputError
from mlops_deploy.oci import metadata, packing
from mlops_deploy.oci.types import INDEX
from mlops_deploy.spec.refs import ImageRef
from mlops_deploy.store.cache import DigestCache
from tests.fakes.carriers import Keeper, Silent, a_build, fake_shell, write_model
from tests.fakes.registry import Answers, FakeRegistry, distribution

SHARDS = {f"{number}.safetensors": bytes([number]) * 20_000 for number in range(10)}
OTHER = "sha256:" + "0" * 64
TOTAL = sum(map(len, SHARDS.values()))


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """What is remembered of hosts and credentials is the test's own; small files have layers of their own."""
    for name in ("XDG_CACHE_HOME", "HOME", "DOCKER_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setattr(packing, "BIG", 10_000)


@pytest.fixture
def registry():
    with FakeRegistry(distribution()).running() as running:
        yield running


@pytest.fixture
def shell(tmp_path):
    return fake_shell(tmp_path)


@pytest.fixture
def model(tmp_path):
    root = write_model(tmp_path / "model", SHARDS)
    time.sleep(0.15)  # older than the resolution of their times
    return root


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache.sqlite"


def places(registry, *refs, abreast=4, cache=None):
    refs = [ImageRef.parse(f"{registry.host}/{ref}") for ref in refs]
    return push_destinations(refs, abreast, cache=DigestCache(cache))


def pushed(model, shell, *to, cache=None, **named):
    return build_model(a_build(model, shell, **named), to, DigestCache(cache), Silent())


def nothing_is_named(registry):
    """Neither a tag nor a manifest: at most blobs that nobody names."""
    return not any(registry.content.tags.values()) and not any(registry.content.manifests.values())


class TestPush:
    def test_one_read_puts_all_of_it_under_the_tag(self, registry, model, shell):
        (place,) = places(registry, "t/digits:1")
        made = pushed(model, shell, place)
        assert made.bytes_read == TOTAL
        assert registry.content.tags["t/digits"] == {"1": str(made.carrier.digest)}
        assert not registry.content.dangling()
        assert {str(layer.digest) for layer in made.carrier.layers} <= registry.content.links["t/digits"]
        assert place.sent >= sum(layer.size for layer in made.carrier.layers)

    def test_the_tag_comes_last_and_after_the_manifests_and_these_after_all_blobs(self, registry, model, shell):
        made = pushed(model, shell, *places(registry, "t/digits:1"))
        steps = [one for one in registry.asked if one.method in {"POST", "PATCH", "PUT"}]
        puts = [one.name for one in steps if one.step == "manifest-put"]
        images = [str(image.manifest.descriptor.digest) for image in made.carrier.images]
        assert puts == [*images, str(made.carrier.digest), "1"]
        assert [one.step for one in steps[-3:]] == ["manifest-put"] * 3

    def test_a_registry_that_makes_something_else_of_the_index_gets_no_tag(self, registry, model, shell):
        registry.fault("manifest-put", Answers(status=201, headers={"Docker-Content-Digest": OTHER}), skip=1, times=99)
        with pytest.raises(ContentMismatchError):
            pushed(model, shell, *places(registry, "t/digits:1"))
        assert [one.name for one in registry.steps("manifest-put") if not one.name.startswith("sha256:")] == []

    def test_without_a_tag_it_gets_the_short_one(self, registry, model, shell):
        made = pushed(model, shell, *places(registry, "t/digits"))
        assert registry.content.tags["t/digits"] == {made.carrier.digest.short: str(made.carrier.digest)}

    def test_other_places_get_the_same_from_the_same_read(self, registry, model, shell):
        keeper = Keeper()
        made = pushed(model, shell, *places(registry, "t/digits:1"), keeper)
        assert made.bytes_read == TOTAL
        assert set(keeper.layers) == {layer.digest for layer in made.carrier.layers}
        assert registry.content.tags["t/digits"]

    def test_the_digest_is_the_same_however_many_go_side_by_side(self, registry, model, shell):
        digests = {
            pushed(model, shell, *places(registry, f"n{abreast}:1", abreast=abreast)).carrier.digest
            for abreast in (1, 2, 4)
        }
        assert len(digests) == 1

    def test_a_registry_that_asks_for_patience_gets_all_of_it_all_the_same(self, registry, model, shell):
        registry.fault("start", Answers(status=429, headers={"Retry-After": "0"}), times=3)
        registry.fault("put", Answers(status=503, headers={"Retry-After": "0"}), times=2)
        (place,) = places(registry, "t/digits:1")
        made = pushed(model, shell, place)
        assert place.held_back == 5
        assert registry.content.tags["t/digits"] == {"1": str(made.carrier.digest)}
        assert not registry.content.dangling()

    def test_progress_ends_at_the_whole(self, registry, model, shell):
        story = Silent()
        build_model(a_build(model, shell), places(registry, "t/digits:1"), DigestCache(None), story)
        assert story.told[-1] == ("digits", TOTAL, TOTAL)
        assert [done for _, done, _ in story.told] == sorted(done for _, done, _ in story.told)

    @pytest.mark.parametrize("what", ["blobs", "manifests"])
    def test_a_registry_that_keeps_nothing_of_what_it_confirms_gets_no_tag(
        self, registry, model, shell, monkeypatch, what
    ):
        content = registry.content
        keep = {"blobs": content.commit, "manifests": content.put_manifest}[what]

        def confirm(first, second, *others):
            kept = keep(first, second, *others)
            content.lose("t/digits", second if what == "blobs" else kept[0])
            return kept

        monkeypatch.setattr(content, "_require_parts", lambda *_: None)
        monkeypatch.setattr(content, {"blobs": "commit", "manifests": "put_manifest"}[what], confirm)
        with pytest.raises(ContentMismatchError, match="has said that it is stored there: no tag was set"):
            pushed(model, shell, *places(registry, "t/digits:1"))
        assert not content.tags["t/digits"]

    def test_what_links_call_otherwise_is_the_same_carrier_the_second_time(self, registry, model, shell, cache):
        (model / "shared").mkdir()
        (model / "shared" / "hf.json").write_text('{"transformers_version": "4.40.0", "model_type": "bert"}')
        (model / "config.json").symlink_to("shared/hf.json")
        time.sleep(0.15)
        first, again = (pushed(model, shell, *places(registry, "t/digits:1"), cache=cache) for _ in range(2))
        assert first.carrier.metadata.card.requires
        assert again.carrier.digest == first.carrier.digest
        assert again.bytes_read == 0


class TestNothingTwice:
    def test_unchanged_is_neither_read_nor_sent_and_every_part_is_looked_at_once(self, registry, model, shell, cache):
        made = pushed(model, shell, *places(registry, "t/digits:1"), cache=cache).carrier
        registry.asked.clear()
        (place,) = places(registry, "t/digits:1")
        again = pushed(model, shell, place, cache=cache)
        assert (again.bytes_read, place.sent, registry.uploaded()) == (0, 0, 0)
        looks = [one for one in registry.asked if one.step != "ping"]
        assert {one.method for one in looks} == {"HEAD"}
        parts = [*made.layers, *(blob.descriptor for blob in made.documents)]
        assert sorted(one.name for one in looks) == sorted(["1", *(str(part.digest) for part in parts)])

    def test_a_further_tag_moves_nothing_else(self, registry, model, shell, cache):
        made = pushed(model, shell, *places(registry, "t/digits:1"), cache=cache)
        registry.asked.clear()
        again = pushed(model, shell, *places(registry, "t/digits:1", "t/digits:2"), cache=cache)
        assert registry.content.tags["t/digits"]["2"] == str(made.carrier.digest)
        assert (again.bytes_read, registry.uploaded()) == (0, 0)
        assert [one.name for one in registry.steps("manifest-put")] == ["2"]

    @pytest.mark.parametrize(
        "lost", ["the shell", "a shard", "the metadata", "the config", "the manifest", "the index"]
    )
    def test_what_the_registry_has_lost_is_sent_before_a_tag_is_set(self, registry, model, shell, cache, lost):
        made = pushed(model, shell, *places(registry, "t/digits:1"), cache=cache)
        (image,) = made.carrier.images
        parts = {
            "the shell": image.layers[0],
            "a shard": image.layers[4],
            "the metadata": image.layers[-1],
            "the config": image.config.descriptor,
            "the manifest": image.manifest.descriptor,
            "the index": made.carrier.index.descriptor,
        }
        for tag in ("1", "2"):
            registry.content.lose("t/digits", str(parts[lost].digest))
            assert "t/digits:1" in registry.content.dangling()
            registry.asked.clear()
            again = pushed(model, shell, *places(registry, f"t/digits:{tag}"), cache=cache)
            assert registry.content.tags["t/digits"][tag] == str(made.carrier.digest)
            assert not registry.content.dangling()
            assert again.bytes_read == (20_000 if lost == "a shard" else 0)
            assert registry.uploaded() < parts[lost].size + 20_000

    def test_a_look_that_the_registry_does_not_answer_moves_no_tag(self, registry, model, shell, cache):
        pushed(model, shell, *places(registry, "t/digits:1"), cache=cache)
        registry.fault("blob-head", Answers(status=403), skip=3, times=99)
        with pytest.raises(UnusableInputError):
            pushed(model, shell, *places(registry, "t/digits:2"), cache=cache)
        assert registry.content.tags["t/digits"].keys() == {"1"}

    def test_one_of_ten_shards_changed_is_the_only_one_read_and_sent(self, registry, model, shell, cache):
        pushed(model, shell, *places(registry, "t/digits:1"), cache=cache)
        (model / "4.safetensors").write_bytes(b"x" * 20_000)
        registry.asked.clear()
        again = pushed(model, shell, *places(registry, "t/digits:1"), cache=cache)
        assert again.bytes_read == 20_000
        assert 20_000 < registry.uploaded() < 100_000
        assert registry.content.tags["t/digits"]["1"] == str(again.carrier.digest)

    def test_a_shard_that_was_replaced_by_an_equal_one_is_read_and_not_sent(self, registry, model, shell, cache):
        pushed(model, shell, *places(registry, "t/digits:1"), cache=cache)
        path = model / "4.safetensors"
        (model.parent / "new").write_bytes(path.read_bytes())
        (model.parent / "new").replace(path)
        registry.asked.clear()
        again = pushed(model, shell, *places(registry, "t/digits:1"), cache=cache)
        assert (again.bytes_read, registry.uploaded()) == (20_000, 0)

    def test_a_fresh_runner_reads_once_and_sends_nothing(self, registry, model, shell):
        first = pushed(model, shell, *places(registry, "t/digits:1"))
        registry.asked.clear()
        again = pushed(model, shell, *places(registry, "t/digits:1"))
        assert again.carrier.digest == first.carrier.digest
        assert (again.bytes_read, registry.uploaded()) == (TOTAL, 0)

    def test_a_fresh_runner_sends_what_changed_behind_the_same_name_and_size(self, registry, model, shell):
        pushed(model, shell, *places(registry, "t/digits:1"))
        (model / "4.safetensors").write_bytes(b"x" * 20_000)
        registry.asked.clear()
        story = Silent()
        build_model(a_build(model, shell), places(registry, "t/digits:1"), DigestCache(None), story)
        assert 20_000 < registry.uploaded() < 100_000
        assert story.told[-1][1] == story.told[-1][2] == TOTAL + 20_000

    def test_a_fresh_runner_that_keeps_it_too_reads_it_once(self, registry, model, shell):
        pushed(model, shell, *places(registry, "t/digits:1"))
        registry.asked.clear()
        keeper = Keeper()
        again = pushed(model, shell, *places(registry, "t/digits:1"), keeper)
        assert (again.bytes_read, registry.uploaded()) == (TOTAL, 0)
        assert set(keeper.layers) == {layer.digest for layer in again.carrier.layers}

    def test_a_tag_that_names_something_else_is_simply_moved(self, registry, model, shell):
        manifest = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
        registry.content.plant_manifest("t/digits", manifest, INDEX, "1")
        made = pushed(model, shell, *places(registry, "t/digits:1"))
        assert registry.content.tags["t/digits"]["1"] == str(made.carrier.digest)

    def test_of_another_image_under_the_tag_no_layer_is_fetched(self, registry, model, shell, monkeypatch):
        with monkeypatch.context() as other:
            other.setattr(metadata.Metadata, "labels", lambda _: {"com.example.name": "any"})
            pushed(model, shell, *places(registry, "t/digits:1"))
        registry.asked.clear()
        again = pushed(model, shell, *places(registry, "t/digits:1"))
        assert not [one for one in registry.steps("blob") if one.sent > 4096]
        assert registry.content.tags["t/digits"]["1"] == str(again.carrier.digest)

    def test_what_one_place_has_is_read_again_only_for_what_the_registry_lacks(self, registry, model, shell, cache):
        keeper = Keeper()
        first = pushed(model, shell, keeper, cache=cache)
        again = pushed(model, shell, *places(registry, "t/digits:1"), keeper, cache=cache)
        assert (first.bytes_read, again.bytes_read) == (TOTAL, TOTAL)
        registry.content.tags["t/digits"].clear()
        third = pushed(model, shell, *places(registry, "t/digits:1"), keeper, cache=cache)
        assert third.bytes_read == 0

    @pytest.mark.parametrize("mounts", [True, False])
    def test_a_second_repository_takes_over_what_the_first_got(self, model, shell, mounts):
        with FakeRegistry(distribution(mounts=mounts)).running() as registry:
            made = pushed(model, shell, *places(registry, "t/one:1", "t/two:1"))
            assert registry.content.tags["t/two"] == {"1": str(made.carrier.digest)}
            assert not registry.content.dangling()
            sizes = sum(layer.size for layer in made.carrier.layers)
            assert (registry.uploaded() < 1.2 * sizes) is mounts
            assert made.bytes_read == (TOTAL if mounts else 2 * TOTAL)

    def test_a_later_push_to_another_repository_takes_over_what_the_first_got(self, registry, model, shell, cache):
        first = pushed(model, shell, *places(registry, "candidates/digits:1", cache=cache), cache=cache)
        registry.asked.clear()
        again = pushed(model, shell, *places(registry, "production/digits:1", cache=cache), cache=cache)
        assert (again.bytes_read, again.carrier.digest) == (0, first.carrier.digest)
        assert registry.uploaded() < 10_000  # the config
        assert not registry.content.dangling()

    def test_what_the_other_repository_has_lost_is_sent(self, registry, model, shell, cache):
        pushed(model, shell, *places(registry, "candidates/digits:1", cache=cache), cache=cache)
        registry.content.links["candidates/digits"].clear()
        registry.content.blobs.clear()
        again = pushed(model, shell, *places(registry, "production/digits:1", cache=cache), cache=cache)
        assert again.bytes_read == TOTAL
        assert not registry.content.dangling()

    def test_another_registry_is_not_asked_for_what_the_first_got(self, registry, model, shell, cache):
        pushed(model, shell, *places(registry, "t/digits:1", cache=cache), cache=cache)
        with FakeRegistry(distribution()).running() as other:
            pushed(model, shell, *places(other, "t/digits:1", cache=cache), cache=cache)
            assert not other.steps("mount")
            assert not other.content.dangling()

    def test_what_a_better_reader_would_see_is_looked_at_again_but_not_sent(
        self, registry, model, shell, cache, monkeypatch
    ):
        pushed(model, shell, *places(registry, "t/digits:1"), cache=cache)
        registry.asked.clear()
        monkeypatch.setattr(sniff, "REVISION", sniff.REVISION + 1)
        again = pushed(model, shell, *places(registry, "t/digits:1"), cache=cache)
        assert (again.bytes_read, registry.uploaded()) == (TOTAL, 0)
        assert pushed(model, shell, *places(registry, "t/digits:1"), cache=cache).bytes_read == 0


class TestFailure:
    def test_no_tag_moves_anywhere_when_one_registry_refuses(self, registry, model, shell):
        with FakeRegistry(distribution()).running() as other:
            other.fault("manifest-put", Answers(status=403), times=99)
            with pytest.raises(DeployError):
                pushed(model, shell, *places(registry, "t/digits:1"), *places(other, "t/digits:1"))
        assert not any(registry.content.tags.values())

    def test_no_tag_moves_when_another_place_fails(self, registry, model, shell):
        class Full(Keeper):
            def end(self, digest):
                raise DeployError("full")

        with pytest.raises(DeployError, match="full"):
            pushed(model, shell, *places(registry, "t/digits:1"), Full())
        assert nothing_is_named(registry)

    @pytest.mark.parametrize("abreast", [1, 4])
    def test_a_refused_layer_ends_the_others_at_once(self, registry, model, shell, abreast):
        registry.fault("start", Answers(status=403), skip=4, times=99)
        started = time.monotonic()
        with pytest.raises(UnusableInputError):
            pushed(model, shell, *places(registry, "t/digits:1", abreast=abreast))
        assert time.monotonic() - started < 30
        assert nothing_is_named(registry)

    @pytest.mark.parametrize("abreast", [1, 4])
    def test_a_file_that_changes_while_it_is_sent_is_named_and_nothing_else_is(
        self, registry, model, shell, monkeypatch, abreast
    ):
        real, calls = os.readv, count(1)

        def readv(descriptor, rooms):
            if next(calls) == 5:
                with (model / "9.safetensors").open("ab") as file:
                    file.write(b"more")
            return real(descriptor, rooms)

        monkeypatch.setattr(os, "readv", readv)
        with pytest.raises(UnusableInputError, match=r"`9\.safetensors` changed while it was read"):
            pushed(model, shell, *places(registry, "t/digits:1", abreast=abreast))
        assert nothing_is_named(registry)

    def test_a_file_that_changes_after_it_was_sent_is_named_too(self, registry, model, shell, monkeypatch):
        real = build_module.require_unchanged

        def changed_before(inventory):
            (model / "0.safetensors").write_bytes(b"y" * 20_000)
            real(inventory)

        monkeypatch.setattr(build_module, "require_unchanged", changed_before)
        with pytest.raises(UnusableInputError, match=r"`0\.safetensors` changed"):
            pushed(model, shell, *places(registry, "t/digits:1"))
        assert nothing_is_named(registry)

    @pytest.mark.parametrize("abreast", [1, 4])
    def test_a_file_that_comes_while_the_others_are_sent_is_not_left_out(
        self, registry, model, shell, monkeypatch, abreast
    ):
        real = os.readv

        def readv(descriptor, rooms):
            (model / "10.safetensors").write_bytes(b"z" * 20_000)
            return real(descriptor, rooms)

        with monkeypatch.context() as patching:
            patching.setattr(os, "readv", readv)
            with pytest.raises(UnusableInputError, match=f"the model folder `{model}` changed while it was read"):
                pushed(model, shell, *places(registry, "t/digits:1", abreast=abreast))
        assert nothing_is_named(registry)
        made = pushed(model, shell, *places(registry, "t/digits:1", abreast=abreast))
        assert "10.safetensors" in [file.path for file in made.carrier.metadata.files]

    @pytest.mark.parametrize("abreast", [1, 4])
    def test_a_read_error_names_the_file_and_the_place_and_nothing_is_pushed(
        self, registry, model, shell, monkeypatch, abreast
    ):
        real, calls = os.readv, []

        def readv(descriptor, rooms):
            calls.append(descriptor)
            if len(calls) >= 7:
                raise OSError(5, "Input/output error")
            return real(descriptor, rooms)

        monkeypatch.setattr(os, "readv", readv)
        with pytest.raises(DeployError, match=r"`.*safetensors` cannot be read at byte 0: [Ii]nput/output error"):
            pushed(model, shell, *places(registry, "t/digits:1", abreast=abreast))
        assert nothing_is_named(registry)

    def test_what_failed_goes_on_with_what_is_missing(self, registry, model, shell, cache):
        registry.fault("start", Answers(status=403), skip=6, times=99)
        with pytest.raises(DeployError):
            pushed(model, shell, *places(registry, "t/digits:1", abreast=1), cache=cache)
        arrived = set(registry.content.blobs)
        assert len(arrived) >= 4
        registry.heal()
        registry.asked.clear()
        made = pushed(model, shell, *places(registry, "t/digits:1"), cache=cache)
        assert all(registry.content.stored[digest] == 1 for digest in arrived)
        assert made.bytes_read <= TOTAL - 20_000 * (len(arrived) - 1)

    def test_an_interrupt_gives_the_open_uploads_up(self, registry, model, shell):
        class Interrupting(RegistryDestination):
            def ended(self, sending, size):
                raise KeyboardInterrupt

        repository = places(registry, "t/digits:1")[0]._repository
        with pytest.raises(KeyboardInterrupt):
            pushed(model, shell, Interrupting(repository, ["1"]))
        assert nothing_is_named(registry)
        assert all(session.closed for session in registry.content.sessions.values())
