import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest

from mlops_deploy.errors import DeployError
from mlops_deploy.oci.partial import PartialFile, reporting, sweep

WRITER = """
import sys, pathlib
from mlops_deploy.oci.partial import PartialFile
part = PartialFile(pathlib.Path(sys.argv[1]))
part.write(b"half")
print("ready", flush=True)
sys.stdin.read()
"""


def names(folder):
    return [path.name for path in folder.iterdir()]


def writer(folder):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"ready\n"
    return process


def end(process, signum):
    process.send_signal(signum)
    process.communicate()


def test_nothing_has_the_name_before_it_is_whole(tmp_path):
    part = PartialFile(tmp_path)
    part.write(b"ab")
    assert not (tmp_path / "f").exists()
    part.commit(tmp_path / "f")
    assert names(tmp_path) == ["f"]
    assert (tmp_path / "f").read_bytes() == b"ab"


def test_what_is_discarded_leaves_nothing_and_what_is_committed_stays(tmp_path):
    part = PartialFile(tmp_path)
    part.discard()
    part.discard()
    assert names(tmp_path) == []
    part = PartialFile(tmp_path)
    part.commit(tmp_path / "f")
    part.discard()
    assert names(tmp_path) == ["f"]


def test_a_writer_in_another_thread_fails_after_a_discard(tmp_path):
    part = PartialFile(tmp_path)
    part.discard()
    with pytest.raises(ValueError, match="closed"):
        part.write(b"late")


def test_the_umask_counts(tmp_path):
    before = os.umask(0o077)
    try:
        part = PartialFile(tmp_path)
        part.commit(tmp_path / "secret")
    finally:
        os.umask(before)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_what_a_killed_writer_left_is_swept(tmp_path):
    end(writer(tmp_path), signal.SIGKILL)
    assert len(names(tmp_path)) == 1
    sweep(tmp_path)
    assert names(tmp_path) == []


def test_what_a_living_writer_writes_is_not_swept(tmp_path):
    process = writer(tmp_path)
    sweep(tmp_path)
    assert len(names(tmp_path)) == 1
    end(process, signal.SIGKILL)


def test_nothing_else_is_swept(tmp_path):
    for name in (".mlops-deploy-1-0", "a.tmp", ".x.tmp", "mlops-deploy-1.tmp"):
        (tmp_path / name).touch()
    (tmp_path / ".mlops-deploy-link.tmp").symlink_to(tmp_path / "a.tmp")
    sweep(tmp_path)
    assert len(names(tmp_path)) == 5
    sweep(tmp_path / "nothing")


def test_a_file_swept_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    real, calls = fcntl.flock, []

    def sweeping_first(handle, how):
        calls.append(how)
        if len(calls) == 1:
            sweep_path = next(tmp_path.iterdir())
            sweep_path.unlink()
        real(handle, how)

    monkeypatch.setattr(fcntl, "flock", sweeping_first)
    part = PartialFile(tmp_path)
    part.write(b"x")
    part.commit(tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == b"x"


def test_a_disk_without_room_is_told_before_anything_is_written(tmp_path):
    part = PartialFile(tmp_path)
    with pytest.raises(OSError, match="No space left") as caught:
        part.reserve(2**60)
    assert caught.value.errno == errno.ENOSPC
    part.discard()


def test_a_failing_call_says_what_and_why():
    why = "the store `s` cannot be written: no space left on device"
    with pytest.raises(DeployError, match=why) as caught, reporting("the store `s`"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.hint
    assert caught.value.exit_code == 1
