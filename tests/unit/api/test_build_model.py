import json
import mmap
import os
import random
import shutil
import struct
import subprocess
import sys
import time
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlops_deploy.api import build_model as build_module
from mlops_deploy.api import shells as shells_module
from mlops_deploy.api.build_model import build_model
from mlops_deploy.compat import sniff
from mlops_deploy.errors import DeployError, UnusableInputError
from mlops_deploy.oci import packing
from mlops_deploy.oci.archive import ArchiveFile
from mlops_deploy.oci.partial import PartialFile
from mlops_deploy.oci.types import Platform
from mlops_deploy.spec.refs import ImageRef
from mlops_deploy.store.cache import DigestCache
from mlops_deploy.store.destination import StoreDestination
from mlops_deploy.store.layout import LayoutStore
from mlops_deploy.store.log import Built
from tests.fakes.carriers import ARM64, Keeper, Silent, a_build, fake_shell, write_model

FILES = {"model.bin": b"weights", "labels/names with blanks.txt": b"0\n1\n", "labels/größe": b"8x8", "empty": b""}
GOLDEN_DIGEST = "sha256:d5b22892012853b1ec9b7e3d1a7237762533b8333c9196aa758a5429e95b0bd7"
GOLDEN_CONTENT = "6be48b5b3e38b9f4072f6fb33120331b56ce256b1012c5e462bf05253bcd0a05"


@pytest.fixture(autouse=True)
def recipe(tmp_path, monkeypatch):
    """A fixed script and applets, so that what is tested does not change with the real ones."""
    folder = tmp_path / "images" / "carrier"
    folder.mkdir(parents=True)
    (folder / "deploy.sh").write_bytes(b"#!/bin/sh\nexit 0\n")
    (folder / "applets").write_text("sh cat\n")
    for module in (build_module, shells_module):
        monkeypatch.setattr(module, "IMAGES", tmp_path / "images")
    return folder


@pytest.fixture
def shell(tmp_path):
    return fake_shell(tmp_path)


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model", FILES)


def built(path, shell, *places, cache=None, **named):
    return build_model(a_build(path, shell, **named), places, DigestCache(cache), Silent())


def store_at(path, name="digits"):
    store = LayoutStore(path)

    def entry(carrier):
        fields = {"digest": str(carrier.digest), "content_id": str(carrier.content_id)}
        return Built(time="now", name=name, tags=(), source="", **fields)

    return StoreDestination(store, entry)


def latin_1(folder):
    """A locale in which Python takes file names for Latin-1."""
    make = ["localedef", "-f", "ISO-8859-1", "-i", "de_DE", str(folder / "de_DE.ISO-8859-1")]
    if shutil.which("localedef") is None or subprocess.run(make, capture_output=True, check=False).returncode:
        pytest.skip("no Latin-1 locale can be made here")
    return str(folder)


def clock_from(start):
    """A clock that shows `start`, in nanoseconds, when it is first looked at."""
    looks = []

    def time_ns():
        looks.append(time.monotonic_ns())
        return start + looks[-1] - looks[0]

    return SimpleNamespace(monotonic=time.monotonic, time_ns=time_ns)


@contextmanager
def coming_while_it_is_read(path, monkeypatch):
    """Let a file come when the first bytes of a model are read."""
    real = os.readv

    def readv(descriptor, rooms):
        path.touch()
        return real(descriptor, rooms)

    with monkeypatch.context() as patching:
        patching.setattr(os, "readv", readv)
        yield


