"""What a user may call a carrier, and what is said of everything that is none: damage, wrong files, traps."""

import io
import json
import os
import random
import shutil
import tarfile
import time
import tracemalloc
from pathlib import Path

import pytest

from mlops_deploy.api.carriers import find_carrier, inspect_carrier, verify_carrier
from mlops_deploy.errors import ContentMismatchError, DeployError, UnusableInputError
from mlops_deploy.oci.types import CONTAINERD_NAME, REF_NAME
from mlops_deploy.store.layout import LayoutStore
from tests.fakes.crafted import Crafted, dumped, good_carrier, huge_records, member, old_sparse


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return good_carrier(tmp_path_factory.mktemp("good"))


@pytest.fixture
def store(good, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return LayoutStore(Path(shutil.copytree(good, tmp_path / "store")))


@pytest.fixture
def archive(good, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copy(good.parent / "carrier.tar", tmp_path / "carrier.tar"))


def nobody():
    raise AssertionError("no registry is named here")


def find(text, store):
    return find_carrier(str(text), store, nobody)


def verify(text, store=None):
    return verify_carrier(find(text, store or LayoutStore(Path("no-store"))))


def inspect(text, store=None):
    return inspect_carrier(find(text, store or LayoutStore(Path("no-store"))))


def members(archive):
    with tarfile.open(archive) as tar:
        return [(info, tar.extractfile(info).read() if info.isreg() else b"") for info in tar]


def rewrite(archive, change):
    """The archive again; `change` gives the bytes that a member has now, or None for no member."""
    parts = []
    for info, data in members(archive):
        new = change(info.name, data)
        if new is not None:
            info.size = len(new) if info.isreg() else 0
            parts.append(info.tobuf(tarfile.PAX_FORMAT) + new + bytes(-len(new) % 512))
    archive.write_bytes(b"".join(parts) + bytes(1024))


def document(archive, name, edit):
    def change(found, data):
        if found != name:
            return data
        content = json.loads(data)
        return dumped(edit(content) or content)

    rewrite(archive, change)


class TestFound:
    @pytest.mark.parametrize("text", ["digits", "digits:1"])
    def test_by_name(self, store, text):
        assert verify(text, store).listing.card.name == "digits"

    def test_an_archive(self, archive):
        assert [file.path for file in verify(archive).listing.files] == [
            "model.bin", "with blanks/vocäb", "x" * 120
        ]  # fmt: skip

    def test_store_and_archive_hold_the_same(self, store, archive):
        assert inspect(archive) == inspect("digits", store)
        assert verify(archive) == verify("digits", store)
        assert verify(archive).listing == inspect(archive).listing

    def test_every_name_in_the_index_is_told(self, store):
        path = store.path / "index.json"
        index = json.loads(path.read_bytes())
        mine = next(entry for entry in index["manifests"] if entry["annotations"][REF_NAME] == "digits:1")
        index["manifests"].append(mine | {"annotations": {REF_NAME: "digits:later"}})
        index["manifests"].append(mine | {"digest": f"sha256:{'0' * 64}", "annotations": {REF_NAME: "digits:other"}})
        path.write_bytes(dumped(index))
        names = find("digits", store).names
        assert "digits:1" in names
        assert "digits:later" in names
        assert "digits:other" not in names

    def test_the_names_in_an_archive_are_those_that_were_given(self, archive):
        assert "digits:1" in find(str(archive), LayoutStore(Path("no-store"))).names

    def test_a_folder_of_the_same_name_is_no_obstacle(self, store):
        Path("digits").mkdir()
        assert verify("digits", store)

    def test_nor_is_a_model_file_of_the_same_name(self, store):
        Path("digits").write_bytes(b"weights")
        assert verify("digits", store)


class TestNoCarrier:
    """Exit code 2: what was named is something else, or nothing."""

    @pytest.mark.parametrize("text", ["/no/such", "./x", "../x", "x.tar", "a/b.tar"])
    def test_a_path_where_nothing_is(self, store, text):
        with pytest.raises(UnusableInputError, match=f"no such file: `{text}`") as refused:
            find(text, store)
        assert "--archive" in refused.value.hint

    @pytest.mark.parametrize("text", ["x" * 300, "x" * 5000])
    def test_a_name_that_no_file_can_have(self, store, text):
        with pytest.raises(UnusableInputError, match=f"no carrier `{text[:50]}"):
            find(text, store)
        with pytest.raises(UnusableInputError, match="cannot be read: file name too long"):
            find(f"./{text}", store)

    def test_a_name_that_no_system_takes(self, store):
        with pytest.raises(UnusableInputError, match="cannot be read: embedded null byte"):
            find("./\0", store)

    def test_a_path_that_leads_in_a_circle(self, store):
        Path("loop.tar").symlink_to("loop.tar")
        with pytest.raises(UnusableInputError, match="cannot be read"):
            find("loop.tar", store)

    @pytest.mark.parametrize("name", ["pipe", "pipe.tar"])
    def test_a_fifo_is_not_waited_for(self, store, name):
        os.mkfifo(name)
        with pytest.raises(UnusableInputError, match=f"`{name}` is not a plain file"):
            find(name, store)

    @pytest.mark.parametrize("text", ["/dev/zero", "/dev/null", "/tmp"])  # noqa: S108 - named, and never read
    def test_devices_and_folders(self, store, text):
        with pytest.raises(UnusableInputError, match="is not a plain file"):
            find(text, store)

    @pytest.mark.parametrize("data", [b"", b"x", b"weights" * 10_000, bytes(512), bytes(10_240)],
                             ids=["empty", "a byte", "no tar", "a record", "a tar of nothing"])  # fmt: skip
    def test_a_file_that_is_no_archive(self, store, data):
        Path("x.tar").write_bytes(data)
        with pytest.raises(UnusableInputError, match=r"`x.tar` is not an archive of a carrier"):
            find("x.tar", store)

    def test_a_tar_of_something_else(self, store):
        with tarfile.open("x.tar", "w") as tar:
            tar.add(store.path / "log.jsonl", "readme.txt")
        with pytest.raises(UnusableInputError, match="is not an archive of a carrier"):
            find("x.tar", store)

    def test_an_image_that_is_no_carrier(self, good, tmp_path, archive):
        crafted = Crafted(good, tmp_path / "other")
        crafted.config["config"]["Labels"] = {}
        del crafted.index["manifests"][1]
        crafted.write()
        with tarfile.open(archive, "w") as tar:
            for path in sorted(crafted.path.rglob("*")):
                tar.add(path, path.relative_to(crafted.path), recursive=False)
        with pytest.raises(UnusableInputError, match="holds an image, but no carrier"):
            find(str(archive), LayoutStore(Path("no-store")))

    def test_an_archive_of_two_images(self, archive):
        def edit(index):
            index["manifests"].append(index["manifests"][0] | {"digest": f"sha256:{'0' * 64}"})

        document(archive, "index.json", edit)
        with pytest.raises(UnusableInputError, match="an archive of 2 images"):
            verify(archive)


class TestDamagedArchive:
    """Exit code 12: it was an archive of ours."""

    def test_cut_anywhere(self, archive):
        data = archive.read_bytes()
        for size in sorted({600, 1000, *range(700, len(data) - 512, 2048), len(data) - 513, len(data) - 1}):
            archive.write_bytes(data[:size])
            with pytest.raises(ContentMismatchError, match="is damaged: it ends too early") as damage:
                verify(archive)
            assert damage.value.hint

    def test_any_byte_that_flips(self, archive):
        """But in the names of `index.json` and `manifest.json`, which nothing vouches for."""
        data = archive.read_bytes()
        free = set()
        with tarfile.open(archive) as tar:
            for name in ("index.json", "manifest.json", "oci-layout"):
                found = tar.getmember(name)
                free |= set(range(found.offset_data, found.offset_data + found.size))
        chance = random.Random(3)
        sample = [chance.randrange(len(data)) for _ in range(250)] + list(range(0, 512, 7))
        for at in sample:
            if at in free:
                continue
            archive.write_bytes(data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :])
            with pytest.raises(ContentMismatchError):
                verify(archive)

    @pytest.mark.parametrize("name", ["index.json", "manifest.json", "oci-layout"])
    @pytest.mark.parametrize("data", [b"", b"garbage", b"[" * 200_000, b"{}", b"[{}]", b'{"manifests":[{}]}', None])
    def test_a_document_that_is_damaged(self, archive, name, data):
        rewrite(archive, lambda found, old: data if found == name else old)
        if (name, data) == ("manifest.json", None):
            # An archive of the OCI layout alone has none.
            assert verify(archive)
            return
        with pytest.raises(ContentMismatchError):
            verify(archive)

    @pytest.mark.parametrize(("key", "value"), [("size", 1), ("size", 10**18), ("size", -1), ("size", "1"),
                                                ("mediaType", "x"), ("digest", "x"), ("digest", 1)])  # fmt: skip
    def test_what_the_index_says_of_the_carrier(self, archive, key, value):
        def edit(index):
            for entry in index["manifests"]:
                entry[key] = value

        document(archive, "index.json", edit)
        with pytest.raises(ContentMismatchError):
            verify(archive)

    @pytest.mark.parametrize("edit", [
        lambda found: found[0]["Layers"].reverse(),
        lambda found: found[0]["Layers"].pop(),
        lambda found: found[0].update(Config="index.json"),
        lambda found: found[0].update(Config=1),
        lambda found: found[0].update(Layers=None),
        lambda found: found[0].update(layers=["evil"]),
        lambda found: found.append(found[0]),
        lambda found: found.clear(),
    ], ids=["order", "fewer layers", "config", "number", "no layers", "other letters", "two", "none"])  # fmt: skip
    def test_what_an_engine_would_load(self, archive, edit):
        document(archive, "manifest.json", edit)
        with pytest.raises(ContentMismatchError) as mismatch:
            verify(archive)
        assert any(line.startswith("  manifest.json: ") for line in mismatch.value.detail)

    def test_a_member_twice(self, archive):
        data = archive.read_bytes()
        info, _ = member("index.json", b"{}")
        archive.write_bytes(data[:-1024] + info.tobuf() + b"{}".ljust(512, b"\0") + bytes(1024))
        with pytest.raises(ContentMismatchError, match=r"`index.json` is there twice"):
            verify(archive)

    def test_something_after_its_end(self, archive):
        archive.write_bytes(archive.read_bytes() + bytes(5000) + b"x")
        with pytest.raises(ContentMismatchError, match="something follows its end"):
            verify(archive)

    def test_zeros_after_its_end_are_how_others_end(self, archive):
        archive.write_bytes(archive.read_bytes() + bytes(9216))
        assert verify(archive)

    def test_links_that_lead_in_a_circle_or_out(self, archive):
        for target in ("../../blobs/sha256/{}", "../../../../etc/passwd"):
            parts = []
            for info, data in members(archive):
                if info.name.startswith("blobs/"):
                    info.type, info.size = tarfile.SYMTYPE, 0
                    info.linkname = target.format(info.name.rpartition("/")[2])
                    parts.append(info.tobuf(tarfile.PAX_FORMAT))
                else:
                    parts.append(info.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % 512))
            archive.write_bytes(b"".join(parts) + bytes(1024))
            with pytest.raises(ContentMismatchError, match="does not verify"):
                verify(archive)


