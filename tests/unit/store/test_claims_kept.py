"""Claims at their edges: what nobody may remove, who gets one, and what is let go of."""

import os
import threading

import pytest

from mlops_deploy.spec.refs import ContentId
from mlops_deploy.store import claims as module
from mlops_deploy.store.claims import Claims
from mlops_deploy.store.volume import Volume
from tests.fakes.opened import opened

CONTENT, OTHER = ContentId("a" * 64), ContentId("b" * 64)


@pytest.fixture(autouse=True)
def quick(monkeypatch, claims_end):
    monkeypatch.setattr(module, "_LOOK", 0.01)


@pytest.fixture
def volume(tmp_path):
    made = Volume(tmp_path / "volume")
    made.prepare()
    return made


def seen(volume):
    return sorted(path.name for path in volume.versions.glob(".[0-9a-f]*.*"))


@pytest.mark.parametrize("mine", [CONTENT, OTHER])
def test_a_living_claim_stays_whole_whoever_comes(volume, mine):
    living = Claims(volume, CONTENT, 0).taken()
    living.model.mkdir()
    (living.model / "m").write_bytes(b"living")
    other = Claims(volume, mine, 0)
    mine = other.taken()
    other.tidied()
    assert mine.path != living.path
    assert not mine.model.exists()
    assert (living.model / "m").read_bytes() == b"living"


def test_another_model_that_is_copied_holds_nobody_up(volume):
    Claims(volume, OTHER, 0).taken()
    claim = Claims(volume, CONTENT, 60).taken()
    assert claim is not None
    assert claim.path.name == f".{CONTENT}.1"


def test_the_wait_has_an_end_and_the_next_number_is_free(volume):
    living = Claims(volume, CONTENT, 0).taken()
    waiting = Claims(volume, CONTENT, 3)
    took = [waiting.taken() for _ in range(4)]
    assert took[:3] == [None] * 3
    assert took[3].path.name == f".{CONTENT}.2"
    assert living.path.is_dir()


def test_without_a_fifo_nobody_is_waited_for_and_nothing_is_removed(volume):
    volume.alive.unlink()
    left = volume.versions / f".{CONTENT}.1"
    left.mkdir()
    claim = Claims(volume, CONTENT, 60).taken()
    Claims(volume, CONTENT, 60).tidied()
    assert claim is not None
    assert left.is_dir()
    before = opened(volume.path)
    claim.release()
    assert opened(volume.path) == before


def test_who_writes_to_the_fifo_is_at_work(volume):
    """Bytes in it prove nobody's death."""
    left = volume.versions / f".{OTHER}.1"
    left.mkdir()
    holder = os.open(volume.alive, os.O_RDWR | os.O_NONBLOCK)
    os.write(holder, b"x" * 100)
    Claims(volume, CONTENT, 60).taken()
    assert left.is_dir()
    os.close(holder)


def test_of_many_that_begin_at_once_no_two_get_one_claim(volume):
    taken, start = [], threading.Barrier(8)

    def take():
        claims = Claims(volume, CONTENT, 0)
        start.wait()
        while True:
            try:
                taken.append(claims.taken())
            except FileExistsError:
                continue
            return

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len({claim.path for claim in taken}) == 8
    assert seen(volume) == sorted(claim.path.name for claim in taken)


def test_a_claim_is_private_and_is_let_go_of_at_once(volume):
    before = opened(volume.path)
    claim = Claims(volume, CONTENT, 0).taken()
    assert opened(volume.path) != before
    assert claim.path.stat().st_mode & 0o777 == 0o700
    claim.model.mkdir()
    claim.release()
    claim.release()
    assert opened(volume.path) == before
    assert seen(volume) == []


@pytest.mark.parametrize("begun", [True, False])
def test_what_was_begun_stays_when_it_is_to_and_nothing_that_is_empty(volume, begun):
    claim = Claims(volume, CONTENT, 0).taken()
    if begun:
        claim.model.mkdir()
    claim.release(keep=True)
    assert claim.path.exists() is begun


def test_what_was_taken_over_first_is_not_overwritten(volume):
    claim = Claims(volume, CONTENT, 0).taken()
    claim.model.mkdir()
    old = volume.versions / f".{CONTENT}.9"
    (old / "model").mkdir(parents=True)
    (old / "model" / "m").write_bytes(b"smaller")
    claim.discard(old, keep=True)
    assert not list(claim.model.iterdir())
    assert not old.exists()


def test_a_link_in_the_place_of_what_is_left_is_removed_alone(volume, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_bytes(b"outside")
    (volume.versions / f".{CONTENT}.1").symlink_to(outside)
    claim = Claims(volume, CONTENT, 0).taken()
    assert seen(volume) == [claim.path.name]
    assert not list(claim.path.iterdir())
    assert (outside / "x").read_bytes() == b"outside"


def test_what_is_discarded_cannot_be_published_by_whoever_might_still_use_it(volume, monkeypatch):
    """It is out of the way before the first of its files goes."""
    old = volume.versions / f".{OTHER}.1"
    (old / "model").mkdir(parents=True)
    gone = []
    monkeypatch.setattr(module, "_remove", lambda path: gone.append((path, old.exists())))
    claim = Claims(volume, CONTENT, 0).taken()
    assert gone == [(claim.path / "old", False)]


class TestPublish:
    @pytest.fixture
    def claim(self, volume):
        claim = Claims(volume, CONTENT, 0).taken()
        claim.model.mkdir()
        (claim.model / "m").write_bytes(b"ours")
        return claim

    def test_a_right_home_keeps_its_very_folder(self, volume, claim):
        home = volume.home(CONTENT)
        home.mkdir()
        (home / "m").write_bytes(b"theirs")
        before = home.stat().st_ino
        claim.publish(home, lambda: True)
        assert home.stat().st_ino == before

    def test_a_damaged_home_is_replaced_and_nothing_is_removed_meanwhile(self, volume, claim):
        home = volume.home(CONTENT)
        home.mkdir()
        (home / "m").write_bytes(b"damaged")
        claim.publish(home, lambda: False)
        assert (home / "m").read_bytes() == b"ours"
        assert (claim.path / "replaced" / "m").read_bytes() == b"damaged"

    def test_what_does_not_get_its_name_is_never_silent(self, volume, claim, monkeypatch):
        home = volume.home(CONTENT)
        home.mkdir()
        (home / "m").write_bytes(b"damaged")
        real = os.rename

        def rename(source, target, **how):
            if str(target).endswith("replaced"):
                raise PermissionError(1, "not permitted")
            real(source, target, **how)

        monkeypatch.setattr(os, "rename", rename)
        with pytest.raises(OSError, match="not empty"):
            claim.publish(home, lambda: False)
        assert (home / "m").read_bytes() == b"damaged"

    def test_another_one_who_was_faster_is_no_error(self, volume, claim, monkeypatch):
        home, real = volume.home(CONTENT), os.rename

        def rename(source, target, **how):
            home.mkdir()
            (home / "m").write_bytes(b"theirs")
            real(source, target, **how)

        monkeypatch.setattr(os, "rename", rename)
        claim.publish(home, (home / "m").exists)
        assert (home / "m").read_bytes() == b"theirs"
        assert (claim.model / "m").read_bytes() == b"ours"
