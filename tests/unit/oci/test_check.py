"""What `verify` finds: a carrier that is right has no mismatch; each that somebody crafted, or a disk damaged, has."""

import json
import os
import random
import re
import shutil
import tarfile
import tracemalloc

import pytest

from mlops_deploy.oci.blobs import LayoutBlobs
from mlops_deploy.oci.check import check
from mlops_deploy.oci.types import INDEX, MANIFEST
from mlops_deploy.spec.refs import Digest
from tests.fakes.crafted import (
    FILES,
    Crafted,
    dumped,
    good_carrier,
    huge_records,
    member,
    old_sparse,
    rewritten,
    tar_of,
)

FOLDER, LINK, HARD_LINK = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return good_carrier(tmp_path_factory.mktemp("good"))


@pytest.fixture
def crafted(good, tmp_path):
    return Crafted(good, tmp_path / "store")


def found(store, digest):
    return [str(mismatch) for mismatch in check(LayoutBlobs(store), Digest.parse(digest)).mismatches]


def settings(crafted):
    return crafted.config["config"]


def renamed(old, new):
    def change(info, data):
        if info.name == old:
            info.name = new
        return info, data

    return change


def changed(name, **fields):
    def change(info, data):
        if info.name == name:
            for key, value in fields.items():
                setattr(info, key, value)
        return info, data

    return change


def without(name):
    return lambda info, data: None if info.name == name else (info, data)


def with_bytes(name, edit):
    def change(info, data):
        if info.name == name:
            data = edit(data)
            info.size = len(data)
        return info, data

    return change


def edited(text, replacement):
    return with_bytes("carrier/manifest.json", lambda data: data.replace(text, replacement))


def extra(*arguments, **fields):
    return lambda c: c.before_last(member(*arguments, **fields))


def last(change):
    return lambda c: c.in_last(change)


def first(change):
    def do(c):
        c.layers[0] = rewritten(c.layers[0], change)

    return do


def said(**values):
    return lambda c: settings(c).update(values)


def late(change):
    return lambda c: c.afterwards(change)


def in_layer(number, make):
    def do(c):
        c.layers[number] = make(c.layers[number])

    return do