class TestBounds:
    """What is claimed costs nothing: every trap is refused at once, in little memory."""

    @pytest.fixture(autouse=True)
    def cheap(self):
        tracemalloc.start()
        started = time.monotonic()
        try:
            yield
            assert tracemalloc.get_traced_memory()[1] < 300 * 2**20
            assert time.monotonic() - started < 60
        finally:
            tracemalloc.stop()

    def test_an_index_of_four_gigabytes(self, archive):
        info, _ = member("index.json")
        info.size = 4 * 2**30
        layout, _ = member("oci-layout")
        with archive.open("wb") as file:
            file.write(layout.tobuf() + info.tobuf())
            file.truncate(1024 + 4 * 2**30 + 1024)
        with pytest.raises(ContentMismatchError, match="it has more than"):
            verify(archive)

    @pytest.mark.parametrize("trap", [
        huge_records(8**11 - 1), huge_records(10**12), old_sparse("blobs/sha256/x", 1 << 50),
        member("blobs/" + "x" * 5000)[0].tobuf(tarfile.GNU_FORMAT),
    ], ids=["records", "records of GNU's", "sparse", "long name"])  # fmt: skip
    def test_a_header_that_claims_much(self, archive, trap):
        archive.write_bytes(archive.read_bytes()[:-1024] + trap + bytes(1024))
        with pytest.raises(ContentMismatchError, match="is damaged"):
            verify(archive)

    def test_a_member_larger_than_any_file(self, archive):
        info, _ = member("blobs/x", pax_headers={"size": "9" * 18})
        archive.write_bytes(archive.read_bytes()[:-1024] + info.tobuf(tarfile.PAX_FORMAT) + bytes(1024))
        with pytest.raises(ContentMismatchError, match="ends too early"):
            verify(archive)

    @pytest.mark.parametrize("document", ["index", "manifest", "config"])
    def test_a_document_that_is_a_hole(self, good, tmp_path, document):
        """Five gigabytes, of which the disk has none."""
        crafted = Crafted(good, tmp_path / "store")
        name = {
            "index": crafted.log["digest"],
            "manifest": crafted.image["digest"],
            "config": crafted.manifest["config"]["digest"],
        }[document]
        with (crafted.path / "blobs" / "sha256" / name.removeprefix("sha256:")).open("wb") as file:
            file.truncate(5 * 2**30)
        with pytest.raises(ContentMismatchError):
            verify("digits:1", LayoutStore(crafted.path))
        with pytest.raises(ContentMismatchError):
            inspect("digits:1", LayoutStore(crafted.path))

    def test_a_layer_that_goes_on_for_ever(self, good, tmp_path):
        crafted = Crafted(good, tmp_path / "store")
        for layer in crafted.manifest["layers"]:
            with (crafted.path / "blobs" / "sha256" / layer["digest"].removeprefix("sha256:")).open("ab") as file:
                file.truncate(2**43)
        with pytest.raises(ContentMismatchError) as mismatch:
            verify("digits:1", LayoutStore(crafted.path))
        assert any("it has more than" in line for line in mismatch.value.detail)


