"""The shell of a carrier out of busybox images of a registry, over real sockets."""

import gzip
import json
import tarfile

import pytest

from mlops_deploy.api import shells as shells_module
from mlops_deploy.api.shells import choose_shells
from mlops_deploy.cli import wiring
from mlops_deploy.errors import ContentMismatchError, UnusableInputError
from mlops_deploy.oci.types import Platform
from mlops_deploy.store.lockfile import pin_shells, pinned_images
from tests.fakes.busybox_image import busybox_layer, layer, plant_image, plant_index
from tests.fakes.carriers import AMD64, ARM64, Silent, elf
from tests.fakes.registry import FakeRegistry, distribution

MACHINES = {"amd64": elf(AMD64), "arm64": elf(ARM64)}
BOTH = [Platform("linux", machine) for machine in MACHINES]


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """Credentials are the test's own, and the machine has no busybox."""
    for name in ("XDG_CACHE_HOME", "HOME", "DOCKER_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setattr(shells_module, "ON_THIS_MACHINE", ())


@pytest.fixture
def registry():
    with FakeRegistry(distribution()).running() as running:
        yield running


@pytest.fixture
def ref(registry):
    return f"{registry.host}/busybox:1"


def plant(registry, *, docker=False, packed=True, more=(), binaries=None):
    images = [
        plant_image(registry.content, "busybox", busybox_layer(binary), machine=machine, docker=docker, packed=packed)
        for machine, binary in (binaries or MACHINES).items()
    ]
    return plant_index(registry.content, "busybox", "1", *images, *more, docker=docker)


def choose(named=(), lock=None, kept=None):
    return choose_shells(named, lock, Silent(), wiring.registries, kept)


@pytest.mark.parametrize("docker", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_every_platform_of_an_index_that_a_carrier_can_have(registry, ref, docker, packed):
    record = {"mediaType": "x/y", "digest": f"sha256:{'0' * 64}", "size": 3}
    others = (
        record | {"platform": {"os": "unknown", "architecture": "unknown"}},
        record | {"platform": {"os": "linux", "architecture": "s390x"}},
    )
    digest = plant(registry, docker=docker, packed=packed, more=others)
    shells = choose([ref])
    assert [shell.platform for shell in shells] == BOTH
    assert [shell.binary for shell in shells] == list(MACHINES.values())
    assert {str(shell.image) for shell in shells} == {f"{ref}@{digest}"}


def test_an_image_without_its_registry_is_taken_for_a_path():
    with pytest.raises(UnusableInputError, match="cannot be read") as caught:
        choose(["busybox:1.36"])
    assert "begins with its registry" in caught.value.hint


def test_one_image_without_an_index(registry, ref):
    image = plant_image(registry.content, "busybox", busybox_layer(MACHINES["arm64"]), machine="arm64", docker=True)
    data = registry.content.manifests["busybox"][image["digest"]].data
    registry.content.plant_manifest("busybox", data, image["mediaType"], "1")
    assert [shell.platform for shell in choose([ref])] == [BOTH[1]]


def test_the_lock_pins_the_image_and_what_was_in_it(registry, ref, tmp_path):
    digest = plant(registry)
    lock = tmp_path / "mlops.lock"
    first = choose([ref])
    pin_shells(lock, first)
    assert json.loads(lock.read_text())["shells"]["linux/arm64"] == {
        "digest": str(first[1].digest),
        "image": f"{ref}@{digest}",
    }
    plant(registry, binaries={machine: binary + b"new" for machine, binary in MACHINES.items()})
    assert choose(lock=lock) == first
    assert choose([ref]) != first


def test_what_was_taken_out_is_kept_and_nobody_is_asked_again(registry, ref, tmp_path):
    plant(registry)
    lock, kept = tmp_path / "mlops.lock", tmp_path / "kept"
    first = choose([ref], kept=kept)
    pin_shells(lock, first)
    asked = len(registry.asked)
    assert choose(lock=lock, kept=kept) == first
    assert len(registry.asked) == asked
    (kept / first[0].digest.hex).write_bytes(elf(text=b"BusyBox v1.0 of somebody else"))
    assert choose(lock=lock, kept=kept) == first
    assert len(registry.asked) > asked


def test_a_lock_that_says_another_binary_is_not_overruled(registry, ref, tmp_path):
    plant(registry)
    lock = tmp_path / "mlops.lock"
    pin_shells(lock, choose([ref]))
    found = json.loads(lock.read_text())
    found["shells"]["linux/amd64"]["digest"] = f"sha256:{'a' * 64}"
    lock.write_text(json.dumps(found))
    with pytest.raises(UnusableInputError, match="does not have the shells that"):
        choose(lock=lock)
    found["shells"]["linux/amd64"]["image"] = ref
    lock.write_text(json.dumps(found))
    with pytest.raises(UnusableInputError, match="is not a lock file"):
        pinned_images(lock)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (layer(("etc/passwd", b"x")), "has no `/bin/busybox`"),
        (layer(("bin/busybox", tarfile.SYMTYPE, "busybox")), "has no `/bin/busybox`"),
        (layer(("bin/busybox", tarfile.FIFOTYPE, "")), "no plain file of a busybox's size"),
        (layer(("bin/busybox", b"#!/bin/sh")), "is not a busybox"),
        (layer(("bin/busybox", elf(interpreter=True))), "linked dynamically"),
        (layer(("bin/busybox", elf(ARM64))), "in an image for another platform"),
        (b"no tar at all" * 100, "cannot be read"),
        (bytes(60 << 20), "none of a busybox image"),
        (layer(("bin/busybox", bytes(17 << 20))), "no plain file of a busybox's size"),
    ],
)
def test_what_is_no_busybox_image_is_refused(registry, ref, what, said):
    plant_index(registry.content, "busybox", "1", plant_image(registry.content, "busybox", what))
    with pytest.raises(UnusableInputError, match=said):
        choose([ref])


