"""`build-model`: beside a bare loop, beside `docker build`, and what it takes of memory and disk.

Every run is the whole command, start-up included. Both sides of a pair read the same files from the page cache.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker

from benchmarks.table import NotMeasuredError, Row, compared, peak_memory, seconds

MIB, GIB = 2**20, 2**30
BLOCK = MIB // 4  # the better of the usual sizes for the bare loop, too
BUILD = (sys.executable, "-m", "mlops_deploy", "build-model")
MEMORY = 96 * MIB

BARE = f"""
import hashlib, os, sys
digest, block = hashlib.sha256(), memoryview(bytearray({BLOCK}))
with open(sys.argv[1], "rb", buffering=0) as source, open(sys.argv[2], "wb", buffering=0) as target:
    while count := source.readinto(block):
        digest.update(block[:count])
        target.write(block[:count])
    os.fsync(target.fileno())
"""


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="mlops-deploy-bench-") as name:
        folder = Path(name)
        model = folder / "model"
        model.mkdir()
        write_random(model / "weights.bin", GIB)
        yield from to_the_store(folder, model)
        yield from unchanged(folder, model)
        yield from memory(folder, model)
        yield from many_files(folder)
        yield from overhead(folder)
        yield from to_the_engine(folder, model)


def write_random(path: Path, size: int) -> None:
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))


def run(*command: str | Path, **environment: str) -> str:
    """What the command said on stdout."""
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
        env=os.environ | environment,
    )
    return done.stdout


@contextmanager
def gone_afterwards(path: Path) -> Iterator[Path]:
    """A place to write to; what was written is removed, and the disk is at rest, before the next is measured."""
    yield path
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    os.sync()


def to_the_store(folder: Path, model: Path) -> Iterator[Row]:
    def ours() -> float:
        with gone_afterwards(folder / ".mlops") as made:
            return seconds(lambda: run(*BUILD, model, "--store", made / "store"))

    def bare() -> float:
        with gone_afterwards(folder / "copy") as made:
            return seconds(lambda: run(sys.executable, "-c", BARE, model / "weights.bin", made))

    bare()
    os.chdir(folder)
    yield compared(
        "`build-model` to the store, 1 GiB, to read + sha256 + write + fsync", ours, bare, goal="<= 1.15", times=7
    )


def unchanged(folder: Path, model: Path) -> Iterator[Row]:
    with gone_afterwards(folder / ".mlops"):
        command = (*BUILD, model, "--store", folder / ".mlops" / "store", "--output", "json")
        run(*command)
        taken = min(seconds(lambda: run(*command)) for _ in range(5))
        read = json.loads(run(*command))["bytes_read"]
    yield Row("unchanged rebuild, 1 GiB", f"{taken:.2f} s", "0.50 s", taken / 0.5, "<= 1")
    yield Row("bytes of the model read for it", str(read), "0", float(read), "<= 0")


def memory(folder: Path, model: Path) -> Iterator[Row]:
    with gone_afterwards(folder / ".mlops"), gone_afterwards(folder / "x.tar"):
        to_disk = peak_memory([*BUILD, str(model), "--store", str(folder / ".mlops" / "s"), "--archive", "x.tar"])
    yield memory_row("peak memory, 1 GiB to store and archive", to_disk)
    with gone_afterwards(folder / "sparse"), gone_afterwards(folder / ".mlops"):
        for size in (1, 8):
            with (folder / "sparse").open("wb") as file:
                file.truncate(size * GIB + 12345)
            used = peak_memory([*BUILD, str(folder / "sparse"), "--archive", "-"])
            yield memory_row(f"peak memory, {size} GiB to a pipe", used)


def memory_row(name: str, used: int, limit: int = MEMORY) -> Row:
    return Row(name, f"{used / MIB:.0f} MiB", f"{limit / MIB:.0f} MiB", used / limit, "<= 1")


def many_files(folder: Path) -> Iterator[Row]:
    with gone_afterwards(folder / "many") as many, gone_afterwards(folder / ".mlops") as made:
        for number in range(100_000):
            path = many / f"{number // 1000:03}" / f"{number:06}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"%d" % number)
        command = [*BUILD, str(many), "--store", str(made / "store")]
        used = []
        taken = seconds(lambda: used.append(peak_memory(command)))
        packed = seconds(lambda: run("sh", "-c", f"find {many} -type f -print0 | xargs -0 sha256sum; tar cf - {many}"))
    yield Row("100,000 files, to sha256sum and tar", f"{taken:.1f} s", f"{packed:.1f} s", taken / packed, "published")
    yield memory_row("peak memory, 100,000 files", used[0], 200 * MIB)


def overhead(folder: Path) -> Iterator[Row]:
    for count in (1, 10_000):
        many = folder / "many"
        with gone_afterwards(many), gone_afterwards(folder / ".mlops"):
            many.mkdir()
            for number in range(count):
                (many / f"part-{number:05}.bin").write_bytes(b"%d" % number)
            store = folder / ".mlops" / "store"
            run(*BUILD, many, "--store", store)
            made = sum(path.stat().st_size for path in (store / "blobs" / "sha256").iterdir())
            made -= sum(path.stat().st_size for path in many.iterdir())
        limit = 2 * MIB + 1536 * count
        yield Row(
            f"carrier beyond its model, {count:,} file{'s' if count > 1 else ''}",
            f"{made / 1024:,.0f} KiB",
            f"{limit / 1024:,.0f} KiB",
            made / limit,
            "<= 1",
        )


def to_the_engine(folder: Path, model: Path) -> Iterator[Row]:
    try:
        engine = docker.from_env(timeout=600)
        engine.ping()
    except docker.errors.DockerException as error:
        raise NotMeasuredError("no Docker Engine answers") from error
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY model /models\n")

    def fresh() -> None:
        """Other times, so that the builder cannot know the files from the last run."""
        os.utime(model / "weights.bin")
        os.sync()

    def ours() -> float:
        fresh()
        with gone_afterwards(folder / ".mlops"):
            taken = seconds(lambda: run(*BUILD, model, "--load", "-t", "mlops-deploy-bench:ours"))
        for tag in engine.images.get("mlops-deploy-bench:ours").tags:
            engine.images.remove(tag)
        return taken

    def dockers() -> float:
        fresh()
        before = cached(engine)
        command = ("docker", "build", "--quiet", "--no-cache", "-t", "mlops-deploy-bench:theirs", folder)
        taken = seconds(lambda: run(*command, DOCKER_BUILDKIT="1"))
        engine.images.remove("mlops-deploy-bench:theirs")
        for made in cached(engine) - before:
            engine.api.prune_builds(filters={"id": made}, all=True)
        return taken

    yield compared("`build-model --load`, 1 GiB, to `docker build`", ours, dockers, goal="<= 1.0", times=5)


def cached(engine: docker.DockerClient) -> set[str]:
    """What the builder keeps: only what a run added is pruned, so that nobody else's cache is lost."""
    return {entry["ID"] for entry in engine.df()["BuildCache"] or ()}


if __name__ == "__main__":
    for row in rows():
        print(*row, row.met, sep=" | ")
