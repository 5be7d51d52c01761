"""Many runs on one volume: all succeed, nobody sees a wrong listing, and the model is copied once."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.carrier_tree import Shell, Volume, every_busybox, finish, make_carrier

MANY = 16
FILES = {f"part {n:02}/{m}": bytes([n, m]) * 4000 for n in range(10) for m in range(10)}
NO_FIFO = "mkfifo() { false; }"


def listing(folder: Path) -> dict[str, int] | None:
    """Names and sizes, or None when the folder is not there or goes while it is read."""
    try:
        return {
            os.path.relpath(os.path.join(place, name), folder): os.stat(os.path.join(place, name)).st_size  # noqa: PTH116, PTH118
            for place, _, names in os.walk(folder, onerror=_gone)
            for name in names
        }
    except FileNotFoundError:
        return None


def _gone(error: OSError) -> None:
    raise error


@contextmanager
def watching(volume: Volume) -> Iterator[list[object]]:
    """Collect every wrong listing that a reader of the volume could see."""
    right = {name: len(data) for name, data in volume.carrier.files.items()}
    wrong: list[object] = []
    looks = 0
    done = threading.Event()

    def look() -> None:
        nonlocal looks
        while not done.is_set():
            seen = listing(volume.home)
            looks += 1
            if seen not in (None, right):
                wrong.append(seen)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield wrong
    finally:
        done.set()
        thread.join()
    assert looks > MANY


def deploy_at_once(volume: Volume, shell: Shell, before: str = "") -> list[str]:
    running = [volume.start(shell, before=before) for _ in range(MANY)]
    told = [finish(process) for process in running]
    assert [(process.returncode, err) for process, (_, err) in zip(running, told, strict=True)] == [(0, "")] * MANY
    return sorted(out.split()[0] for out, _ in told)


@every_busybox
@pytest.mark.parametrize("state", ["fresh", "abandoned"])
def test_sixteen_at_once_copy_once(shell: Shell, tmp_path: Path, state: str) -> None:
    for round_ in range(3):
        volume = Volume(path=tmp_path / f"volume-{round_}", carrier=make_carrier(tmp_path / "image", FILES))
        if state == "abandoned":
            for number in (1, 2):
                shutil.copytree(
                    volume.carrier.root / "models", volume.path / "v" / f".{volume.carrier.id}.{number}" / "model"
                )
        with watching(volume) as wrong:
            said = deploy_at_once(volume, shell)
        assert not wrong
        assert said == ["copied", *["found"] * (MANY - 1)]
        assert volume.is_whole()
        assert volume.is_clean()


@every_busybox
def test_sixteen_at_once_without_fifos_copy_more_often(shell: Shell, tmp_path: Path) -> None:
    volume = Volume(path=tmp_path / "volume", carrier=make_carrier(tmp_path / "image", FILES))
    with watching(volume) as wrong:
        said = deploy_at_once(volume, shell, before=NO_FIFO)
    assert not wrong
    assert said[0] == "copied"
    assert volume.is_whole()
    assert volume.is_clean()


@every_busybox
def test_sixteen_at_once_replace_a_damaged_model(shell: Shell, tmp_path: Path) -> None:
    volume = Volume(path=tmp_path / "volume", carrier=make_carrier(tmp_path / "image", FILES))
    shutil.copytree(volume.carrier.root / "models", volume.home)
    (volume.home / "part 03" / "3").unlink()
    assert deploy_at_once(volume, shell).count("copied") == 1
    assert volume.is_whole()
    assert volume.is_clean()


@every_busybox
def test_two_models_at_once(shell: Shell, tmp_path: Path) -> None:
    digits = Volume(path=tmp_path / "volume", carrier=make_carrier(tmp_path / "digits", FILES))
    wine = Volume(path=digits.path, carrier=make_carrier(tmp_path / "wine", name="wine"), name="wine")
    with watching(digits) as wrong:
        running = [each.start(shell) for _ in range(MANY // 2) for each in (digits, wine)]
        said = sorted(finish(process)[0].split()[0] for process in running)
    assert not wrong
    assert said == ["copied"] * 2 + ["found"] * (MANY - 2)
    assert digits.is_whole()
    assert wine.is_whole()
