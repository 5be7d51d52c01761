"""What a power cut or a kill leaves of a store: the system calls of real builds, watched and cut off by strace."""

import json
import os
import re
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from mlops_deploy.store.layout import LayoutStore
from tests.fakes.carriers import elf, write_model
from tests.fakes.strace import calls_of

NAME = "k:prod"
TEMPORARY = ".mlops-deploy-"
CALL = re.compile(r"(fsync|fdatasync|write|pwrite64|rename)\((.*)\) += \d+$")
PATHS = re.compile(r"\d+<([^>]*)>")


def traceable():
    if shutil.which("strace") is None:
        return "no strace is here to watch and to kill builds with"
    done = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False)
    return "nothing may be traced here" if done.returncode else None


pytestmark = pytest.mark.skipif(bool(reason := traceable()), reason=reason or "")


@pytest.fixture
def folder(tmp_path):
    write_model(tmp_path / "m", {"a": b"first"})
    (tmp_path / "sh").write_bytes(elf())
    return tmp_path


@pytest.fixture
def build(folder):
    def building(*strace, store="s", options=()):
        arguments = [folder / "m", "-t", NAME, "--store", folder / store, "--shell", folder / "sh", *options]
        line = [*strace, sys.executable, "-m", "mlops_deploy", "build-model", *map(str, arguments)]
        more = {"PYTHONPATH": str(Path.cwd())}
        return subprocess.run(line, cwd=folder, env=os.environ | more, capture_output=True, text=True, check=False)

    return building


def completed(trace):
    """Calls in the order of their ends: name, and the path or paths they are about."""
    for text in calls_of(trace):
        call = CALL.match(text)
        if call and call[1] == "rename":
            yield ("rename", *re.findall('"([^"]*)"', call[2]))
        elif call and (path := PATHS.match(call[2])):
            yield ("sync" if "sync" in call[1] else "write", path[1])


@pytest.fixture
def watched(folder, build):
    def watching(*options):
        trace = folder / "trace"
        watch = "trace=fsync,fdatasync,write,pwrite64,rename"
        done = build("strace", "-f", "-qq", "-y", "-e", watch, "-o", str(trace), options=options)
        assert done.returncode == 0, done.stderr
        return list(completed(trace))

    return watching


def test_all_is_on_disk_before_it_has_its_name(folder, watched):
    calls = watched("--archive", folder / "a.tar")
    blobs, log, index = f"{folder}/s/blobs/sha256", f"{folder}/s/log.jsonl", f"{folder}/s/index.json"
    renames = {call[2]: number for number, call in enumerate(calls) if call[0] == "rename"}
    assert {Path(target).parent for target in renames} == {folder, folder / "s", Path(blobs)}
    for number in renames.values():
        _, source, _ = calls[number]
        assert TEMPORARY in source
        assert [call[0] for call in calls[:number] if call[1] == source][-1] == "sync"
    last_blob = max(number for target, number in renames.items() if target.startswith(blobs))
    following = calls[last_blob:]
    order = [
        ("sync", blobs),
        ("write", log),
        ("sync", log),
        following[renames[index] - last_blob],
        ("sync", f"{folder}/s"),
    ]
    places = [following.index(call) for call in order]
    assert places == sorted(places)
    assert ("sync", str(folder)) in calls[renames[str(folder / "a.tar")] :]


def test_a_blob_that_was_lost_is_on_disk_before_the_build_is_logged(folder, build, watched):
    assert build().returncode == 0
    blobs = folder / "s" / "blobs" / "sha256"
    max(blobs.iterdir(), key=lambda path: path.stat().st_size).unlink()
    calls = watched()
    (made,) = [number for number, call in enumerate(calls) if call[0] == "rename" and call[2].startswith(str(blobs))]
    flushed = calls.index(("sync", str(blobs)), made)
    assert flushed < calls.index(("write", str(folder / "s" / "log.jsonl")))


def test_killed_at_any_flush_a_name_means_the_old_or_the_new_carrier_and_the_next_build_works(folder, build):
    build(store="kept")
    old = LayoutStore(folder / "kept").find(NAME).digest
    (folder / "m" / "a").write_bytes(b"second")
    seen, killed = set(), 0
    for count in range(1, 100):
        shutil.rmtree(folder / "s", ignore_errors=True)
        shutil.copytree(folder / "kept", folder / "s")
        done = build("strace", "-f", "-qqq", "-o", os.devnull, "-e", f"inject=fsync:signal=KILL:when={count}")
        store = LayoutStore(folder / "s")
        seen.add(store.find(NAME).digest)
        check(store)
        if done.returncode == 0:
            break
        killed += 1
        assert build().returncode == 0
        assert store.find(NAME).digest != old
        check(store)
    assert killed >= 8
    assert len(seen) == 2
    assert old in seen


def check(store):
    assert {str(stored.digest) for stored in store.builds()} >= {
        entry["digest"] for entry in json.loads((store.path / "index.json").read_bytes())["manifests"]
    }
    for path in (store.path / "blobs" / "sha256").glob("[0-9a-f]*"):
        assert sha256(path.read_bytes()).hexdigest() == path.name
