"""What `inspect`, `verify` and `pull` do with a registry that means harm: one error, a code of the table, no more."""

import json
import os
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import pytest

from mlops_deploy.cli import main
from mlops_deploy.oci.types import INDEX, MANIFEST
from tests.fakes.crafted import FILES, Crafted, dumped, good_carrier
from tests.fakes.registry import Answers, Bomb, Corrupts, Endless, FakeRegistry, Header, WrongSize

COMMANDS = ("inspect", "verify", "pull")
NO_DIGESTS = {
    "a path": "sha256:../../x",
    "63 digits": "sha256:" + "0" * 63,
    "65 digits": "sha256:" + "0" * 65,
    "upper case": "sha256:" + "A" * 64,
    "md5": "md5:" + "0" * 32,
    "sha512": "sha512:" + "0" * 128,
    "none": "",
    "digits of another script": "sha256:" + "\u0663" * 64,
}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return good_carrier(tmp_path_factory.mktemp("good"))


@pytest.fixture
def crafted(good, tmp_path):
    return Crafted(good, tmp_path / "crafted")


@pytest.fixture
def registry():
    with FakeRegistry().running() as fake:
        yield fake


def plant(registry, folder, digest, media_type=INDEX):
    """All of a layout, its index under the tag 1: documents where they are asked for, also as blobs."""
    for path in (folder / "blobs" / "sha256").iterdir():
        data = path.read_bytes()
        registry.content.plant_blob("team/digits", data)
        if path.name != digest.removeprefix("sha256:"):
            registry.content.plant_manifest("team/digits", data, MANIFEST)
    index = folder / "blobs" / "sha256" / digest.removeprefix("sha256:")
    registry.content.plant_manifest("team/digits", index.read_bytes(), media_type, "1")


@pytest.fixture
def run(registry, tmp_path, monkeypatch, capfd):
    """A command in this process: its code and what it said, having left nothing."""
    (tmp_path / "home").mkdir()
    for name, value in (("HOME", tmp_path / "home"), ("XDG_CACHE_HOME", tmp_path / "cache")):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "home"))
    monkeypatch.delenv("MLOPS_DEPLOY_TRACEBACK", raising=False)
    monkeypatch.chdir(tmp_path / "home")
    monkeypatch.setattr(main, "_hear_signals", lambda: None)

    def run(command, reference=None):
        named = reference or f"{registry.host}/team/digits:1"
        monkeypatch.setattr(sys, "argv", ["mlops-deploy", command, named, *(["volume"] if command == "pull" else [])])
        code = main.run()
        return code, capfd.readouterr().err

    return run


def require_refused(run, commands=COMMANDS):
    for command in commands:
        began = time.monotonic()
        code, said = run(command)
        assert code in {2, 12}, (command, code, said)
        assert said.count("error:") == 1, said
        assert "Traceback" not in said
        assert len(said) < 5000
        assert time.monotonic() - began < 60
    assert not list(Path("volume").glob("v/[0-9a-f]*"))
    assert not list(Path("volume").glob("digits"))


def test_the_carrier_is_good_otherwise(crafted, registry, run):
    plant(registry, crafted.path, crafted.write())
    for command in COMMANDS:
        assert run(command)[0] == 0
    assert len(list(Path("volume").glob("v/[0-9a-f]*"))) == 1


def deep(depth):
    return b'{"x":' * depth + b"1" + b"}" * depth


def within(document, extra):
    return dumped(document)[:-1] + b"," + extra + b"}"


