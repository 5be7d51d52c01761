"""`pull` beside real deploy.sh's on one volume, from real sockets, and killed at whatever moment."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from mlops_deploy.oci.types import INDEX, MANIFEST
from tests.fakes.carrier_tree import Shell, contents, every_busybox, finish, wait_until
from tests.fakes.fault_proxy import FaultProxy
from tests.fakes.pullable import Pullable, pullable
from tests.fakes.registry import Drips, FakeRegistry, Stalls, distribution
from tests.integration.deploy_sh.test_race import watching
from tests.integration.registry_server import registry_server

ROOT = Path(__file__).parents[2]
MIB = 2**20
FILES = {f"shard {n}": random.Random(n).randbytes(33 * MIB) for n in range(2)} | {
    f"small/{n:02}": random.Random(-n).randbytes(100_000) for n in range(30)
}
SMALL = {f"part {n:02}/{m}": bytes([n, m]) * 4000 for n in range(10) for m in range(10)}
MANY = 8
STUCK_COPY = "cp() { exec sleep 60; }"


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Pullable:
    """Two big files, each in a layer of its own, and thirty small ones in one layer."""
    return pullable(tmp_path_factory.mktemp("large"), FILES)


@pytest.fixture
def small(tmp_path) -> Pullable:
    return pullable(tmp_path, SMALL)


@pytest.fixture(scope="module")
def registry(large):
    """A registry that counts what it sends, with the large model as `models/digits:1`."""
    with FakeRegistry(distribution()).running() as running:
        plant(running, large)
        yield running


@pytest.fixture
def volume(large, tmp_path) -> Pullable:
    return Pullable(path=tmp_path / "volume", carrier=large.carrier, store=large.store)


def plant(registry, model, repository="models/digits"):
    store, found = model.store, model.store.find(model.tag)
    index = store.blob_path(found.digest).read_bytes()
    for image in json.loads(index)["manifests"]:
        manifest = (store.path / "blobs" / "sha256" / image["digest"][7:]).read_bytes()
        for part in (json.loads(manifest)["config"], *json.loads(manifest)["layers"]):
            registry.content.plant_blob(repository, (store.path / "blobs" / "sha256" / part["digest"][7:]).read_bytes())
        registry.content.plant_manifest(repository, manifest, MANIFEST, image["digest"])
    registry.content.plant_manifest(repository, index, INDEX, str(found.digest), "1")


def command(volume, *options, ref=None):
    where = [] if ref else ["--store", str(volume.store.path)]
    return [sys.executable, "-m", "mlops_deploy", "pull", ref or volume.tag, str(volume.path), *where, *options]


def start(volume, *options, ref=None, cwd=ROOT):
    return subprocess.Popen(
        command(volume, *options, ref=ref),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if not name.startswith("MLOPS_")},
        start_new_session=True,
    )


def pull(volume, *options, ref=None, code=0):
    with start(volume, *options, ref=ref) as process:
        out, err = finish(process)
    assert process.returncode == code, err
    assert "Traceback" not in err
    return json.loads(out) if "json" in options else (out if code == 0 else err)


def claims(volume):
    return sorted(volume.path.glob("v/.[0-9a-f]*.*"))


def held(volume):
    """Bytes of the model in claims."""
    total = 0
    for claim in claims(volume):
        with suppress(FileNotFoundError):
            total += sum(path.stat().st_size for path in (claim / "model").rglob("*") if path.is_file())
    return total


# From a registry


@contextmanager
def slowly(registry):
    """Each blob at 64 KiB every 2 ms: about 30 MB a second."""
    registry.fault("blob", Drips(size=2**16, seconds=0.002), times=10_000)
    yield
    registry.heal()


def test_from_a_registry_and_then_without_it(volume, registry):
    ref = f"{registry.host}/models/digits:1"
    before = registry.downloaded()
    done = pull(volume, "--output", "json", ref=ref)
    assert (done["state"], done["name"], done["content_id"]) == ("copied", "digits", volume.carrier.id)
    assert registry.downloaded() - before < sum(map(len, FILES.values())) + 2**20
    assert volume.is_whole()
    assert volume.is_clean()
    asked = len(registry.asked)
    pinned = f"{registry.host}/models/digits@{done['digest']}"
    assert pull(volume, "--output", "json", "--expect", volume.carrier.id, ref=pinned)["state"] == "found"
    assert len(registry.asked) == asked


def test_what_the_registry_lacks(volume, registry):
    assert "the registry has no" in pull(volume, ref=f"{registry.host}/models/none:1", code=2)
    assert not volume.path.exists()


def test_killed_at_any_moment_it_goes_on_and_nothing_is_sent_twice(large, registry, tmp_path):
    total = sum(map(len, FILES.values()))
    ref = f"{registry.host}/models/digits:1"
    chance = random.Random(6)
    adopted = []
    for round_ in range(6):
        volume = Pullable(path=tmp_path / f"volume-{round_}", carrier=large.carrier, store=large.store)
        before = registry.downloaded()
        with slowly(registry):
            process = start(volume, ref=ref)
            wait_until(lambda volume=volume: claims(volume))
            least = chance.randrange(total) if round_ else 0
            wait_until(lambda volume=volume, least=least: held(volume) >= least or volume.home.exists(), 120)
            os.killpg(process.pid, signal.SIGKILL if round_ % 2 else signal.SIGTERM)
            finish(process)
        time.sleep(0.1)  # what the double still writes to a socket that is gone
        assert volume.is_never_half()
        kept = held(volume)
        served = registry.downloaded() - before
        done = pull(volume, "--output", "json", ref=ref)
        assert volume.is_whole()
        assert volume.is_clean()
        adopted.append(done["bytes_adopted"])
        if done["state"] == "copied":
            assert done["bytes_adopted"] >= kept - 2**20
            assert done["bytes_pulled"] + done["bytes_adopted"] == total
            assert registry.downloaded() - before - served <= total - kept + 2 * 2**20
        shutil.rmtree(volume.path)
    assert sum(some > MIB for some in adopted) >= 3


@pytest.mark.registry
def test_killed_while_a_real_registry_sends_it_goes_on(large, tmp_path):
    with registry_server(tmp_path / "registry") as real, FaultProxy(real.host).running() as way:
        place = ["--name", "digits", "--push", f"{real.host}/models/digits:1"]
        push = ["build-model", str(large.carrier.root / "models"), *place]
        subprocess.run([sys.executable, "-m", "mlops_deploy", *push], cwd=tmp_path, check=True, capture_output=True)
        ref, way.held = f"{way.host}/models/digits:1", "down"
        for round_ in range(4):
            volume = Pullable(path=tmp_path / f"volume-{round_}", carrier=large.carrier, store=large.store)
            least = round_ * 12 * MIB
            way.most = way.bytes["down"] + least + 16 * MIB  # the rest waits until it is killed
            process = start(volume, ref=ref)
            wait_until(lambda volume=volume, least=least: held(volume) > least)
            os.killpg(process.pid, signal.SIGKILL)
            finish(process)
            assert volume.is_never_half()
            way.heal()
            assert pull(volume, "--output", "json", ref=ref)["bytes_adopted"] >= least // 2
            assert volume.is_whole()
            assert volume.is_clean()


def test_a_registry_that_goes_away_in_the_middle(volume, large):
    with FakeRegistry(distribution()).running() as registry:
        plant(registry, large)
        registry.fault("blob", Stalls(seconds=120, after=20 * MIB), times=2, where=lambda asked: True, skip=2)
        process = start(volume, ref=f"{registry.host}/models/digits:1")
        wait_until(lambda: held(volume) > MIB)
    finish(process, 120)
    assert process.returncode == 8
    assert volume.is_never_half()
    assert held(volume) > MIB
    assert pull(volume, "--output", "json")["bytes_adopted"] > MIB
    assert volume.is_whole()


def test_an_interrupt_ends_it_at_once_and_leaves_what_was_fetched(volume, registry):
    registry.fault("blob", Stalls(seconds=60, after=10 * MIB), times=2, skip=2)
    process = start(volume, ref=f"{registry.host}/models/digits:1")
    wait_until(lambda: held(volume) > MIB)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = finish(process)
    registry.heal()
    assert (process.returncode, time.monotonic() - began < 30) == (130, True), err
    assert "interrupted" in err
    assert volume.is_never_half()
    assert pull(volume, "--output", "json")["bytes_adopted"] > MIB


# Beside deploy.sh


@every_busybox
@pytest.mark.parametrize("state", ["fresh", "abandoned", "damaged"])
def test_any_mix_at_once_copies_once(shell: Shell, small, state):
    if state == "abandoned":
        shutil.copytree(small.carrier.root / "models", small.path / "v" / f".{small.carrier.id}.1" / "model")
    if state == "damaged":
        shutil.copytree(small.carrier.root / "models", small.home)
        (small.home / "part 03" / "3").unlink()
    with watching(small) as wrong:
        running = [one for _ in range(MANY) for one in (start(small), small.start(shell))]
        told = [finish(process) for process in running]
    assert [process.returncode for process in running] == [0] * 2 * MANY, told
    assert not wrong or state == "damaged"
    assert sorted(out.split()[0] for out, _ in told) == ["copied", *["found"] * (2 * MANY - 1)]
    assert small.is_whole()
    assert small.is_clean()


@every_busybox
def test_each_finds_what_the_other_has_copied(shell: Shell, small):
    assert pull(small).startswith("copied ")
    assert small.run(shell).stdout.startswith("found ")
    shutil.rmtree(small.path)
    assert small.run(shell).stdout.startswith("copied ")
    assert pull(small).startswith("found ")
    assert pull(small, "--verify").startswith("found ")
    assert small.is_clean()


@every_busybox
def test_it_waits_for_a_deploy_sh_at_work_until_that_dies(shell: Shell, small):
    stuck = small.start(shell, before=STUCK_COPY)
    wait_until(lambda: claims(small))
    process = start(small)
    said = process.stderr.readline()
    assert said.startswith("waiting"), said
    time.sleep(1.5)
    assert process.poll() is None
    assert len(claims(small)) == 1
    os.killpg(stuck.pid, signal.SIGKILL)
    finish(stuck)
    out, err = finish(process)
    assert out.startswith("copied "), err
    assert small.is_whole()
    assert small.is_clean()


@every_busybox
def test_deploy_sh_waits_for_a_pull_at_work_until_that_dies(shell: Shell, volume, registry):
    registry.fault("blob", Stalls(seconds=60, after=10 * MIB), times=2, skip=2)
    process = start(volume, ref=f"{registry.host}/models/digits:1")
    wait_until(lambda: held(volume) > MIB)
    other = volume.start(shell)
    time.sleep(2.5)
    assert other.poll() is None
    assert len(claims(volume)) == 1
    os.killpg(process.pid, signal.SIGKILL)
    finish(process)
    registry.heal()
    assert finish(other)[0].startswith("copied ")
    assert contents(volume.home) == volume.carrier.files
    assert volume.is_clean()


@every_busybox
def test_it_goes_on_with_what_a_dead_deploy_sh_has_copied(shell: Shell, volume):
    left = volume.path / "v" / f".{volume.carrier.id}.1" / "model"
    shutil.copytree(volume.carrier.root / "models", left)
    os.truncate(left / "shard 1", 20 * MIB)
    (left / "small" / "07").unlink()
    done = pull(volume, "--output", "json")
    assert done["bytes_pulled"] <= 13 * MIB + 30 * 100_000
    assert volume.is_whole()
    assert volume.is_clean()
    assert volume.run(shell).stdout.startswith("found ")


@every_busybox
def test_killed_at_random_beside_deploy_sh_never_half_and_healed(shell: Shell, small):
    chance = random.Random(66)
    with watching(small) as wrong:
        for _ in range(12):
            running = [start(small), small.start(shell), start(small)]
            time.sleep(chance.uniform(0.05, 0.7))
            for process in running:
                os.killpg(process.pid, signal.SIGKILL)
                finish(process)
            assert small.is_never_half()
            if chance.random() < 0.7:
                shutil.rmtree(small.path / "v" / small.carrier.id, ignore_errors=True)
                wrong.clear()
    assert pull(small)
    assert small.is_whole()
    assert small.run(shell).stdout.startswith("found ")
    assert small.is_clean()
