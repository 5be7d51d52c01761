"""The n-th system call of a kind fails, or kills its process, in every process of a run.

`MLOPS_DEPLOY_FAULTS=all` injects every combination; without it a fixed sample is taken.
"""

import errno
import os
import random
import re
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from tests.fakes.carrier_tree import FILES, Shell, Volume, contents, every_busybox, make_carrier
from tests.fakes.strace import calls_of

CALLS = (
    "open,openat", "read", "write", "sendfile", "close", "stat,newfstatat,statx", "fstat", "lstat,readlink",
    "getdents64", "mkdir,mkdirat", "mknod,mknodat", "rename,renameat,renameat2", "unlink,unlinkat", "rmdir",
    "symlink,symlinkat", "chmod,fchmodat", "fsync,fdatasync", "dup2,dup3", "fork,vfork,clone", "execve",
    "pipe,pipe2", "statfs",
)  # fmt: skip
ENDS = ("error=EIO", "error=ENOSPC", "error=EACCES", "signal=KILL")
TURNS = (1, 2, 3, 5, 8, 13)
# A close that fails closes all the same, which an injected error does not.
FAULTS = [(c, end, turn) for c, end, turn in product(CALLS, ENDS, TURNS) if c != "close" or end == "signal=KILL"]
SAMPLE = 72


def faults() -> list[tuple[str, str, int]]:
    if os.environ.get("MLOPS_DEPLOY_FAULTS") == "all":
        return FAULTS
    return random.Random(1).sample(FAULTS, SAMPLE)


needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="no strace is here to inject faults with")


def traced(shell: Shell, inject: str) -> Shell:
    words = ("strace", "-f", "-qqq", "-o", os.devnull, "-e", inject, "-e", "signal=none")
    return replace(shell, argv=(*words, *shell.argv))


@needs_strace
@every_busybox
@pytest.mark.parametrize("part", range(4))
def test_a_failing_system_call_never_leaves_a_wrong_model(shell: Shell, tmp_path: Path, part: int) -> None:
    carrier = make_carrier(tmp_path / "image")
    for number, (calls, end, turn) in enumerate(faults()[part::4]):
        volume = Volume(path=tmp_path / f"volume-{number}", carrier=carrier)
        if number % 3 == 0:  # a damaged model has to be replaced
            shutil.copytree(carrier.root / "models", volume.home)
            os.truncate(volume.home / "model.bin", 1000)
        before = contents(volume.home)
        known = ",".join(f"?{call}" for call in calls.split(","))
        inject = f"inject={known}:{end}:when={turn}"
        done = volume.run(traced(shell, inject))
        found = contents(volume.home)
        assert found in (None, before, FILES), f"half a model is seen: {inject}: {done}"
        assert done.returncode != 0 or found == FILES, f"success without a model: {inject}: {done}"
        healed = volume.run(shell)
        assert healed.returncode == 0, f"not healed: {inject}: {healed}"
        assert volume.is_whole()
        assert volume.is_clean(), f"left behind: {inject}"
        shutil.rmtree(volume.path)


@needs_strace
@every_busybox
def test_what_cannot_be_flushed_is_not_published(shell: Shell, tmp_path: Path) -> None:
    volume = Volume(path=tmp_path / "volume", carrier=make_carrier(tmp_path / "image"))
    done = volume.run(traced(shell, "inject=?fsync,?fdatasync,?sync,?syncfs:error=EIO"))
    assert (done.returncode, done.stdout) == (74, "")
    assert "does not keep what is written" in done.stderr
    assert not volume.home.exists()


@needs_strace
@every_busybox
@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT"])
def test_a_volume_where_not_even_a_folder_fits(shell: Shell, tmp_path: Path, error: str) -> None:
    volume = Volume(path=tmp_path / "volume", carrier=make_carrier(tmp_path / "image"))
    for place in (volume.path, volume.path / "v"):
        done = volume.run(traced(shell, f"inject=?mkdir,?mkdirat:error={error}"))
        assert (done.returncode, done.stdout) == (74, "")
        assert os.strerror(getattr(errno, error)) in done.stderr
        place.mkdir()


@needs_strace
@every_busybox
def test_all_of_the_copy_is_flushed_before_its_name_and_then_its_name(shell: Shell, tmp_path: Path) -> None:
    carrier = make_carrier(tmp_path / "image")
    volume = Volume(path=tmp_path / "volume", carrier=carrier)
    log = tmp_path / "log"
    watch = (
        "strace",
        "-f",
        "-y",
        "-s",
        "4096",
        "-o",
        str(log),
        "-e",
        "trace=fsync,fdatasync,rename,renameat,renameat2",
    )
    assert volume.run(replace(shell, argv=(*watch, *shell.argv))).returncode == 0
    stage = volume.path / "v" / f".{carrier.id}.1" / "model"
    before, published, after = "\n".join(calls_of(log)).partition(f'"{volume.home}"')
    assert published
    parts = {path.relative_to(volume.home) for path in [volume.home, *volume.home.rglob("*")]}
    assert {stage / part for part in parts} <= flushed(before)
    assert {volume.path, volume.path / "v"} <= flushed(after)


def flushed(log: str) -> set[Path]:
    return {Path(path) for path in re.findall(r"(?:fsync|fdatasync)\(\d+<([^>]*)>", log)}