SHAPES = {
    "empty": lambda document: b" ",
    "no JSON": lambda document: b"<html>502</html>",
    "a list": lambda document: b"[]",
    "null": lambda document: b"null",
    "a number": lambda document: b"1" * 5000,
    "nothing in it": lambda document: b"{}",
    "a key twice": lambda document: within(document, b'"x":1,"x":1'),
    "5 MiB": lambda document: within(document, b'"x":"' + b"y" * 5 * 2**20 + b'"'),
    "too deep": lambda document: within(document, b'"x":' + deep(10_000)),
    "much too deep": lambda document: within(document, b'"x":' + b"[" * 1_000_000 + b"]" * 1_000_000),
    "NaN": lambda document: within(document, b'"x":NaN'),
    "infinite": lambda document: within(document, b'"x":-Infinity'),
    "a number of 100,000 digits": lambda document: within(document, b'"x":' + b"9" * 100_000),
    "a BOM": lambda document: b"\xef\xbb\xbf" + dumped(document),
    "UTF-16": lambda document: dumped(document).decode().encode("utf-16"),
    "half of a character": lambda document: within(document, b'"x":"\\ud800"'),
    "not UTF-8": lambda document: within(document, b'"x":"\xff"'),
    "cut": lambda document: dumped(document)[:-10],
    "twice": lambda document: dumped(document) * 2,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("part", ["index", "manifest", "config"])
def test_documents_of_every_wrong_shape(crafted, registry, run, part, shape):
    crafted.write()
    wrong = SHAPES[shape](getattr(crafted, part))
    plant(registry, crafted.path, crafted.write(**{part: wrong}))
    require_refused(run)


def set_in(*path, value):
    """Something else at a place in the index, the manifest or the config, when all else has its digest."""

    def change(crafted):
        found = {"index": crafted.index, "manifest": crafted.manifest, "config": crafted.config}
        for key in path[:-1]:
            found = found[key]
        if value is ...:
            found.pop(path[-1], None)
        else:
            found[path[-1]] = value

    return change


HUGE = 2**63
WRONGS = {
    "both manifests and layers": set_in("index", "layers", value=[]),
    "a manifest with manifests": set_in("manifest", "manifests", value=[]),
    "a media type that is a list": set_in("manifest", "mediaType", value=[]),
    "an index that says it is a manifest": set_in("index", "mediaType", value=MANIFEST),
    "a manifest that says it is an index": set_in("manifest", "mediaType", value=INDEX),
    "no manifests": set_in("index", "manifests", value=[]),
    "manifests are null": set_in("index", "manifests", value=None),
    "manifests are a text": set_in("index", "manifests", value="many"),
    "a manifest is a number": set_in("index", "manifests", 0, value=1),
    "a thousand manifests": lambda crafted: crafted.index.update(manifests=crafted.index["manifests"][:1] * 1000),
    "no layers": set_in("manifest", "layers", value=[]),
    "layers are null": set_in("manifest", "layers", value=None),
    "a layer is a list": set_in("manifest", "layers", 0, value=[]),
    "a thousand layers": lambda crafted: crafted.manifest.update(layers=crafted.manifest["layers"][:1] * 1000),
    "a layer's size below zero": set_in("manifest", "layers", 0, "size", value=-1),
    "a layer's size is huge": set_in("manifest", "layers", 0, "size", value=HUGE),
    "a layer's size is text": set_in("manifest", "layers", 0, "size", value="12"),
    "a layer's size is true": set_in("manifest", "layers", 0, "size", value=True),
    "a layer's size is a fraction": set_in("manifest", "layers", 0, "size", value=1.5),
    "a foreign layer": set_in("manifest", "layers", 0, "urls", value=["http://169.254.169.254/latest"]),
    "a layer of another kind": set_in("manifest", "layers", 0, "mediaType", value="text/html"),
    "fewer diff_ids": lambda crafted: crafted.config["rootfs"]["diff_ids"].pop(),
    "more diff_ids": lambda crafted: crafted.config["rootfs"]["diff_ids"].append("sha256:" + "0" * 64),
    "no diff_ids": set_in("config", "rootfs", "diff_ids", value=...),
    "diff_ids of numbers": set_in("config", "rootfs", "diff_ids", value=[1, 2]),
    "labels are a list": set_in("config", "config", "Labels", value=[]),
    "a label is a number": set_in("config", "config", "Labels", "io.mlops-deploy.name", value=1),
} | {
    f"{where}: {name}": set_in(*path, "digest", value=digest)
    for where, path in {
        "manifest": ("index", "manifests", 0),
        "config": ("manifest", "config"),
        "layer": ("manifest", "layers", 0),
    }.items()
    for name, digest in NO_DIGESTS.items()
}


@pytest.mark.parametrize("config", [..., None, "x", []])
def test_a_manifest_without_a_config(crafted, registry, run, config):
    crafted.write()
    wrong = {key: value for key, value in crafted.manifest.items() if key != "config"}
    wrong |= {} if config is ... else {"config": config}
    plant(registry, crafted.path, crafted.write(manifest=dumped(wrong)))
    require_refused(run)


OF_NO_CONCERN = {
    "a media type that is a list",
    "a layer's size is huge",
    "a foreign layer",
    "a layer of another kind",
    "fewer diff_ids",
    "more diff_ids",
}
"""What `verify` alone refuses: nothing of it is shown, fetched or written by the others, who look at the model."""


@pytest.mark.parametrize("wrong", sorted(OF_NO_CONCERN))
def test_what_is_wrong_beside_the_model(crafted, registry, run, wrong):
    crafted.afterwards(WRONGS[wrong])
    plant(registry, crafted.path, crafted.write())
    require_refused(run, ["verify"])
    assert run("inspect")[0] in {0, 12}
    code, said = run("pull")
    assert code in {0, 12}, said
    for folder in Path("volume").glob("v/[0-9a-f]*"):
        assert {
            str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
        } == FILES


@pytest.mark.parametrize("wrong", [wrong for wrong in WRONGS if wrong not in OF_NO_CONCERN])
def test_documents_that_say_what_they_must_not(crafted, registry, run, wrong):
    crafted.afterwards(WRONGS[wrong])
    plant(registry, crafted.path, crafted.write())
    before = len(registry.asked)
    require_refused(run)
    assert not [one.path for one in registry.asked[before:] if ".." in one.path or "%2e" in one.path.lower()]


@pytest.mark.parametrize("digest", NO_DIGESTS.values(), ids=NO_DIGESTS)
def test_references_that_are_none(registry, run, digest):
    for reference in (f"team/digits@{digest}", "team/digits:../x", "../digits:1", "team//digits:1", "Team/digits:1"):
        for command in COMMANDS:
            code, said = run(command, f"{registry.host}/{reference}")
            assert (code, "Traceback" in said) == (2, False)
    assert registry.asked == []


@pytest.mark.parametrize(
    "header",
    [
        Header(name="Docker-Content-Digest", value="sha256:../../x"),
        Header(name="Docker-Content-Digest", value="sha256:" + "0" * 64),
        Header(name="Content-Type", value=None),
        Header(name="Content-Type", value="text/html"),
        Header(name="Content-Type", value=MANIFEST),
        Header(name="Content-Type", value="x" * 10_000),
        Header(name="Content-Length", value="9" * 5000),
    ],
    ids=lambda header: f"{header.name} {str(header.value)[:20]}",
)
def test_heads_that_lie(crafted, registry, run, header):
    plant(registry, crafted.path, crafted.write())
    registry.fault("manifest-head", header, times=99)
    for command in COMMANDS:
        code, said = run(command)
        assert code in {0, 2, 8, 12}, (command, code, said)
        assert code == 0 or said.count("error:") == 1


# What the kernel tells of a child counts the size of its parent, too: it is asked from within.
SIZED = """
import atexit, sys
from pathlib import Path
from mlops_deploy.__main__ import main
lines = lambda: Path("/proc/self/status").read_text().splitlines()
note = Path(sys.argv.pop(1))
atexit.register(lambda: note.write_text(next(line.split()[1] for line in lines() if line.startswith("VmHWM:"))))
main()
"""


class Measured:
    """A command in a process of its own: its code, what it said, its largest size in bytes, its seconds."""

    def __init__(self, folder, *arguments):
        environ = os.environ | {"HOME": str(folder), "XDG_CACHE_HOME": str(folder), "DOCKER_CONFIG": str(folder)}
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", SIZED, folder / "most", *arguments],
            env=environ | {"PYTHONPATH": str(Path.cwd())},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        self.code, self.said, self.seconds = done.returncode, done.stderr, time.monotonic() - began
        self.most = int((folder / "most").read_text()) * 1024


@pytest.fixture(scope="module")
def usual(good, tmp_path_factory):
    """How large a process is that finds nothing wrong."""
    folder = tmp_path_factory.mktemp("usual")
    crafted = Crafted(good, folder / "crafted")
    with FakeRegistry().running() as fake:
        plant(fake, crafted.path, crafted.write())
        done = Measured(folder, "verify", f"{fake.host}/team/digits:1")
    assert done.code == 0, done.said
    return done


@pytest.mark.parametrize(
    "case", [*product(("blob", "manifest"), (Endless(), Endless(promised=2**40), Bomb()))], ids=lambda case: f"{case}"
)
def test_bodies_without_measure(crafted, registry, tmp_path, usual, case):
    """Memory, time and what is fetched are bounded by what was promised."""
    step, fault = case
    command = "pull" if step == "blob" else "verify"
    plant(registry, crafted.path, crafted.write())
    registry.fault(step, fault, times=99)
    done = Measured(tmp_path, command, f"{registry.host}/team/digits:1", *(["volume"] if command == "pull" else []))
    assert done.code == 12, done.said
    assert done.said.count("error:") == 1
    assert "Traceback" not in done.said
    assert done.most < usual.most + 32 * 2**20
    assert done.seconds < usual.seconds + 20
    assert registry.downloaded() + sum(one.sent for one in registry.steps("manifest")) < 100 * 2**20
    assert not list((tmp_path / "volume").glob("v/[0-9a-f]*"))


@pytest.mark.parametrize(
    "fault",
    [Endless(), Bomb(), WrongSize(more=1), WrongSize(more=-1), Corrupts(at=700)],
    ids=str,
)
@pytest.mark.parametrize("step", ["blob", "manifest"])
def test_bodies_that_are_not_what_they_should_be(crafted, registry, run, step, fault):
    plant(registry, crafted.path, crafted.write())
    registry.fault(step, fault, times=99)
    require_refused(run, ["verify", "pull"])


def test_a_blob_that_is_another_one(crafted, registry, run):
    """The bytes of one file are another's: whoever asks for the digest gets what was never hashed to it."""
    plant(registry, crafted.path, crafted.write())
    layer = max(crafted.manifest["layers"], key=lambda layer: layer["size"])
    registry.content.plant_blob("team/digits", b"x" * layer["size"], layer["digest"])
    for command in ("verify", "pull"):
        code, said = run(command)
        assert (code, said.count("error:")) == (12, 1), said


def test_a_blob_that_is_gone(crafted, registry, run):
    plant(registry, crafted.path, crafted.write())
    for layer in crafted.manifest["layers"]:
        registry.content.links["team/digits"].discard(layer["digest"])
    require_refused(run)


def test_what_it_says_is_made_harmless(crafted, registry, run):
    text = "\x1b]0;title\x07\x1b[31mred\u202e" + "long " * 5000
    crafted.write()
    document = json.dumps({"errors": [{"code": "DENIED", "message": text}]}).encode()
    registry.fault("*", Answers(status=403, body=document), times=99, where=lambda asked: asked.step != "ping")
    for command in COMMANDS:
        code, said = run(command)
        assert code == 2
        assert not {"\x1b", "\x07", "\u202e"} & set(said)
        assert len(said) < 2000