EVIL = b"EVIL"
HOSTILE = {
    # Other names for the same path, and what hides it.
    "whiteout": (extra("models/.wh.model.bin"), "/models/.wh.model.bin: it cannot travel"),
    "whiteout of a folder": (extra(".wh.models"), "/.wh.models: it cannot travel"),
    "opaque whiteout": (extra("models/.wh..wh..opq"), "it cannot travel"),
    "dot before a model file": (extra("./models/model.bin", EVIL), "/./models/model.bin: it cannot travel"),
    "absolute model file": (extra("/models/model.bin", EVIL), "it cannot travel"),
    "two slashes": (extra("models//model.bin", EVIL), "it cannot travel"),
    "way up": (extra("carrier/../models/model.bin", EVIL), "it cannot travel"),
    "slash at the end of a file": (extra("models/model.bin/", EVIL), "it cannot travel"),
    "path in an extended header": (extra("x", EVIL, pax_headers={"path": "./models/model.bin"}), "it cannot travel"),
    "plain path in an extended header": (
        extra("x", EVIL, pax_headers={"path": "models/model.bin"}), "/models/model.bin: it is there more than once"),
    "name with a newline": (extra("models/a\nb", EVIL), "it cannot travel"),
    "name with a backslash": (extra("models/a\\b", EVIL), "it cannot travel"),
    "a second deploy.sh": (extra("./deploy.sh", EVIL), "/./deploy.sh: it cannot travel"),
    "the same deploy.sh twice": (extra("deploy.sh", EVIL, mode=0o755), "/deploy.sh: it is there more than once"),
    "the same model file twice": (extra("models/model.bin", FILES["model.bin"]), "it is there more than once"),
    "folder over a file": (extra("models/model.bin", type=FOLDER, mode=0o755), "it is there more than once"),
    "file over a folder": (extra("models/with blanks", EVIL), "it is there more than once"),
    "file below a file": (extra("models/model.bin/x", EVIL), "/models/model.bin: other entries are below it"),
    "file below an applet": (extra("bin/sh/x", EVIL), "has no place"),
    "empty folder": (extra("models/empty", type=FOLDER, mode=0o755), "/models/empty: a folder without a file"),
    # What no carrier has.
    "preloaded library": (extra("etc/ld.so.preload", b"/evil.so"), "/etc/ld.so.preload: a file of that name has no"),
    "other program in bin": (extra("bin/evil", EVIL, mode=0o755), "has no place"),
    "other document": (extra("carrier/evil", EVIL), "has no place"),
    "file in the volume": (extra("model/x", EVIL), "has no place"),
    "link in models": (extra("models/x", type=LINK, linkname="model.bin", mode=0o777), "has no place"),
    "link to elsewhere": (extra("bin/x", type=LINK, linkname="../deploy.sh", mode=0o777), "has no place"),
    "link out of bin": (extra("bin/../models/model.bin", type=LINK, linkname="busybox"), "it cannot travel"),
    "hard link": (extra("models/x", type=HARD_LINK, linkname="models/model.bin"), "`models/x` is a hard link"),
    "device": (extra("models/x", type=tarfile.CHRTYPE), "`models/x` is a device"),
    "block device": (extra("models/x", type=tarfile.BLKTYPE), "`models/x` is a device"),
    "fifo": (extra("models/x", type=tarfile.FIFOTYPE), "`models/x` is a FIFO"),
    "unknown type": (extra("models/x", type=b"Z"), "a member of type"),
    "global record": (extra("x", type=tarfile.XGLTYPE), "a member of type"),
    "long name of GNU's": (extra("x", type=tarfile.GNUTYPE_LONGNAME), "a member of type"),
    "file that nobody lists": (extra("models/x", EVIL), "/models/x: it is not in the list of files"),
    "sparse file": (in_layer(-1, lambda data: data[:-1024] + old_sparse("models/s", 1 << 50) + bytes(1024)),
                    "`models/s` is a sparse file"),
    "sparse document": (in_layer(-1, lambda data: data[:-1024] + old_sparse("carrier/s", 1 << 36) + bytes(1024)),
                        "`carrier/s` is a sparse file"),
    "sparse file of the newer form": (
        extra("models/x", EVIL, pax_headers={"GNU.sparse.major": "1", "GNU.sparse.realsize": "1" * 15}),
        "/models/x: its header is not as"),
    "huge extended header": (in_layer(-1, lambda data: huge_records(8**11 - 1) + data), "an extended header has 8,589"),
    "size in GNU's form": (in_layer(-1, lambda data: huge_records(10**12) + data), "a header's number is damaged"),
    "damaged extended header": (
        in_layer(-1, lambda data: huge_records(8)[:512] + b"99 path=".ljust(512, b"\0") + data), "header is damaged"),
    "folder with content": (in_layer(-1, lambda data: tar_of(member("models", b"x", type=FOLDER))), "is no file"),
    # What runs.
    "no deploy.sh": (last(without("deploy.sh")), "/deploy.sh: missing"),
    "deploy.sh that cannot run": (last(changed("deploy.sh", mode=0)), "/deploy.sh: its mode is 0000, expected 0755"),
    "deploy.sh as any user": (last(changed("deploy.sh", mode=0o4755)), "/deploy.sh: its mode is 4755"),
    "deploy.sh of another": (last(changed("deploy.sh", uid=1000)), "/deploy.sh: its owner is 1000"),
    "deploy.sh of another group": (last(changed("deploy.sh", gid=1000)), "/deploy.sh: its header is not as"),
    "deploy.sh of another time": (last(changed("deploy.sh", mtime=1)), "/deploy.sh: its header is not as"),
    "no busybox": (first(without("bin/busybox")), "/bin/busybox: missing"),
    "no sh": (first(without("bin/sh")), "/bin/sh: missing"),
    "no place for the volume": (first(without("model")), "/model: missing"),
    "volume of another": (first(changed("model", uid=0, gid=0)), "/model: its owner is 0"),
    "busybox that cannot run": (first(changed("bin/busybox", mode=0o644)), "/bin/busybox: its mode is 0644"),
    "entry point": (said(Entrypoint=["/bin/sh", "-c", "evil"]), 'config: `config.Entrypoint` is ["/bin/sh"'),
    "other command": (said(Cmd=["true"]), "config: `config.Cmd` is"),
    "user": (said(User="12345"), 'config: `config.User` is "12345", expected absent'),
    "volumes": (said(Volumes={"/models": {}}), "config: `config.Volumes` is"),
    "other folder": (said(WorkingDir="/models"), 'config: `config.WorkingDir` is "/models", expected "/"'),
    "no folder": (lambda c: settings(c).pop("WorkingDir"), "config: `config.WorkingDir` is absent"),
    "health check": (said(Healthcheck={"Test": ["CMD", "evil"]}), "config: `config.Healthcheck` is"),
    "two paths": (lambda c: settings(c)["Env"].insert(0, "PATH=/evil"), "config: `config.Env` is"),
    "other path": (lambda c: settings(c)["Env"].__setitem__(0, "PATH=/evil"), "config: `config.Env[0]` is"),
    "other root": (lambda c: settings(c)["Env"].append("CARRIER_ROOT=/evil"), "config: `config.Env` is"),
    "other content in the environment": (
        lambda c: settings(c)["Env"].__setitem__(1, "MODEL_ID=" + "0" * 64), "config: `config.Env[1]` is"),
    "other content in a label": (
        lambda c: settings(c)["Labels"].update({"io.mlops-deploy.content": "0" * 64}), "`config.Labels.io.mlops-dep"),
    "other name in a label": (
        lambda c: settings(c)["Labels"].update({"io.mlops-deploy.name": "other"}), 'is "other", expected "digits"'),
    "other label": (lambda c: settings(c)["Labels"].update({"x": "\x1b[2J"}), "config: `config.Labels.x` is"),
    "settings in other letters": (
        lambda c: c.config.update(Config={"Entrypoint": ["evil"]}), "config: `Config` is"),
    "other root file system": (lambda c: c.config["rootfs"].update(type="evil"), "config: `rootfs.type` is"),
    # What the documents say of each other.
    "other diff ids": (
        late(lambda c: c.config["rootfs"].update(diff_ids=c.config["rootfs"]["diff_ids"][::-1])), "its diff ids are"),
    "compressed layer": (
        late(lambda c: c.manifest["layers"][1].update(mediaType="application/vnd.oci.image.layer.v1.tar+gzip")),
        "manifest: `layers[1].mediaType` is"),
    "foreign layer": (late(lambda c: c.manifest["layers"][1].update(urls=["http://evil"])), "`layers[1].urls` is"),
    "config of another type": (late(lambda c: c.manifest["config"].update(mediaType="x")), "`config.mediaType` is"),
    "manifest of another type": (
        lambda c: c.manifest.update(mediaType=INDEX), "`mediaType` is application/vnd.oci.image.index"
    ),
    "manifest without a type": (lambda c: c.manifest.pop("mediaType"), "manifest: `mediaType` is absent"),
    "subject": (lambda c: c.manifest.update(subject={}), "manifest: `subject` is {}, expected absent"),
    "index of another type": (lambda c: c.index.update(mediaType=MANIFEST), "index: `mediaType` is"),
    "image of another type": (
        late(lambda c: c.index["manifests"][0].update(mediaType=INDEX)), "index: `manifests[0].mediaType` is"),
    "other platform in the index": (
        lambda c: c.index["manifests"][0]["platform"].update(architecture="s390x"),
        'index: `manifests[0].platform.architecture` is "s390x", expected "amd64"'),
    "platform twice": (
        lambda c: c.config.update(architecture="arm64"), "index: a platform is there more than once"),
    "image twice": (
        late(lambda c: c.index.update(manifests=[c.index["manifests"][0]] * 2)), "a platform is there more than once"),
    "layer twice": (lambda c: c.layers.insert(1, c.layers[1]), "a layer is there more than once"),
    "126 layers": (
        lambda c: [c.before_last(member(f"models/{number}")) for number in range(126)], "expected at most 125"),
    "no images": (late(lambda c: c.index.update(manifests=[])), "index: it has 0 images"),
    "17 images": (late(lambda c: c.index.update(manifests=[c.index["manifests"][0]] * 17)), "it has 17 images"),
    "no layers": (late(lambda c: c.manifest.update(layers=[])), "it has no layers"),
    # What follows the end.
    "a tar after the tar": (
        in_layer(1, lambda data: data + tar_of(member("models/model.bin", EVIL))), "something follows its end"),
    "garbage after the tar": (in_layer(1, lambda data: data + b"garbage"), "something follows its end"),
    "zeros after the tar": (in_layer(1, lambda data: data + bytes(512)), "something follows its end"),
    "no end": (in_layer(1, lambda data: data[:-1024]), "it ends too early"),
    "half an end": (in_layer(1, lambda data: data[:-512]), "it ends too early"),
    "damaged end": (in_layer(1, lambda data: data[:-512] + b"x" * 512), "its trailer is damaged"),
    "bytes between members": (
        in_layer(-1, lambda data: tar_of(member("carrier/x", b"1")).replace(b"1" + bytes(511), b"12" + bytes(510))),
        "there are bytes between"),
    "no tar": (in_layer(1, lambda data: b"garbage" * 1000), "a header's checksum is wrong"),
    "empty layer": (in_layer(1, lambda data: b""), "it ends too early"),
    # Documents that cost or break their reader.
    "settings that are no text": (said(Env=[1, 2]), "an entry of `Env` is not str"),
    "labels in a list": (said(Labels=[["a", "b"]]), "`Labels` is list, expected dict"),
    "labels that are no text": (said(Labels={"a": 1}), "a label is not text"),
    "endless size": (late(lambda c: c.index["manifests"][0].update(size=float("inf"))), "Infinity is no JSON number"),
    "size of 10^18": (
        late(lambda c: c.manifest["layers"][1].update(size=10**18)), "bytes, expected 1,000,000,000,000,000,000"),
    "config of 10^18": (late(lambda c: c.manifest["config"].update(size=10**18)), "a document of 1,000,000,000,000"),
    "size below zero": (late(lambda c: c.manifest["layers"][1].update(size=-1)), "`size` is -1"),
    "size too small": (late(lambda c: c.manifest["layers"][1].update(size=1)), "it has more than 1 bytes"),
    "size that is a truth": (late(lambda c: c.manifest["layers"][1].update(size=True)), "`size` is True"),
    "size that is a fraction": (late(lambda c: c.manifest["layers"][1].update(size=1.5)), "`size` is float"),
    "list that is no list": (last(edited(b'  "files": [', b'  "files": 1, "x": [')), "its list of files is not where"),
    "deep list of files": (last(edited(b'    {"path"', b"[" * 10**5)), "it is nested too deeply"),
    "deep head of the list": (last(edited(b'"schema": 1', b'"schema": ' + b"[" * 10**5)), "it is nested too deeply"),
    "no files": (last(with_bytes("carrier/manifest.json", lambda _: b"{}")), "its list of files is not where"),
    "other name for the model": (last(edited(b'"digits"', b'"other"')), "config: `config.Labels.io.mlops-deploy.name`"),
    "name that leads elsewhere": (last(edited(b'"digits"', b'"../x"')), "`name` cannot name a model"),
    "second name on another line": (
        last(edited(b'  "schema": 1,', b'  "schema": 1,\n "x": {\n  "name": "evil"},')),
        "/carrier/manifest.json: is not as"),
    "key twice": (last(edited(b'  "schema": 1,', b'  "schema": 1,\n  "schema": 1,')), "it has a key twice"),
    "other content in the list": (
        last(with_bytes("carrier/manifest.json", lambda data: re.sub(rb"(?<=_id\": \").{10}", b"0" * 10, data))),
        "says content 0000"),
    "other size in the list": (last(edited(b'"size":7000', b'"size":7001')), "7,000 bytes, expected 7,001"),
    "file twice in the list": (
        last(with_bytes("carrier/manifest.json", lambda data: data.replace(
            data[data.index(b'    {"path":"model.bin"'):].split(b"\n")[0],
            b"\n".join([data[data.index(b'    {"path":"model.bin"'):].split(b"\n")[0]] * 2)))),
        "it lists a file more than once"),
    "other sums": (last(with_bytes("carrier/SHA256SUMS", lambda data: data + b"\n")), "/carrier/SHA256SUMS: is not as"),
    "other sizes": (last(with_bytes("carrier/SIZES", lambda data: data[1:])), "/carrier/SIZES: is not as"),
    "no sums": (last(without("carrier/SHA256SUMS")), "/carrier/SHA256SUMS: missing"),
    "sums under another name": (last(renamed("carrier/SIZES", "carrier/sizes")), "/carrier/SIZES: missing"),
}  # fmt: skip


