import fcntl
import threading
from types import SimpleNamespace

import pytest

from mlops_deploy.errors import LockedError
from mlops_deploy.oci.partial import PartialFile
from mlops_deploy.store import files
from mlops_deploy.store.files import locked, replace_file


def test_whoever_reads_meanwhile_sees_the_old_file_whole(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old" * 1000)
    with path.open("rb") as reading:
        assert reading.read(3) == b"old"
        replace_file(path, b"new")
        assert reading.read() == b"old" * 999
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("step", ["write", "commit"])
def test_a_failure_at_any_step_keeps_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "f"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PartialFile, step, fail)
    with pytest.raises(OSError, match="No space"):
        replace_file(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    assert path.read_bytes() == b"old"


def test_one_at_a_time_holds_a_lock(tmp_path):
    inside, most = [], []

    def enter():
        for _ in range(50):
            with locked(tmp_path / ".lock", "testing", deadline=30, tell=print):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert len(most) == 200


@pytest.fixture
def held(tmp_path):
    """A lock that another process holds, as the kernel sees it."""
    with (tmp_path / ".lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by what is slept, so that no stall of the machine comes between one look and the next."""
    made = SimpleNamespace(now=1000.0)
    made.monotonic = lambda: made.now
    made.sleep = lambda seconds: setattr(made, "now", made.now + seconds)
    monkeypatch.setattr(files, "time", made)
    return made


def test_a_lock_that_another_holds_is_not_waited_for_for_ever(tmp_path, held, clock):
    told, started = [], clock.now
    waiting = locked(tmp_path / ".lock", "writing", deadline=1.2, tell=lambda text: told.append((clock.now, text)))
    with pytest.raises(LockedError, match=r"another process has been writing for 1\.2 s") as caught, waiting:
        raise AssertionError
    assert 1.2 <= clock.now - started < 1.3
    [(at, text)] = told
    assert 1.0 <= at - started < 1.1
    assert text == "waiting: another process is writing"
    assert caught.value.exit_code == 3


def test_a_lock_that_is_freed_soon_is_taken_without_a_word(tmp_path, held, monkeypatch):
    monkeypatch.setattr(files, "_PATIENCE", 20.0)
    told = []
    threading.Timer(0.2, lambda: fcntl.flock(held, fcntl.LOCK_UN)).start()
    with locked(tmp_path / ".lock", "writing", deadline=30, tell=told.append):
        assert not told