class TestDeterminism:
    def test_the_digest_of_a_fixed_model_never_changes_by_itself(self, model, shell):
        carrier = built(model, shell).carrier
        assert (str(carrier.digest), str(carrier.content_id)) == (GOLDEN_DIGEST, GOLDEN_CONTENT)

    def test_the_content_id_is_the_sum_of_the_sums(self, model, shell):
        lines = sorted(f"{sha256(data).hexdigest()}  ./{name}\n".encode() for name, data in FILES.items())
        by_path = b"".join(sorted(lines, key=lambda line: line[66:]))
        assert built(model, shell).carrier.content_id.hex == sha256(by_path).hexdigest()

    def test_the_content_id_depends_on_the_files_alone(self, model, shell, tmp_path, recipe):
        first = built(model, shell).carrier
        others = [
            built(model, shell, name="wine").carrier,
            built(model, fake_shell(tmp_path, ARM64)).carrier,
            built(model, shell, requires=("numpy>=2",), licence="MIT", signature={"inputs": []}).carrier,
        ]
        (recipe / "deploy.sh").write_bytes(b"#!/bin/sh\nexit 1\n")
        others.append(built(model, shell).carrier)
        assert {other.content_id for other in others} == {first.content_id}
        assert len({first.digest, *(other.digest for other in others)}) == 5

    @pytest.mark.parametrize("change", ["content", "name", "added", "removed"])
    def test_the_content_id_changes_with_the_files(self, model, shell, change):
        first = built(model, shell).carrier.content_id
        if change == "content":
            (model / "model.bin").write_bytes(b"Weights")
        elif change == "name":
            (model / "model.bin").rename(model / "model.bin2")
        elif change == "added":
            (model / "another-empty").touch()
        else:
            (model / "empty").unlink()
        assert built(model, shell).carrier.content_id != first

    def test_tags_are_no_part_of_it(self, model, shell):
        tagged = built(model, shell, tags=[ImageRef.parse("x/y:1.0")]).carrier
        assert tagged.digest == built(model, shell).carrier.digest

    @pytest.mark.parametrize(
        ("umask", "settings"),
        [
            (0o077, {"PYTHONHASHSEED": "1", "LC_ALL": "C"}),
            (0o000, {"PYTHONHASHSEED": "2", "LC_ALL": "C.UTF-8", "TZ": "Pacific/Auckland"}),
            (0o022, {"PYTHONHASHSEED": "3", "LC_ALL": "de_DE.ISO-8859-1"}),
        ],
    )
    def test_path_times_umask_order_locale_and_hash_seed_are_no_part_of_it(self, tmp_path, recipe, umask, settings):
        if "ISO" in settings["LC_ALL"]:
            settings = settings | {"LOCPATH": latin_1(tmp_path)}
        names = [name.encode() for name in FILES]
        random.Random(umask).shuffle(names)
        script = f"""
import os, sys
from pathlib import Path
from types import SimpleNamespace
os.umask({umask})
root = Path({str(tmp_path)!r}, "elsewhere-{umask}", "x")
for name, data in {[(name, FILES[name.decode()]) for name in names]!r}:
    path = Path(os.fsdecode(os.fsencode(root) + b"/" + name))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (1, {umask}))
    path.chmod(0o777 & ~{umask})
sys.path.insert(0, {str(Path.cwd())!r})
from mlops_deploy.api import build_model, shells
build_model.IMAGES = shells.IMAGES = Path({str(recipe.parent)!r})
from mlops_deploy.store.cache import DigestCache
from tests.fakes.carriers import Silent, a_build, fake_shell
built = build_model.build_model(a_build(root, fake_shell(root.parent)), (), DigestCache(None), Silent())
print(built.carrier.digest, sys.getfilesystemencoding())
"""
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | settings, check=False)
        assert done.stdout.split()[:1] == [GOLDEN_DIGEST], done.stderr
        assert done.stdout.split()[1:] == ["iso8859-1" if "LOCPATH" in settings else "utf-8"]

    def test_two_platforms_share_the_model_layers(self, model, shell, tmp_path):
        build = a_build(model, shell)
        both = build_module.ModelBuild(
            path=model, card=build.card, shells=(fake_shell(tmp_path, ARM64), fake_shell(tmp_path))
        )
        keeper = Keeper()
        carrier = build_model(both, [keeper], DigestCache(None), Silent()).carrier
        assert [str(image.platform) for image in carrier.images] == ["linux/amd64", "linux/arm64"]
        one, other = (image.layers for image in carrier.images)
        assert one[1:] == other[1:]
        assert one[0] != other[0]
        assert len(keeper.layers) == 4
        assert carrier.image_for(Platform("linux", "s390x")) == carrier.images[0]


class TestOneRead:
    def test_every_place_gets_every_layer_of_one_read(self, model, shell, tmp_path):
        one, other = Keeper(), Keeper()
        result = built(model, shell, one, other, store_at(tmp_path / "s"))
        assert one.layers == other.layers
        assert set(one.layers) == {layer.digest for layer in result.carrier.layers}
        assert result.bytes_read == sum(map(len, FILES.values()))

    def test_the_names_are_the_tags_and_a_short_one_per_image(self, model, shell):
        keeper, tags = Keeper(), [ImageRef.parse(text) for text in ("a/b:1", "a/b:2", "c:1")]
        digest = built(model, shell, keeper, tags=tags).carrier.digest
        ((_, names),) = keeper.finished
        assert names == ("a/b:1", "a/b:2", "c:1", f"a/b:{digest.short}", f"c:{digest.short}")

    def test_a_name_that_no_image_can_have_is_refused_before_anything_is_read(self, model, shell):
        with pytest.raises(UnusableInputError):
            a_build(model, shell, name="a..b")

    def test_progress_ends_at_the_whole(self, model, shell):
        story = Silent()
        build_model(a_build(model, shell), [Keeper()], DigestCache(None), story)
        whole = sum(map(len, FILES.values()))
        assert story.told[-1] == ("digits", whole, whole)


