"""A volume: what is whole there, what points at it, how much room there is, and what is said when it fails."""

import errno
import os
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from mlops_deploy.oci.metadata import FileSum
from mlops_deploy.spec.refs import ContentId
from mlops_deploy.store.volume import Volume, VolumeError, failing_on, is_verified, is_whole, needed_kib, walked

CONTENT, OTHER = ContentId("a" * 64), ContentId("b" * 64)
DATA = {"m": b"weights", "deep/n": b"more"}
FILES = [FileSum(path=path, size=len(data), sha256=sha256(data).hexdigest()) for path, data in DATA.items()]


@pytest.fixture
def volume(tmp_path):
    made = Volume(tmp_path / "volume")
    made.prepare()
    return made


@pytest.fixture
def home(volume):
    home = volume.home(CONTENT)
    (home / "deep").mkdir(parents=True)
    for path, data in DATA.items():
        (home / path).write_bytes(data)
    return home


@pytest.mark.parametrize("what", ["link", "link of a folder", "fifo", "missing", "more", "shorter", "folder"])
def test_only_the_very_files_are_whole(home, tmp_path, what):
    assert is_whole(home, FILES)
    victim = home / "m"
    match what:
        case "link":
            victim.unlink()
            victim.symlink_to("x" * len(DATA["m"]))
        case "link of a folder":
            shutil.move(home / "deep", tmp_path / "deep")
            (home / "deep").symlink_to(tmp_path / "deep")
        case "fifo":
            victim.unlink()
            os.mkfifo(victim)
        case "missing":
            victim.unlink()
        case "more":
            (home / "more").write_bytes(b"")
        case "shorter":
            victim.write_bytes(b"weight")
        case "folder":
            victim.unlink()
            victim.mkdir()
    assert not is_whole(home, FILES)


@pytest.mark.parametrize("path", DATA)
def test_each_byte_is_verified(home, path):
    assert is_verified(home, FILES)
    (home / path).write_bytes(bytes(len(DATA[path])))
    assert is_whole(home, FILES)
    assert not is_verified(home, FILES)


def test_a_walk_follows_no_link(home, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x").write_bytes(b"x" * 100)
    (home / "there").symlink_to(tmp_path / "outside")
    (home / "file").symlink_to(tmp_path / "outside" / "x")
    found = {path: entry.st_size for path, entry in walked(home)}
    assert found.keys() == {*DATA, "there", "file"}
    assert found["file"] != 100


def test_files_take_whole_blocks():
    assert needed_kib([0, 1, 4096, 4097]) == 0 + 4 + 4 + 8


def test_a_fifo_that_cannot_be_written_is_said(volume, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != volume.alive)
    with pytest.raises(PermissionError, match="fifo is another user's"):
        volume.prepare()


class TestPoint:
    def test_a_link_is_replaced_by_one_rename_and_is_never_missing(self, volume, monkeypatch):
        volume.point("digits", OTHER)
        real, before = os.rename, []

        def rename(source, target, **how):
            before.append(str(Path(target).readlink()))
            real(source, target, **how)

        monkeypatch.setattr(os, "rename", rename)
        volume.point("digits", CONTENT)
        volume.point("digits", CONTENT)
        assert before == [f"v/{OTHER}"]
        assert volume.link("digits").readlink() == Path("v", str(CONTENT))
        assert {path.name for path in volume.path.iterdir()} == {"v", "digits"}

    def test_what_a_killed_one_left_is_used(self, volume):
        (volume.path / f".digits.{CONTENT}").symlink_to(f"v/{CONTENT}")
        volume.point("digits", CONTENT)
        assert {path.name for path in volume.path.iterdir()} == {"v", "digits"}

    def test_what_somebody_put_in_its_place_is_not_given_the_name(self, volume):
        following = volume.path / f".digits.{CONTENT}"
        following.symlink_to("/etc")
        volume.point("digits", CONTENT)
        assert not os.path.lexists(volume.link("digits"))

    def test_a_link_that_stays_at_another_model_is_an_error_and_a_missing_one_is_not(self, volume, monkeypatch):
        def refused(*_, **__):
            raise OSError(errno.EROFS, "Read-only file system")

        with monkeypatch.context() as before:
            before.setattr(os, "symlink", refused)
            volume.point("digits", CONTENT)
        volume.point("digits", OTHER)
        monkeypatch.setattr(os, "symlink", refused)
        with pytest.raises(VolumeError, match="points at another model") as said:
            volume.point("digits", CONTENT)
        assert said.value.code == 73


class TestRefusals:
    @pytest.mark.parametrize(
        ("number", "code", "text"),
        [
            (errno.ENOSPC, 74, "cannot be written: no space"),
            (errno.EDQUOT, 74, "cannot be written: disk quota"),
            (errno.ENOTDIR, 73, "no folder"),
            (errno.EROFS, 73, "cannot be written: read-only"),
        ],
    )
    def test_each_failure_has_its_code(self, volume, number, code, text):
        said = volume.refusal(OSError(number, os.strerror(number)), CONTENT)
        assert said.code == code
        assert text in str(said)
        assert said.hint

    def test_a_damaged_model_that_stays_is_called_damaged(self, volume, home):
        said = volume.refusal(OSError(errno.EROFS, "Read-only file system"), CONTENT)
        assert said.code == 65
        assert "is damaged and cannot be replaced" in str(said)

    def test_another_users_volume_is_named_as_such(self, volume, monkeypatch):
        owner = volume.versions.stat().st_uid
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
        said = volume.refusal(PermissionError(errno.EACCES, "Permission denied"), CONTENT)
        assert f"belongs to uid {owner} and this runs as uid {owner + 1}" in str(said)

    def test_a_copy_that_fails_says_what_helps(self, tmp_path):
        for number, hint in ((errno.ENOSPC, "make room"), (errno.EIO, "disk errors"), (errno.ENOENT, "retry")):
            with pytest.raises(VolumeError) as said, failing_on(tmp_path):
                raise OSError(number, os.strerror(number))
            assert hint in said.value.hint
            assert said.value.code == 74
        assert "removed meanwhile" in str(said.value)