def test_a_bomb_of_many_small_streams_is_stopped(registry, ref):
    image = plant_image(registry.content, "busybox", gzip.compress(bytes(1 << 20)) * 100, packed=False)
    plant_index(registry.content, "busybox", "1", image)
    with pytest.raises(UnusableInputError, match="none of a busybox image"):
        choose([ref])


def test_a_layer_that_is_another_is_damage(registry, ref):
    plant(registry)
    for digest in list(registry.content.blobs):
        registry.content.blobs[digest] = registry.content.blobs[digest][:-1] + b"?"
    with pytest.raises(ContentMismatchError):
        choose([ref])


def test_a_registry_that_is_away_leaves_it_to_the_machine(registry, ref, tmp_path, monkeypatch):
    plant(registry, binaries={"amd64": MACHINES["amd64"]})
    lock = tmp_path / "mlops.lock"
    pin_shells(lock, choose([ref]))
    lock.write_text(lock.read_text().replace(registry.host, "127.0.0.1:1"))
    (tmp_path / "busybox").write_bytes(MACHINES["amd64"])
    with pytest.raises(UnusableInputError, match="no static busybox on this machine"):
        choose(lock=lock)
    monkeypatch.setattr(shells_module, "ON_THIS_MACHINE", (tmp_path / "busybox",))
    before = lock.read_text()
    found = choose(lock=lock)
    assert [shell.binary for shell in found] == [MACHINES["amd64"]]
    pin_shells(lock, found)
    assert lock.read_text() == before


def test_what_the_lock_loses_by_other_shells_is_said(registry, ref, tmp_path):
    image = f"{ref}@{plant(registry)}"
    lock = tmp_path / "mlops.lock"
    pin_shells(lock, choose([ref]))
    for machine, binary in MACHINES.items():
        (tmp_path / machine).write_bytes(binary)
    files = [str(tmp_path / machine) for machine in MACHINES]

    def warned(*named):
        story = Silent()
        choose_shells(named, lock, story, wiring.registries)
        return story.warned

    said = "this carrier has none of it, nor has the lock from now on"
    assert warned(files[0]) == [f"`{lock}` pinned a shell for linux/arm64 and the image `{image}`: {said}"]
    assert warned(*files) == [f"`{lock}` pinned the image `{image}`: {said}"]
    assert warned(ref) == []
    pin_shells(lock, choose(files))
    assert warned(files[1]) == [f"`{lock}` pinned a shell for linux/amd64: {said}"]
    assert warned(*files) == []