class TestNothingTwice:
    @pytest.fixture
    def cache(self, tmp_path):
        return tmp_path / "cache.sqlite"

    @pytest.fixture
    def settled(self, model):
        """Files whose times are older than their resolution."""
        time.sleep(0.15)
        return model

    def test_unchanged_is_not_read(self, settled, shell, cache, tmp_path, monkeypatch):
        first = built(settled, shell, store_at(tmp_path / "s"), cache=cache)
        monkeypatch.setattr(os, "readv", None)
        again = built(settled, shell, store_at(tmp_path / "s"), cache=cache)
        assert (first.bytes_read, again.bytes_read) == (sum(map(len, FILES.values())), 0)
        assert again.carrier == first.carrier

    def test_a_place_that_lacks_it_gets_it(self, settled, shell, cache, tmp_path):
        first = built(settled, shell, store_at(tmp_path / "s"), cache=cache)
        keeper = Keeper()
        again = built(settled, shell, store_at(tmp_path / "s"), keeper, cache=cache)
        assert again.carrier == first.carrier
        assert set(keeper.layers) == {layer.digest for layer in first.carrier.layers}

    def test_a_lost_blob_is_made_again(self, settled, shell, cache, tmp_path):
        place = store_at(tmp_path / "s")
        first = built(settled, shell, place, cache=cache)
        lost = place.store.blob_path(first.carrier.layers[1].digest)
        data = lost.read_bytes()
        lost.unlink()
        built(settled, shell, store_at(tmp_path / "s"), cache=cache)
        assert lost.read_bytes() == data

    def test_one_of_ten_shards_changed_is_the_only_one_read_and_sent(self, shell, cache, tmp_path, monkeypatch):
        monkeypatch.setattr(packing, "BIG", 1000)
        model = write_model(tmp_path / "shards", {f"{n}.safetensors": b"%d" % n * 2000 for n in range(10)})
        time.sleep(0.15)
        keeper = Keeper()
        first = built(model, shell, keeper, cache=cache)
        assert len(first.carrier.layers) == 12
        (model / "4.safetensors").write_bytes(b"x" * 2000)
        keeper.begun.clear()
        second = built(model, shell, keeper, cache=cache)
        assert second.bytes_read == 2000
        assert len(set(second.carrier.layers) - set(first.carrier.layers)) == 2  # the shard's, and the metadata
        changed = [layer.size for layer in second.carrier.layers if layer not in first.carrier.layers]
        assert changed[0] in keeper.begun
        assert second.carrier.digest == built(model, shell).carrier.digest

    def test_what_was_written_just_before_its_look_is_read_again_however_long_the_build_took(
        self, model, shell, cache, tmp_path, monkeypatch
    ):
        class Slow(Keeper):
            def begin(self, layer):
                time.sleep(0.1)
                super().begin(layer)

        (model / "model.bin").write_bytes(b"Weights")
        first = min(file.stat().st_ctime_ns for file in model.rglob("*") if file.is_file())
        with monkeypatch.context() as patching:
            patching.setattr(build_module, "time", clock_from(first + 50_000_000))
            built(model, shell, store_at(tmp_path / "s"), Slow(), cache=cache)
        assert built(model, shell, store_at(tmp_path / "s"), cache=cache).bytes_read == sum(map(len, FILES.values()))
        time.sleep(0.15)
        built(model, shell, store_at(tmp_path / "s"), cache=cache)
        assert built(model, shell, store_at(tmp_path / "s"), cache=cache).bytes_read == 0

    def test_another_model_at_the_same_path(self, settled, shell, cache, tmp_path):
        built(settled, shell, cache=cache)
        settled.rename(tmp_path / "old")
        write_model(settled, {"model.bin": b"another"})
        assert built(settled, shell, cache=cache).carrier.digest == built(settled, shell).carrier.digest

    def test_what_a_mapping_writes_later_is_read_again(self, model, shell, cache):
        """A mapped write moves a file's times only when the page was clean."""
        path = model / "model.bin"
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            mapped[:1] = b"0"
            os.fdatasync(file.fileno())
            before = path.stat().st_ctime_ns
            time.sleep(0.05)
            mapped[:1] = b"1"
            if path.stat().st_ctime_ns == before:
                pytest.skip("mapped writes leave the times alone on this file system, as on tmpfs")
            time.sleep(0.15)
            first = built(model, shell, cache=cache)
            mapped[:1] = b"2"
            second = built(model, shell, cache=cache)
        assert second.bytes_read
        assert second.carrier.digest == built(model, shell).carrier.digest != first.carrier.digest


