"""What an agent leaves behind when it is killed: containers, processes, cgroups and mounts, found by its folder."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

ALLOCATION: Final = "com.hashicorp.nomad.alloc_id"
CGROUPS: Final = Path("/sys/fs/cgroup")
GONE_SECONDS: Final = 30


def remove_leftovers(folder: Path) -> None:
    """Remove everything that agents of this folder ran; they must have ended."""
    until = time.monotonic() + GONE_SECONDS
    while running := processes(folder):
        assert time.monotonic() < until, f"processes that cannot be killed: {running}"
        for pid in running:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    if left := containers(folder):
        subprocess.run(["docker", "rm", "--force", "--volumes", *left], capture_output=True, check=False)
    for mount in mounts(folder):
        subprocess.run(["umount", mount], check=False)
    for group in cgroups(folder):
        with suppress(OSError):
            group.rmdir()


def containers(folder: Path) -> list[str]:
    """Containers whose allocation is of an agent of this folder."""
    if shutil.which("docker") is None:
        return []
    listed = _docker("ps", "--all", "--quiet", "--filter", f"label={ALLOCATION}").split()
    found = json.loads(_docker("inspect", *listed) or "[]") if listed else []
    return [one["Id"] for one in found if any(_below(mount["Source"], folder) for mount in one["Mounts"])]


def processes(folder: Path) -> list[int]:
    """Processes of its tasks, and Nomad's own that outlive an agent and have the folder in their environment."""
    mark = f"TEST_AGENT={folder}".encode()
    ours = allocations(folder)
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            groups = (process / "cgroup").read_text()
            if mark in (process / "environ").read_bytes().split(b"\0") or any(one in groups for one in ours):
                found.append(int(process.name))
    return found


def mounts(folder: Path) -> list[str]:
    """What is mounted below it, innermost first."""
    lines = Path("/proc/mounts").read_text().splitlines()
    return sorted((mount for line in lines if _below(mount := line.split()[1], folder)), reverse=True)


def cgroups(folder: Path) -> Iterator[Path]:
    """Groups of its allocations' tasks."""
    ours = allocations(folder)
    # Other agents' groups go away meanwhile, which a glob does not bear and a walk does; the innermost come first.
    for path, names, _ in os.walk(CGROUPS, topdown=False) if ours else ():
        found = [name for name in names if name.partition(".")[0] in ours]
        if "/nomad" in path:
            yield from (Path(path, name) for name in found)


def allocations(folder: Path) -> list[str]:
    """Ids of the allocations that its node still knows."""
    return [path.name for path in folder.glob("data/alloc/*-*-*-*-*")]


def _below(path: str, folder: Path) -> bool:
    return path.startswith(f"{folder}/")


def _docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False).stdout
