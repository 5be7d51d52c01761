"""`pull` to volumes that are full, read-only or another user's: real mounts and users, so only root can run these."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.fakes.carrier_tree import as_root
from tests.fakes.pullable import Pullable, pullable
from tests.integration.deploy_sh.test_volumes import NOBODY, mounted, read_only, small

pytestmark = as_root
ROOT = Path(__file__).parents[2]
FILES = {"big": bytes(3_000_000), "small": b"s"}
PROGRAM = """
import os
import sys
from pathlib import Path
from mlops_deploy.api.origins import StoreOrigin
from mlops_deploy.api.pull import pull_from
from mlops_deploy.errors import DeployError
from mlops_deploy.store.layout import LayoutStore
from tests.fakes.carriers import Silent

store, volume, user, *rehash = sys.argv[1:]
layout = LayoutStore(Path(store))
if user != "0":  # who may not read the program can run it like this
    os.setgroups([])
    os.setgid(int(user))
    os.setuid(int(user))
try:
    found = StoreOrigin(layout, layout.find("digits:1"))
    print(pull_from(found, Path(volume), Silent(), rehash=bool(rehash)).line)
except DeployError as error:
    print(error, error.hint, sep="; ", file=sys.stderr)
    sys.exit(getattr(error, "code", error.exit_code))
"""
"""The exit code is the one that deploy.sh has for the same trouble."""


@pytest.fixture
def volume():
    """A volume in a folder that any user may walk through, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        model = pullable(folder, FILES)
        model.path.mkdir(mode=0o755)
        subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)
        yield model


def pull(volume: Pullable, *more, user=0):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(volume.store.path), str(volume.path), str(user), *more],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def leftovers(volume):
    return list(volume.path.glob("v/.[0-9a-f]*.*"))


def test_no_room_is_said_before_anything_is_written(volume):
    with small(volume, "2m"):
        done = pull(volume)
        assert (done.returncode, done.stdout) == (74, "")
        assert "has 2 MiB free, the model needs 4; make room" in done.stderr
        assert not leftovers(volume)
        subprocess.run(["mount", "-o", "remount,size=8m", str(volume.path)], check=True)
        assert pull(volume).stdout.startswith("copied ")
        assert volume.is_whole()


def test_a_volume_that_fills_up_in_the_copy(volume, monkeypatch):
    program = PROGRAM.replace("try:", "os.statvfs = lambda _: os.statvfs_result([4096] * 10)\ntry:", 1)
    monkeypatch.setitem(globals(), "PROGRAM", program)
    with small(volume, "2m"):
        done = pull(volume)
        assert (done.returncode, done.stdout) == (74, "")
        assert "no space left" in done.stderr
        assert [path.name for path in (volume.path / "v").iterdir()] == [".alive"]
        subprocess.run(["mount", "-o", "remount,size=8m", str(volume.path)], check=True)
        assert pull(volume).stdout.startswith("copied ")


def test_a_damaged_model_makes_room_for_the_whole_one(volume):
    with small(volume, "5m"):
        assert pull(volume).returncode == 0
        (volume.home / "small").unlink()
        assert pull(volume).returncode == 0
        assert volume.is_whole()


@pytest.mark.parametrize("whose", ["this", "another"])
def test_what_a_killed_copy_left_makes_room(volume, whose):
    with small(volume, "5m"):
        content = volume.carrier.id if whose == "this" else "0" * 64
        shutil.copytree(volume.carrier.root / "models", volume.path / "v" / f".{content}.1" / "model")
        assert pull(volume).returncode == 0
        assert volume.is_whole()
        assert volume.is_clean()


def test_a_read_only_volume_without_the_model(volume):
    with read_only(volume):
        done = pull(volume)
    assert (done.returncode, done.stdout) == (73, "")
    assert "mount it writable" in done.stderr
    assert "read-only file system" in done.stderr


def test_a_read_only_volume_with_the_model(volume):
    assert pull(volume).returncode == 0
    with read_only(volume):
        for more in ((), ("rehash",)):
            done = pull(volume, *more)
            assert (done.returncode, done.stdout.split()[0], done.stderr) == (0, "found", "")
    volume.link.unlink()
    with read_only(volume):
        assert pull(volume).returncode == 0


def test_a_read_only_volume_whose_link_names_another_model(volume):
    assert pull(volume).returncode == 0
    volume.link.unlink()
    volume.link.symlink_to("v/" + "0" * 64)
    with read_only(volume):
        done = pull(volume)
    assert (done.returncode, done.stdout) == (73, "")
    assert "points at another model" in done.stderr


def test_a_read_only_volume_with_a_damaged_model(volume):
    assert pull(volume).returncode == 0
    victim = volume.home / "small"
    victim.chmod(0o600)
    victim.write_bytes(b"t")
    with read_only(volume):
        assert pull(volume).returncode == 0
        assert pull(volume, "rehash").returncode == 65
    victim.unlink()
    with read_only(volume):
        done = pull(volume)
    assert (done.returncode, done.stdout) == (65, "")
    assert "is damaged and cannot be replaced" in done.stderr


def test_another_users_folder_is_refused_with_the_uid_to_use(volume):
    done = pull(volume, user=NOBODY)
    assert (done.returncode, done.stdout) == (73, "")
    assert (
        f"`{volume.path}` cannot be written: it belongs to uid 0 and this runs as uid {NOBODY}; run it as user 0"
        in (done.stderr)
    )
    assert pull(volume).returncode == 0
    assert pull(volume, user=NOBODY).stdout.startswith("found ")
    (volume.home / "small").unlink()
    done = pull(volume, user=NOBODY)
    assert done.returncode == 65
    assert f"for uid {NOBODY}" in done.stderr


def test_an_ordinary_user_in_a_folder_of_its_own(volume):
    os.chown(volume.path, NOBODY, NOBODY)
    assert [pull(volume, user=NOBODY).stdout.split()[0] for _ in range(2)] == ["copied", "found"]
    assert volume.is_whole()
    assert volume.is_clean()
    (volume.home / "small").unlink()
    assert pull(volume, user=NOBODY).stdout.startswith("copied ")
    assert volume.is_whole()


@pytest.mark.parametrize("inodes", [1, 3])
def test_a_volume_without_an_inode_left(volume, inodes):
    with mounted(volume.path, "-t", "tmpfs", "-o", f"size=8m,nr_inodes={inodes},mode=755", "tmpfs"):
        done = pull(volume)
    assert (done.returncode, done.stdout) == (74, "")
    assert "no space left" in done.stderr


def test_what_is_said_to_be_copied_survives_a_power_cut(volume):
    """A copy of the disk, made while it is mounted, lacks all that the kernel has not written to it."""
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("no mkfs.ext4 is here")
    disk, after = volume.path.with_name("disk"), volume.path.with_name("after")
    with disk.open("wb") as file:
        file.truncate(32 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(disk)], check=True)
    with mounted(volume.path, "-o", "loop", str(disk)):
        done = pull(volume)
        shutil.copy(disk, after)
    assert done.stdout.startswith("copied ")
    with mounted(volume.path, "-o", "loop", str(after)):
        assert volume.is_whole()