class TestWhatFilesSay:
    HEADER = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'

    @pytest.fixture
    def tensors(self, tmp_path):
        data = struct.pack("<Q", len(self.HEADER)) + self.HEADER + bytes(8)
        model = write_model(tmp_path / "tensors", {"w.safetensors": data, "notes.txt": b"none"})
        time.sleep(0.15)
        return model

    def test_it_is_in_the_carrier_also_when_nothing_is_read(self, tensors, shell, tmp_path):
        first = built(tensors, shell, cache=tmp_path / "c")
        again = built(tensors, shell, cache=tmp_path / "c")
        assert first.carrier.metadata.card.formats == ("safetensors",)
        assert again.bytes_read == 0
        assert again.carrier == first.carrier

    def test_what_is_declared_stays(self, tensors, shell):
        declared = built(tensors, shell, requires=("safetensors>=0.5", "numpy>=2")).carrier.metadata.card.requires
        assert declared[:2] == ("safetensors>=0.5", "numpy>=2")
        assert sum("safetensors" in text for text in declared) == 1

    def test_a_better_reader_looks_again_and_places_get_nothing_twice(self, tensors, shell, tmp_path, monkeypatch):
        keeper = Keeper()
        built(tensors, shell, keeper, cache=tmp_path / "c")
        monkeypatch.setattr(sniff, "REVISION", sniff.REVISION + 1)
        keeper.begun.clear()
        again = built(tensors, shell, keeper, cache=tmp_path / "c")
        assert again.bytes_read == sum(file.stat().st_size for file in tensors.iterdir())
        assert not keeper.begun


class TestFailure:
    def test_a_bad_model_touches_no_place(self, tmp_path, shell):
        with pytest.raises(UnusableInputError):
            built(tmp_path / "nothing", shell, store_at(tmp_path / "s"))
        assert not (tmp_path / "s").exists()

    def test_a_place_that_fails_makes_all_of_them_drop_what_they_have(self, model, shell, tmp_path):
        class Full(Keeper):
            def end(self, digest):
                raise DeployError("full")

        keeper, full = Keeper(), Full()
        with pytest.raises(DeployError, match="full"):
            built(model, shell, keeper, full, store_at(tmp_path / "s"))
        assert (keeper.aborted, full.aborted) == (1, 1)
        assert not keeper.finished
        assert not (tmp_path / "s" / "index.json").exists()
        assert not list((tmp_path / "s").rglob("*.tmp"))

    @pytest.mark.parametrize("failure", [OSError("boom"), KeyboardInterrupt(), SystemExit(3)])
    def test_a_place_that_cannot_clean_up_keeps_no_other_from_it(self, model, shell, failure):
        class Stubborn(Keeper):
            def abort(self):
                super().abort()
                raise failure

        class Full(Keeper):
            def begin(self, layer):
                raise DeployError("full")

        places = [Keeper(), Stubborn(), Full(), Keeper()]
        with pytest.raises(DeployError, match="full"):
            built(model, shell, *places)
        assert [place.aborted for place in places] == [1, 1, 1, 1]

    @pytest.mark.parametrize("there", [False, True])
    def test_a_new_store_that_got_nothing_is_removed(self, model, shell, tmp_path, monkeypatch, there):
        place = store_at(tmp_path / "s")
        if there:
            place.store.create()

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(PartialFile, "reserve", full)
        with pytest.raises(DeployError, match="no space left"):
            built(model, shell, place)
        assert (tmp_path / "s").exists() is there

    def test_an_interrupt_is_passed_on_after_all_was_dropped(self, model, shell):
        class Interrupting(Keeper):
            def finish(self, carrier, names):
                raise KeyboardInterrupt

        keeper = Interrupting()
        with pytest.raises(KeyboardInterrupt):
            built(model, shell, keeper)
        assert keeper.aborted == 1

    @pytest.mark.parametrize("before", ["nothing", "half of it"])
    def test_a_file_that_comes_while_the_model_is_read_is_refused_and_nothing_is_named(
        self, model, shell, tmp_path, monkeypatch, before
    ):
        if before == "half of it":
            built(model, shell, store_at(tmp_path / "s"), cache=tmp_path / "c")
            (model / "model.bin").write_bytes(b"others")
            named = (tmp_path / "s" / "index.json").read_bytes()
        (tmp_path / "out").mkdir()
        archives = [ArchiveFile(tmp_path / "out" / "x.tar", Platform("linux", "amd64")) for _ in range(2)]
        with (
            coming_while_it_is_read(model / "labels" / "new.txt", monkeypatch),
            pytest.raises(UnusableInputError, match=r"^the model folder `labels` changed while it was read$") as caught,
        ):
            built(model, shell, store_at(tmp_path / "s"), archives[0], cache=tmp_path / "c")
        assert (caught.value.exit_code, caught.value.hint[:11]) == (2, "build again")
        assert not list((tmp_path / "out").iterdir())
        if before == "nothing":
            assert not (tmp_path / "s" / "index.json").exists()
        else:
            assert (tmp_path / "s" / "index.json").read_bytes() == named
        again = built(model, shell, store_at(tmp_path / "s"), archives[1], cache=tmp_path / "c")
        assert "labels/new.txt" in [file.path for file in again.carrier.metadata.files]

    def test_the_store_may_come_inside_the_models_own_folder_while_it_is_read(self, model, shell):
        place, cache = store_at(model / ".mlops" / "store"), model / ".mlops" / "cache" / "digests"
        assert built(model, shell, place, cache=cache).bytes_read == sum(map(len, FILES.values()))
        assert cache.exists()
        assert built(model, shell, place, cache=cache).carrier.digest == built(model, shell).carrier.digest

    def test_what_failed_can_be_built_again(self, model, shell, tmp_path):
        class Full(Keeper):
            def write(self, block):
                raise DeployError("full")

        with pytest.raises(DeployError):
            built(model, shell, Full(), store_at(tmp_path / "s"), cache=tmp_path / "c")
        result = built(model, shell, store_at(tmp_path / "s"), cache=tmp_path / "c")
        assert result.carrier.digest == built(model, shell).carrier.digest