def test_mismatches_cannot_write_to_the_terminal(good, tmp_path):
    crafted = Crafted(good, tmp_path / "store")
    crafted.before_last(member("models/\x1b[2J\x9b\u202ex", b"1"))
    crafted.write()
    with pytest.raises(ContentMismatchError) as mismatch:
        verify("digits:1", LayoutStore(crafted.path))
    assert mismatch.value.detail
    assert all(line.isprintable() for line in mismatch.value.detail)


def test_a_blob_that_may_not_be_read_is_no_mismatch(store, monkeypatch):
    """Nothing is known of the content then: that is an error of this machine (exit code 1)."""
    found = find("digits", store)

    def refused(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(DeployError, match="cannot be read: permission denied") as error:
        verify_carrier(found)
    assert error.value.exit_code == 1


def test_an_archive_that_others_wrote_again(archive):
    """With folders, `./` before the names, and blocks of 20 records, as general writers do."""
    again = io.BytesIO()
    with tarfile.open(fileobj=again, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        info = tarfile.TarInfo("./blobs")
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
        for info, data in members(archive):
            info.name = f"./{info.name}"
            tar.addfile(info, io.BytesIO(data) if info.isreg() else None)
    archive.write_bytes(again.getvalue())
    assert verify(archive)


def test_an_index_without_names(archive):
    def edit(index):
        for entry in index["manifests"]:
            del entry["annotations"][REF_NAME]
            entry["annotations"].pop(CONTAINERD_NAME)

    document(archive, "index.json", edit)
    assert verify(archive)
    assert find(str(archive), LayoutStore(Path("no-store"))).names == ()
