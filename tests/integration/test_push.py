"""`build-model --push` to a real registry: what is read, sent and kept, and what is left when it is killed."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import pytest

from tests.fakes.carriers import write_model
from tests.fakes.fault_proxy import FaultProxy
from tests.fakes.routers import until
from tests.integration.registry_server import registry_server

pytestmark = pytest.mark.registry

SHARD = 33 * 2**20
"""Large enough for a layer of its own."""

MOMENTS, FEWEST = 50, 10
SECONDS = 40.0

MEASURED = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
"""A program's peak memory in KiB; asked by a small process, for whose own size counts, too."""


@pytest.fixture
def registry(tmp_path):
    with registry_server(tmp_path / "registry") as running:
        yield running


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Ten shards, older than the resolution of their times."""
    root, pattern = tmp_path_factory.mktemp("shards"), os.urandom(2**20)
    for number in range(10):
        write_model(root, {f"shard-{number}.bin": b"%d" % number + os.urandom(30) + pattern * 33})
    time.sleep(0.15)
    return root


@pytest.fixture
def folder(tmp_path, shards):
    """A folder in which they are the model."""
    place = tmp_path / "work"
    place.mkdir()
    (place / "model").symlink_to(shards)
    return place


@pytest.fixture
def small(tmp_path):
    place = tmp_path / "work"
    write_model(place / "model", {"a.bin": os.urandom(300_000), "b/c.bin": os.urandom(200_000)})
    time.sleep(0.15)
    return place


def command(*arguments):
    return [sys.executable, "-m", "mlops_deploy", "build-model", "model", "--output", "json", *arguments]


def environment(folder):
    home = {name: str(folder / "home") for name in ("HOME", "XDG_CACHE_HOME", "DOCKER_CONFIG")}
    return os.environ | {"PYTHONPATH": str(Path.cwd())} | home


def push(folder, *arguments, check=True, before=()):
    done = subprocess.run(
        [*before, *command(*arguments)],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def result(done):
    return json.loads(done.stdout)


def begun(folder, *arguments):
    """A push on its way, to which Ctrl-C means what it does in a terminal."""
    return subprocess.Popen(
        command(*arguments),
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )


def local_bytes(folder):
    """What lies there beside the model."""
    files = (path for path in folder.rglob("*") if path.is_file() and folder / "model" not in path.parents)
    return sum(path.stat().st_size for path in files)


def sessions(registry, repository):
    """Uploads that the registry still waits for."""
    return list(registry.folder.glob(f"docker/registry/v2/repositories/{repository}/_uploads/*"))


class TestPush:
    def test_it_is_read_once_sent_once_and_nothing_is_kept_here(self, registry, folder):
        made = result(push(folder, "--push", f"{registry.host}/big/digits:1"))
        assert made["bytes_read"] == sum(path.stat().st_size for path in (folder / "model").iterdir())
        assert made["bytes_read"] < made["bytes_sent"] < made["bytes_read"] + 3 * 2**20
        assert local_bytes(folder) < 200_000
        assert registry.tags("big/digits") == {"1"}
        assert made["tags"] == [f"{registry.host}/big/digits:1"]

    def test_unchanged_is_neither_read_nor_sent(self, registry, folder):
        to = ("--push", f"{registry.host}/same/digits:1")
        first = result(push(folder, *to))
        again = [result(push(folder, *to)) for _ in range(5)]
        for one in again:
            assert (one["digest"], one["bytes_read"], one["bytes_sent"]) == (first["digest"], 0, 0)
        assert min(one["seconds"] for one in again) < 0.5, "what it takes where nothing else is at work"

    def test_the_line_names_what_a_release_takes(self, registry, small):
        done = subprocess.run(
            [part for part in command("--push", f"{registry.host}/line/digits") if part not in {"--output", "json"}],
            cwd=small,
            env=environment(small),
            capture_output=True,
            text=True,
            check=True,
        )
        (tag,) = registry.tags("line/digits")
        assert done.stdout.startswith(f"{registry.host}/line/digits:{tag}@sha256:{tag}")
        assert f"next: mlops-deploy inspect {done.stdout.strip()}" in done.stderr

    @pytest.mark.skipif(not shutil.which("skopeo"), reason="no skopeo here")
    def test_others_read_it(self, registry, small):
        made = result(push(small, "--push", f"{registry.host}/others/digits:1"))
        line = ["skopeo", "inspect", "--tls-verify=false", f"docker://{registry.host}/others/digits:1"]
        seen = json.loads(subprocess.run(line, capture_output=True, check=True).stdout)
        assert seen["Labels"]["io.mlops-deploy.content"] == made["content_id"]
        assert seen["Digest"] == made["digest"]

    @pytest.mark.parametrize("parallel", ["1", "4"])
    def test_memory_stays_small_however_many_layers_go_side_by_side(self, registry, folder, parallel):
        measured = (sys.executable, "-c", MEASURED)
        done = push(folder, "--push", f"{registry.host}/digits:1", "--parallel", parallel, before=measured)
        assert int(done.stdout) <= 96 * 1024


class TestKilled:
    @pytest.mark.parametrize("parallel", ["1", "4"])
    def test_no_shard_that_had_arrived_is_sent_again(self, registry, folder, parallel):
        name = f"killed{parallel}/digits"
        known = registry.blobs()
        with FaultProxy(registry.host).running() as way:
            way.most = 8 * (SHARD + 2**17)  # the rest waits until it is killed, whoever is slow
            process = begun(folder, "--push", f"{way.host}/{name}:1", "--parallel", parallel)
            until(lambda: way.bytes["up"] >= way.most and len(registry.blobs() - known) >= 5, 60)
            time.sleep(2)  # what has arrived is answered, and the answer heard
            process.kill()
            process.communicate()
            arrived = registry.blobs() - known
            assert 5 <= len(arrived) < 11, "it was to be killed in the middle"
            assert not registry.tags(name)
            shards = [digest for digest in arrived if blob(registry, digest).stat().st_size > SHARD]
            before = {digest: blob(registry, digest).stat().st_ino for digest in shards}
            way.heal()
            again = result(push(folder, "--push", f"{way.host}/{name}:1", "--parallel", parallel))
        assert again["bytes_sent"] < (10 - len(shards)) * (SHARD + 4096) + 3 * 2**20
        assert {digest: blob(registry, digest).stat().st_ino for digest in shards} == before
        assert registry.tags(name) == {"1"}

    def test_at_any_moment_no_tag_moves_and_the_next_push_works(self, registry, small):
        chance = random.Random(8)
        to = ("--push", f"{registry.host}/moments/digits:1")
        whole = time.monotonic()
        push(small, *to, "--push", f"{registry.host}/timing/digits:1")
        whole = time.monotonic() - whole
        before = resolved(registry, "moments/digits")
        end, codes, moved = time.monotonic() + SECONDS, [], 0
        for moment in range(MOMENTS):
            if len(codes) >= FEWEST and time.monotonic() > end:
                break
            (small / "model" / "a.bin").write_bytes(os.urandom(300_000))
            process = begun(small, *to)
            time.sleep(chance.uniform(0, 1.2 * whole))
            process.send_signal((signal.SIGKILL, signal.SIGTERM, signal.SIGINT)[moment % 3])
            out, err = process.communicate(timeout=30)
            # Before the first line of the program runs, an interrupt is Python's own.
            assert b"Traceback" not in err or b"in main" not in err, err
            codes.append(process.returncode)
            now = resolved(registry, "moments/digits")
            # Killed after its last request a push has moved the tag; then all of it is there.
            moved += now != before
            assert missing(registry, now) == []
            assert process.returncode != 0 or json.loads(out)["digest"] == now
            before = now
        assert moved < len(codes)
        assert any(code != 0 for code in codes)
        made = result(push(small, *to))
        assert resolved(registry, "moments/digits") == made["digest"]
        assert missing(registry, made["digest"]) == []

    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
    def test_an_interrupt_in_the_middle_ends_it_soon(self, registry, folder, how):
        name = f"interrupted{how.value}/digits"
        known = registry.blobs()
        with FaultProxy(registry.host).running() as way:
            way.most = 8 * SHARD  # it could not end otherwise
            process = begun(folder, "--push", f"{way.host}/{name}:1")
            until(lambda: len(registry.blobs() - known) >= 3, 60)
            started = time.monotonic()
            process.send_signal(how)
            out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (130, b""), err
        assert time.monotonic() - started < 15
        assert not registry.tags(name)


@pytest.mark.skipif(not shutil.which("strace"), reason="no strace here")
def test_a_disk_that_fails_is_told_with_file_and_place_and_nothing_is_pushed(registry, small):
    for number in count(1):
        tool = (
            "strace",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=readv",
            "-e",
            f"inject=readv:error=EIO:when={number}",
        )
        done = push(small, "--push", f"{registry.host}/digits:1", check=False, before=tool)
        if "Operation not permitted" in done.stderr:
            pytest.skip("strace may not trace here")
        if done.returncode == 0:
            break
        assert done.returncode == 1, done.stderr
        assert "cannot be read at byte" in done.stderr
        assert "put/output error" in done.stderr
        assert "Traceback" not in done.stderr
        assert not registry.tags("digits")
        assert not sessions(registry, "digits")
    assert number == 4, "the files have three pieces to read"


@pytest.mark.parametrize(
    ("ref", "why"),
    [
        ("digits:1", "names no registry"),
        ("HOST/digits@sha256:" + "0" * 64, "has a digest"),
        ("HOST/digits:0123456789ab", "belongs to one carrier alone"),
        ("HOST/Digits:1", "is not an image reference"),
    ],
)
def test_a_ref_that_cannot_be_pushed_to_is_refused_before_anything_is_read(registry, small, ref, why):
    done = push(small, "--push", ref.replace("HOST", registry.host), check=False)
    assert done.returncode == 2
    assert why in done.stderr
    assert local_bytes(small) == 0


def blob(registry, digest):
    hexa = digest.removeprefix("sha256:")
    return registry.folder / f"docker/registry/v2/blobs/sha256/{hexa[:2]}/{hexa}/data"


def missing(registry, index):
    """What the image names and the registry lacks."""
    lacking, waiting = [], [index]
    while waiting:
        path = blob(registry, digest := waiting.pop())
        if not path.exists():
            lacking.append(digest)
        elif path.stat().st_size < 50_000 and path.read_bytes().startswith(b"{"):
            said = json.loads(path.read_bytes())
            named = [
                *said.get("manifests", []),
                *said.get("layers", []),
                *([said["config"]] if "layers" in said else []),
            ]
            waiting += [one["digest"] for one in named]
    return lacking


def resolved(registry, repository):
    """What the tag names, as the registry keeps it."""
    link = registry.folder / f"docker/registry/v2/repositories/{repository}/_manifests/tags/1/current/link"
    return link.read_text() if link.exists() else None