class TestDocuments:
    @pytest.fixture
    def config(self, model, shell):
        build = {"requires": ("numpy>=2",), "licence": "MIT", "signature": {"inputs": [{"name": "x"}]}}
        carrier = built(model, shell, **build).carrier
        return carrier, json.loads(carrier.images[0].config.data)

    def test_the_config_is_the_contract(self, config):
        carrier, document = config
        run = document["config"]
        assert run["Cmd"] == ["/bin/sh", "-c", '. /deploy.sh; [ "$DEPLOYED" = "$MODEL_ID" ]']
        assert f"MODEL_ID={carrier.content_id}" in run["Env"]
        assert {"Entrypoint", "User"}.isdisjoint(run)
        assert document["rootfs"]["diff_ids"] == [str(layer.digest) for layer in carrier.layers]
        assert len(document["history"]) == len(carrier.layers)
        assert {event["created"] for event in document["history"]} == {document["created"]}

    def test_the_labels_repeat_all_but_the_file_list(self, config):
        carrier, document = config
        prefix = "io.mlops-deploy."
        labels = {k.removeprefix(prefix): v for k, v in document["config"]["Labels"].items() if k.startswith(prefix)}
        assert labels == {
            "name": "digits",
            "content": str(carrier.content_id),
            "files": "4",
            "size": str(sum(map(len, FILES.values()))),
            "requires": '["numpy>=2"]',
            "licence": "MIT",
            "signature": '{"inputs":[{"name":"x"}]}',
        }

    def test_manifests_and_index_fit_together(self, config):
        carrier, _ = config
        (image,) = carrier.images
        manifest, index = json.loads(image.manifest.data), json.loads(carrier.index.data)
        assert index["manifests"][0]["digest"] == f"sha256:{sha256(image.manifest.data).hexdigest()}"
        assert index["manifests"][0]["platform"] == {"os": "linux", "architecture": "amd64"}
        assert manifest["config"]["digest"] == f"sha256:{sha256(image.config.data).hexdigest()}"
        assert {layer["mediaType"] for layer in manifest["layers"]} == {"application/vnd.oci.image.layer.v1.tar"}
        assert carrier.digest.hex == sha256(carrier.index.data).hexdigest()

    def test_the_lists_are_what_deploy_sh_reads(self, config):
        carrier, _ = config
        names = sorted(FILES, key=str.encode)
        assert carrier.metadata.sizes.decode() == "".join(f"{len(FILES[name])} ./{name}\n" for name in names)
        manifest = json.loads(carrier.metadata.manifest)
        assert manifest["name"] == "digits"
        assert manifest["content_id"] == str(carrier.content_id)
        assert [file["path"] for file in manifest["files"]] == names
        assert carrier.metadata.manifest.splitlines()[2] == b'  "name": "digits",'
