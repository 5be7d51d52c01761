"""deploy.sh: copy, verify and flush 1 GiB beside `cp` and `sync` of the same shell, and a model that is already there.

The goal is for a shell whose sha256sum uses the processor's SHA instructions; an older one is published beside it.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.table import NotMeasuredError, Row, compared, seconds
from tests.fakes.carrier_tree import BUSYBOXES, GUARD, SCRIPT, Shell

MIB, GIB = 2**20, 2**30
FAST = 600 * MIB
"""Bytes per second that no busybox hashes without SHA instructions."""
FOUND = 0.050
SYNCS = {"cp + sync of the copy": "sync *", "cp + sync": "sync"}
"""The peers: one flushes what it has written, the other everything that the machine has not."""


def rows() -> Iterator[Row]:
    if not BUSYBOXES:
        raise NotMeasuredError("no static busybox is here")
    with tempfile.TemporaryDirectory(prefix="mlops-deploy-bench-") as name:
        for parts in (1, 4):
            image = Path(name) / f"image-{parts}"
            write_image(image, parts)
            for shell in BUSYBOXES:
                for flush in SYNCS:
                    yield copying(shell, image, parts, Path(name) / "volume", flush)
        small = Path(name) / "small"
        write_image(small, 4, size=4 * MIB)
        for shell in BUSYBOXES:
            yield already_there(shell, small, Path(name) / "found")


def write_image(root: Path, parts: int, size: int = GIB) -> None:
    (root / "models").mkdir(parents=True)
    (root / "carrier").mkdir()
    shutil.copy(SCRIPT, root)
    sums, sizes = "", ""
    for part in range(parts):
        data = os.urandom(size // parts)
        (root / "models" / f"part-{part}").write_bytes(data)
        sums += f"{hashlib.sha256(data).hexdigest()}  ./part-{part}\n"
        sizes += f"{len(data)} ./part-{part}\n"
    (root / "carrier" / "SHA256SUMS").write_text(sums)
    (root / "carrier" / "SIZES").write_text(sizes)
    (root / "carrier" / "manifest.json").write_text('{\n  "name": "bench"\n}\n')


def deploy(shell: Shell, image: Path, volume: Path) -> None:
    content = hashlib.sha256((image / "carrier" / "SHA256SUMS").read_bytes()).hexdigest()
    env = {"PATH": shell.path, "CARRIER_ROOT": str(image), "MODEL_VOLUME": str(volume), "MODEL_ID": content}
    subprocess.run([*shell.argv, "-c", GUARD], env=env, stdout=subprocess.DEVNULL, check=True)


def copy_and_sync(shell: Shell, image: Path, volume: Path, flush: str) -> None:
    script = f'cp -R "$0/." "$1" && cd "$1" && {SYNCS[flush]}'
    subprocess.run([*shell.argv, "-c", script, str(image / "models"), str(volume)], check=True)


def once(work: partial[None], volume: Path) -> float:
    """Seconds on an empty volume, with nothing else waiting to be written."""
    shutil.rmtree(volume, ignore_errors=True)
    os.sync()
    return seconds(work)


def copying(shell: Shell, image: Path, parts: int, volume: Path, flush: str) -> Row:
    fast = GIB / seconds(partial(sha256, shell, next((image / "models").iterdir()))) / parts > FAST
    return compared(
        f"deploy.sh, {shell.label}: 1 GiB in {parts} file{'s' if parts > 1 else ''}, to {flush}",
        partial(once, partial(deploy, shell, image, volume), volume),
        partial(once, partial(copy_and_sync, shell, image, volume, flush), volume),
        goal="<= 1.5" if fast else "published",
        times=5,
    )


def sha256(shell: Shell, path: Path) -> None:
    subprocess.run([*shell.argv, "-c", 'sha256sum "$0"', str(path)], stdout=subprocess.DEVNULL, check=True)


def already_there(shell: Shell, image: Path, volume: Path) -> Row:
    deploy(shell, image, volume)
    ours = min(seconds(partial(deploy, shell, image, volume)) for _ in range(20))
    return Row(
        f"deploy.sh, {shell.label}: already there",
        f"{ours * 1000:.0f} ms",
        f"{FOUND * 1000:.0f} ms",
        ours / FOUND,
        "<= 1",
    )