def test_a_carrier_that_is_right_has_no_mismatch(good, crafted):
    assert found(good, crafted.log["digest"]) == []


def test_what_is_crafted_without_a_change_is_right(crafted):
    assert found(crafted.path, crafted.write()) == []


def test_a_rewritten_layer_is_right_when_nothing_changed(crafted):
    crafted.layers = [rewritten(layer, lambda info, data: (info, data)) for layer in crafted.layers]
    assert found(crafted.path, crafted.write()) == []


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(crafted, name):
    change, expected = HOSTILE[name]
    change(crafted)
    mismatches = found(crafted.path, crafted.write())
    assert any(expected in mismatch for mismatch in mismatches), mismatches


@pytest.mark.parametrize(
    "data",
    [b"[" * 200_000, b'{"manifests":' + b"[" * 200_000, b'{"manifests":[{"size":' + b"9" * 5000 + b"}]}", b"", b"\xff",
     b"null", b'{"manifests":[1]}', b'{"manifests":[{}]}', b'{"manifests":{}}', b'{"manifests":[{"size":1e999}]}',
     b'{"manifests":[],"manifests":[]}', b'{"a":"\\ud800"}', b'{"manifests":[]}' + b" " * 2**22],
    ids=["deep", "deeper", "huge number", "empty", "bytes", "null", "numbers", "nothing", "object", "endless", "twice",
         "half a character", "large"],
)  # fmt: skip
@pytest.mark.parametrize("document", ["index", "manifest", "config"])
def test_a_document_that_breaks_readers_is_one_mismatch(crafted, document, data):
    mismatches = found(crafted.path, crafted.write(**{document: data or b" "}))
    assert [line for line in mismatches if line.startswith(f"{document}")], mismatches


