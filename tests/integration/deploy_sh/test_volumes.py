"""Volumes that are full, read-only or another user's: real mounts and real users, so only root can run these."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.carrier_tree import Shell, Volume, as_root, every_busybox, make_carrier

pytestmark = as_root
NOBODY = 65532
PLENTY = 'stat() { if [ "$1" = -f ]; then echo 999999; else command stat "$@"; fi; }'


@pytest.fixture
def volume() -> Iterator[Volume]:
    """A volume in a folder that any user may walk through, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        place = folder / "volume"
        place.mkdir(mode=0o755)
        yield Volume(path=place, carrier=make_carrier(folder / "image", {"big": bytes(3_000_000), "small": b"s"}))


@contextmanager
def mounted(path: Path, *words: str) -> Iterator[None]:
    mount = ["mount", *words, str(path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip(f"this machine does not let root `{' '.join(mount)}`")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@contextmanager
def small(volume: Volume, size: str) -> Iterator[None]:
    with mounted(volume.path, "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs"):
        yield


@contextmanager
def read_only(volume: Volume) -> Iterator[None]:
    with mounted(volume.path, "--bind", str(volume.path)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(volume.path)], check=True)
        yield


@every_busybox
def test_no_room_is_said_before_anything_is_written(shell: Shell, volume: Volume) -> None:
    with small(volume, "2m"):
        done = volume.run(shell)
        assert (done.returncode, done.stdout) == (74, "")
        assert "has 2 MiB free, the model needs 4: make room" in done.stderr
        assert not list(volume.path.glob("v/.[0-9a-f]*.*"))
        subprocess.run(["mount", "-o", "remount,size=8m", str(volume.path)], check=True)
        assert volume.run(shell).stdout.startswith("copied ")
        assert volume.is_whole()


@every_busybox
def test_a_volume_that_fills_up_in_the_copy(shell: Shell, volume: Volume) -> None:
    with small(volume, "2m"):
        done = volume.run(shell, before=PLENTY)
        assert (done.returncode, done.stdout) == (74, "")
        assert "No space left" in done.stderr
        assert [path.name for path in (volume.path / "v").iterdir()] == [".alive"]
        subprocess.run(["mount", "-o", "remount,size=8m", str(volume.path)], check=True)
        assert volume.run(shell).stdout.startswith("copied ")


@every_busybox
def test_a_damaged_model_makes_room_for_the_whole_one(shell: Shell, volume: Volume) -> None:
    with small(volume, "5m"):
        assert volume.run(shell).returncode == 0
        (volume.home / "small").unlink()
        assert volume.run(shell).returncode == 0
        assert volume.is_whole()


@every_busybox
def test_what_a_killed_copy_left_makes_room(shell: Shell, volume: Volume) -> None:
    with small(volume, "5m"):
        left = volume.path / "v" / f".{'0' * 64}.1" / "model"
        shutil.copytree(volume.carrier.root / "models", left)
        assert volume.run(shell).returncode == 0
        assert volume.is_whole()
        assert volume.is_clean()


@every_busybox
def test_a_read_only_volume_without_the_model(shell: Shell, volume: Volume) -> None:
    with read_only(volume):
        done = volume.run(shell)
    assert (done.returncode, done.stdout) == (73, "")
    assert "mount it writable" in done.stderr
    assert "Read-only file system" in done.stderr


@every_busybox
def test_a_read_only_volume_with_the_model(shell: Shell, volume: Volume) -> None:
    assert volume.run(shell).returncode == 0
    with read_only(volume):
        for verify in ("", "always"):
            done = volume.run(shell, MODEL_VERIFY=verify)
            assert (done.returncode, done.stdout.split()[0], done.stderr) == (0, "found", "")
    volume.link.unlink()
    with read_only(volume):
        assert volume.run(shell).returncode == 0


@every_busybox
def test_a_read_only_volume_whose_link_names_another_model(shell: Shell, volume: Volume) -> None:
    assert volume.run(shell).returncode == 0
    volume.link.unlink()
    volume.link.symlink_to("v/" + "0" * 64)
    with read_only(volume):
        done = volume.run(shell)
    assert (done.returncode, done.stdout) == (73, "")
    assert "points at another model" in done.stderr


@every_busybox
def test_a_read_only_volume_with_a_damaged_model(shell: Shell, volume: Volume) -> None:
    assert volume.run(shell).returncode == 0
    victim = volume.home / "small"
    victim.chmod(0o600)
    victim.write_bytes(b"t")
    with read_only(volume):
        assert volume.run(shell).returncode == 0
        assert volume.run(shell, MODEL_VERIFY="always").returncode == 65
    victim.unlink()
    with read_only(volume):
        done = volume.run(shell)
    assert (done.returncode, done.stdout) == (65, "")
    assert "is damaged and cannot be replaced" in done.stderr


@every_busybox
def test_another_users_folder_is_refused_with_the_uid_to_use(shell: Shell, volume: Volume) -> None:
    done = volume.run(shell, user=NOBODY)
    assert (done.returncode, done.stdout) == (73, "")
    assert f"`{volume.path}`: it belongs to uid 0 and this runs as uid {NOBODY}: run it as user 0" in done.stderr
    assert volume.run(shell).returncode == 0
    assert volume.run(shell, user=NOBODY).stdout.startswith("found ")
    (volume.home / "small").unlink()
    done = volume.run(shell, user=NOBODY)
    assert done.returncode == 65
    assert f"for uid {NOBODY}" in done.stderr


@every_busybox
def test_an_ordinary_user_in_a_folder_of_its_own(shell: Shell, volume: Volume) -> None:
    os.chown(volume.path, NOBODY, NOBODY)
    assert [volume.run(shell, user=NOBODY).stdout.split()[0] for _ in range(2)] == ["copied", "found"]
    assert volume.is_whole()
    assert volume.is_clean()
    (volume.home / "small").unlink()
    assert volume.run(shell, user=NOBODY).stdout.startswith("copied ")
    assert volume.is_whole()


@every_busybox
@pytest.mark.parametrize("inodes", [1, 3])
def test_a_volume_without_an_inode_left(shell: Shell, volume: Volume, inodes: int) -> None:
    with mounted(volume.path, "-t", "tmpfs", "-o", f"size=8m,nr_inodes={inodes},mode=755", "tmpfs"):
        done = volume.run(shell)
    assert (done.returncode, done.stdout) == (74, "")
    assert "No space left" in done.stderr


@every_busybox
def test_what_is_said_to_be_copied_survives_a_power_cut(shell: Shell, volume: Volume) -> None:
    """A copy of the disk, made while it is mounted, lacks all that the kernel has not written to it."""
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("no mkfs.ext4 is here")
    disk, after = volume.path.with_name("disk"), volume.path.with_name("after")
    with disk.open("wb") as file:
        file.truncate(32 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(disk)], check=True)
    with mounted(volume.path, "-o", "loop", str(disk)):
        done = volume.run(shell)
        shutil.copy(disk, after)
    assert done.stdout.startswith("copied ")
    with mounted(volume.path, "-o", "loop", str(after)):
        assert volume.is_whole()
