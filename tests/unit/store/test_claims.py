"""Claims on a volume: who may copy, and what is taken over of those who died."""

import hashlib
import os
from pathlib import Path

import pytest

from mlops_deploy.oci.metadata import FileSum
from mlops_deploy.spec.refs import ContentId
from mlops_deploy.store import claims as module
from mlops_deploy.store import volume as volumes
from mlops_deploy.store.claims import Claims
from mlops_deploy.store.stage import Stage
from mlops_deploy.store.volume import Volume
from tests.fakes.opened import opened

CONTENT, OTHER = ContentId("a" * 64), ContentId("b" * 64)
NFS = 0x6969


@pytest.fixture(autouse=True)
def quick(monkeypatch, claims_end):
    monkeypatch.setattr(module, "_LOOK", 0.02)


@pytest.fixture
def volume(tmp_path):
    made = Volume(tmp_path / "volume")
    made.prepare()
    return made


@pytest.fixture
def busy(volume):
    """Somebody who is at work."""
    holder = os.open(volume.alive, os.O_RDWR | os.O_NONBLOCK)
    yield
    os.close(holder)


def claims(volume, content=CONTENT, patience=60):
    return Claims(volume, content, patience)


def left(volume, number, data=None, content=CONTENT):
    """What a dead one has left."""
    folder = volume.versions / f".{content}.{number}"
    (folder / "model").mkdir(parents=True)
    if data is not None:
        (folder / "model" / "m").write_bytes(data)
    return folder


def seen(volume):
    return sorted(path.name for path in volume.versions.glob(".[0-9a-f]*.*"))


def test_the_largest_copy_of_this_model_is_taken_over(volume):
    for number, size in ((1, 10), (2, 3000), (3, 200)):
        left(volume, number, bytes(size))
    left(volume, 1, bytes(10_000), OTHER)
    claim = claims(volume).taken()
    assert (claim.model / "m").stat().st_size == 3000
    assert seen(volume) == [claim.path.name]


def test_of_other_models_nothing_is_taken_over(volume):
    left(volume, 1, b"other", OTHER)
    claim = claims(volume).taken()
    assert not claim.model.exists()
    assert seen(volume) == [claim.path.name]


def test_a_link_is_not_taken_over(volume, tmp_path):
    (tmp_path / "outside").mkdir()
    folder = left(volume, 1)
    (folder / "model").rmdir()
    (folder / "model").symlink_to(tmp_path / "outside")
    claim = claims(volume).taken()
    assert not claim.model.is_symlink()
    assert (tmp_path / "outside").is_dir()


def test_where_other_machines_write_too_nobody_goes_on_in_a_file_that_may_be_written_to(volume, monkeypatch):
    """The fifo of another machine is not seen here: who seems dead may be alive, and has the file open."""
    monkeypatch.setattr(volumes, "_kind", lambda path: NFS if path == volume.path else None)
    good = b"good" * 1000
    files = [FileSum(path="m", size=len(good), sha256=hashlib.sha256(good).hexdigest())]
    there = claims(volume).taken()
    os.close(there._alive)
    there._alive = None
    with Stage(there.model, files).open("m", len(good)) as theirs:
        theirs.write(good[:2000])
        theirs._pass_on()
        here = claims(volume).taken()
        stage = Stage(here.model, files)
        with stage.open("m", len(good)) as ours:
            ours.write(good[ours.kept :])
            assert ours.digest == files[0].sha256
            stage.finish("m", ours)
        here.publish(volume.home(CONTENT), lambda: False)
        theirs.write(b"\0" * 2000)
    assert (volume.home(CONTENT) / "m").read_bytes() == good


def test_what_is_on_a_disk_of_ours_is_of_one_kernel(volume):
    assert volume.is_of_one_kernel
    assert not Volume(volume.path / "absent").is_of_one_kernel
    assert not Volume(Path("/proc")).is_of_one_kernel


@pytest.mark.usefixtures("busy")
def test_who_is_at_work_keeps_what_there_is(volume):
    left(volume, 1, b"theirs", OTHER)
    claims(volume).tidied()
    assert (volume.versions / f".{OTHER}.1" / "model" / "m").read_bytes() == b"theirs"


def test_nobody_at_work_means_that_what_is_left_goes(volume):
    left(volume, 1, b"old")
    claims(volume).tidied()
    assert seen(volume) == []


@pytest.mark.usefixtures("busy")
def test_another_one_who_begins_is_waited_for_anew(volume):
    left(volume, 1)
    waiting = claims(volume, patience=1)
    assert waiting.taken() is None
    left(volume, 2)
    assert waiting.taken() is None
    assert waiting.taken().path.name == f".{CONTENT}.3"
    assert len(seen(volume)) == 3


def test_of_two_that_make_the_same_claim_one_has_it(volume, monkeypatch):
    claims(volume).taken()
    monkeypatch.setattr(Claims, "_seen", lambda self: [])
    assert opened(volume.path) == [str(volume.alive)]
    with pytest.raises(FileExistsError):
        claims(volume).taken()
    assert opened(volume.path) == [str(volume.alive)]


def test_a_model_that_is_there_by_now_is_not_replaced(volume):
    home = volume.home(CONTENT)
    home.mkdir()
    before = home.stat().st_ino
    claim = claims(volume).taken()
    claim.model.mkdir()
    (claim.model / "m").write_bytes(b"ours")
    (home / "m").write_bytes(b"theirs")
    claim.publish(home, lambda: True)
    assert home.stat().st_ino == before
    assert (home / "m").read_bytes() == b"theirs"


def test_what_cannot_get_its_name_is_an_error(volume):
    with pytest.raises(OSError, match="No such file"):
        claims(volume).taken().publish(volume.home(CONTENT), lambda: False)