def test_half_a_character_in_a_label(crafted):
    config = dumped(crafted.config).replace(b'"MIT"', b'"\\ud800"')
    assert any("it has half of a character" in line for line in found(crafted.path, crafted.write(config=config)))


def test_a_file_with_one_other_byte_is_named(crafted):
    crafted.layers[1] = crafted.layers[1].replace(b"weightsweights", b"weightsWeights", 1)
    mismatches = found(crafted.path, crafted.write())
    assert len(mismatches) == 1
    assert mismatches[0].startswith("/models/model.bin: its sha256 is")


def test_each_platform_has_to_be_whole(crafted):
    """The first image lacks a layer that the second has."""
    del crafted.layers[1]
    crafted.config["history"].pop()
    assert "/models/model.bin: missing" in found(crafted.path, crafted.write())


def test_all_mismatches_are_listed(crafted):
    settings(crafted)["User"] = "1"
    crafted.before_last(member("models/x", b"1"))
    digest = crafted.write()
    other = crafted.path / "blobs" / "sha256" / crafted.index["manifests"][1]["digest"].removeprefix("sha256:")
    other.write_bytes(b"x")
    mismatches = found(crafted.path, digest)
    for part in ("`config.User`", "/models/x", "its digest is", "bytes, expected"):
        assert any(part in line for line in mismatches), mismatches


