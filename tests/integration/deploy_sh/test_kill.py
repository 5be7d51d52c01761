"""Everything dies at once, before every command that deploy.sh calls, from four states of the volume."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.carrier_tree import APPLETS, Shell, Volume, contents, every_busybox, make_carrier

# Each command leaves a mark first; the one that finds as many as were allowed kills the process group instead.
BEFORE = """
turn() { printf . >>"$TURNS"; read -r marks <"$TURNS"; [ ${#marks} -lt "$LAST" ] || kill -9 0; }
""" + "\n".join(f'{name}() {{ turn; command {name} "$@"; }}' for name in APPLETS if name != "sh")


def fresh(_: Volume) -> None:
    pass


def half_copied(volume: Volume) -> None:
    shutil.copytree(volume.carrier.root / "models", volume.home)
    (volume.home / "model.bin").unlink()


def damaged(volume: Volume) -> None:
    shutil.copytree(volume.carrier.root / "models", volume.home)
    os.truncate(volume.home / "model.bin", 1000)


def partial_stage(volume: Volume) -> None:
    stage = volume.path / "v" / f".{volume.carrier.id}.1" / "model"
    shutil.copytree(volume.carrier.root / "models", stage)
    os.truncate(stage / "model.bin", 1000)


@every_busybox
@pytest.mark.parametrize("state", [fresh, half_copied, damaged, partial_stage])
def test_killed_before_every_command(shell: Shell, state: Callable[[Volume], None], tmp_path: Path) -> None:
    carrier = make_carrier(tmp_path / "image")
    turns = tmp_path / "turns"
    for last in range(1, 500):
        volume = Volume(path=tmp_path / f"volume-{last}", carrier=carrier)
        state(volume)
        before = contents(volume.home)
        turns.write_text("")
        done = volume.run(shell, before=BEFORE, TURNS=str(turns), LAST=str(last))
        assert contents(volume.home) in (None, before, carrier.files), f"half a model is seen after {last} commands"
        assert not volume.link.is_symlink() or volume.link.resolve() == volume.home
        if done.returncode == 0:
            break
        assert done.returncode == -9, f"not killed, but failed before command {last}: {done}"
        healed = volume.run(shell)
        assert healed.returncode == 0, f"not healed after a kill before command {last}: {healed}"
        assert volume.is_whole()
        assert volume.is_clean(), f"left behind by a kill before command {last}"
        shutil.rmtree(volume.path)
    assert last > 20, "most commands were not reached"
