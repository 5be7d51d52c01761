import threading

import pytest

from mlops_deploy.oci.partial import PartialFile
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
            with locked(tmp_path / ".lock"):
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