class TestDamage:
    def blobs(self, store):
        return sorted((store / "blobs" / "sha256").iterdir())

    def test_any_byte_that_flips_is_found(self, good, crafted):
        chance = random.Random(7)
        paths = [path for path in self.blobs(crafted.path) for _ in range(12)]
        for path in paths:
            data = bytearray(path.read_bytes())
            at = chance.randrange(len(data))
            data[at] ^= 1 << chance.randrange(8)
            whole = path.read_bytes()
            path.write_bytes(data)
            assert found(crafted.path, crafted.log["digest"]), f"byte {at} of {path}"
            path.write_bytes(whole)
        assert found(crafted.path, crafted.log["digest"]) == []

    def test_every_blob_that_is_missing_cut_or_longer_is_found(self, crafted):
        for path in self.blobs(crafted.path):
            whole = path.read_bytes()
            for data, word in ((None, "is missing"), (whole[:-1], "bytes, expected"), (whole + b"\0", "more than")):
                if data is None:
                    path.unlink()
                else:
                    path.write_bytes(data)
                mismatches = found(crafted.path, crafted.log["digest"])
                index = path.name in crafted.log["digest"]
                assert any((word in line) or (index and "digest is" in line) for line in mismatches), (path, mismatches)
            path.write_bytes(whole)

    def test_a_blob_that_is_no_file_is_missing(self, crafted):
        for path in self.blobs(crafted.path):
            data = path.read_bytes()
            path.unlink()
            os.mkfifo(path)
            assert any("is missing" in line for line in found(crafted.path, crafted.log["digest"]))
            path.unlink()
            path.write_bytes(data)

    @pytest.mark.parametrize("data", [b"{}", b"garbage", b'{"imageLayoutVersion":"2.0.0"}', None])
    def test_the_version_of_the_layout(self, crafted, data):
        path = crafted.path / "oci-layout"
        path.unlink() if data is None else path.write_bytes(data)
        assert [line.partition(":")[0] for line in found(crafted.path, crafted.log["digest"])] == ["oci-layout"]

    @pytest.mark.parametrize(("key", "value"), [("size", 1), ("size", 10**18), ("mediaType", MANIFEST)])
    def test_what_the_layout_says_of_the_index(self, crafted, key, value):
        path = crafted.path / "index.json"
        document = json.loads(path.read_bytes())
        for entry in document["manifests"]:
            entry[key] = value
        path.write_bytes(dumped(document))
        assert any(line.startswith("index.json: ") for line in found(crafted.path, crafted.log["digest"]))

    def test_an_index_that_is_garbage(self, crafted):
        (crafted.path / "index.json").write_bytes(b"[" * 10**6)
        assert any(line.startswith("index.json: ") for line in found(crafted.path, crafted.log["digest"]))


def test_memory_does_not_follow_what_a_header_claims(crafted):
    """A hole of a gigabyte in the middle of the layers is read in pieces."""
    info, _ = member("models/hole")
    info.size = 2**30
    path = crafted.path / "hole"
    with path.open("wb") as file:
        file.write(info.tobuf())
        file.truncate(512 + 2**20)
    crafted.layers.insert(1, path.read_bytes())
    digest = crafted.write()
    tracemalloc.start()
    try:
        assert any("it ends too early" in line for line in found(crafted.path, digest))
        assert tracemalloc.get_traced_memory()[1] < 24 * 2**20
    finally:
        tracemalloc.stop()
        shutil.rmtree(crafted.path)
