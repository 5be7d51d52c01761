"""Straight to the registry, straight to the volume: beside bare loops, and beside what people use today.

The registry is Debian's `docker-registry` on loopback; it is emptied before each push. Every run is the whole command,
start-up included.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import docker

from benchmarks.build_model import BUILD, GIB, MIB, cached, memory_row, run, write_random
from benchmarks.table import NotMeasuredError, Row, compared, peak_memory, seconds

PULL = (sys.executable, "-m", "mlops_deploy", "pull")
THROTTLE = 100_000_000
"""Bytes in a second that a throttled source gives."""

_BLKIO = Path("/sys/fs/cgroup/blkio")

BARE_PUSH = """
import hashlib, http.client, os, sys
host, path, repository = sys.argv[1:]
connection = http.client.HTTPConnection(host)
connection.request("POST", f"/v2/{repository}/blobs/uploads/")
answer = connection.getresponse()
answer.read()
location = answer.headers["Location"].split(host, 1)[-1]
digest, block = hashlib.sha256(), memoryview(bytearray(1 << 20))
connection.putrequest("PATCH", location)
connection.putheader("Content-Type", "application/octet-stream")
connection.putheader("Content-Length", str(os.path.getsize(path)))
connection.endheaders()
with open(path, "rb", buffering=0) as source:
    while count := source.readinto(block):
        digest.update(block[:count])
        connection.send(block[:count])
answer = connection.getresponse()
answer.read()
location = answer.headers["Location"].split(host, 1)[-1]
connection.request("PUT", f"{location}&digest=sha256:{digest.hexdigest()}")
answer = connection.getresponse()
answer.read()
if answer.status != 201:
    sys.exit(f"the registry answered {answer.status}")
"""

BARE_PULL = """
import hashlib, http.client, os, sys
host, repository, digest, path = sys.argv[1:]
connection = http.client.HTTPConnection(host)
connection.request("GET", f"/v2/{repository}/blobs/{digest}")
answer = connection.getresponse()
found, block = hashlib.sha256(), memoryview(bytearray(1 << 20))
with open(path, "wb", buffering=0) as target:
    while count := answer.readinto(block):
        found.update(block[:count])
        target.write(block[:count])
    os.fsync(target.fileno())
if f"sha256:{found.hexdigest()}" != digest:
    sys.exit("other bytes")
"""

READ = """
import sys
block = bytearray(1 << 20)
with open(sys.argv[1], "rb", buffering=0) as source:
    while source.readinto(block):
        pass
"""


@dataclass(frozen=True)
class Registry:
    """A real one, on loopback."""

    host: str
    folder: Path

    def empty(self) -> None:
        """Forget all that was pushed, and let the disk rest."""
        shutil.rmtree(self.folder / "docker", ignore_errors=True)
        os.sync()


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="mlops-deploy-bench-") as name, registry(Path(name)) as there:
        folder = Path(name)
        os.chdir(folder)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        model = folder / "model"
        model.mkdir()
        write_random(model / "weights.bin", GIB)
        yield from cold_push(folder, model, there)
        yield from throttled(folder, model, there)
        yield from unchanged(folder, model, there)
        yield from pull(folder, model, there)
        yield from pull_beside_docker(folder, model, there)
        shutil.rmtree(model)
        yield from shards(folder, there)
        yield from memory(folder, there)


@contextmanager
def registry(folder: Path) -> Iterator[Registry]:
    """Debian's registry, until we are done."""
    if shutil.which("docker-registry") is None:
        raise NotMeasuredError("no docker-registry on this machine")
    with socket.create_server(("127.0.0.1", 0)) as free:
        host = f"127.0.0.1:{free.getsockname()[1]}"
    data = folder / "registry"
    settings = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(data)}, "delete": {"enabled": True}},
        "http": {"addr": host},
        "log": {"level": "error"},
    }
    (folder / "registry.json").write_text(json.dumps(settings))
    process = subprocess.Popen(
        ["docker-registry", "serve", str(folder / "registry.json")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with suppress(OSError), urllib.request.urlopen(f"http://{host}/v2/"):
                break
            time.sleep(0.05)
        yield Registry(host, data)
    finally:
        process.terminate()
        process.wait()


def forget(folder: Path) -> None:
    """What builds keep beside the model."""
    shutil.rmtree(folder / ".mlops", ignore_errors=True)
    shutil.rmtree(folder / "cache", ignore_errors=True)


def push(folder: Path, model: Path, there: Registry, *, cold: bool = True, name: str = "bench") -> dict[str, object]:
    if cold:
        forget(folder)
        there.empty()
    said = run(*BUILD, model, "--name", name, "--push", f"{there.host}/{name}:1", "--output", "json")
    return dict(json.loads(said))


def cold_push(folder: Path, model: Path, there: Registry) -> Iterator[Row]:
    def ours() -> float:
        forget(folder)
        there.empty()
        return seconds(lambda: push(folder, model, there, cold=False))

    def bare() -> float:
        there.empty()
        return seconds(lambda: run(sys.executable, "-c", BARE_PUSH, there.host, model / "weights.bin", "bench"))

    bare()
    yield compared("cold push, 1 GiB, to a bare read + sha256 + PATCH", ours, bare, goal="<= 1.15", times=5)
    yield from beside_skopeo(folder, model, there)
    yield from beside_docker_push(folder, model, there)
    yield from what_it_takes(folder, model, there)


def beside_skopeo(folder: Path, model: Path, there: Registry) -> Iterator[Row]:
    if shutil.which("skopeo") is None:
        return
    layout = folder / "layout"
    run(*BUILD, model, "--name", "bench", "-t", "bench:1", "--store", layout)

    def skopeo() -> float:
        there.empty()
        source, target = f"oci:{layout}:bench:1", f"docker://{there.host}/bench:1"
        command = ("skopeo", "copy", "--all", "--preserve-digests", "--dest-tls-verify=false", source, target)
        return seconds(lambda: run(*command))

    def ours() -> float:
        forget(folder)
        there.empty()
        return seconds(lambda: push(folder, model, there, cold=False))

    yield compared("cold push, 1 GiB, to `skopeo copy` of a ready layout", ours, skopeo, goal="<= 1.0", times=3)
    shutil.rmtree(layout)


def beside_docker_push(folder: Path, model: Path, there: Registry) -> Iterator[Row]:
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        print("registry: `docker push` is not measured: no Docker Engine answers", file=sys.stderr)
        return
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY model /models\n")
    name = f"{there.host}/theirs:1"

    def theirs() -> float:
        there.empty()
        os.utime(model / "weights.bin")
        taken = seconds(lambda: run("docker", "build", "--quiet", "--no-cache", "-t", name, folder))
        taken += seconds(lambda: run("docker", "push", "--quiet", name))
        run("docker", "rmi", name)
        return taken

    def ours() -> float:
        forget(folder)
        there.empty()
        return seconds(lambda: push(folder, model, there, cold=False))

    yield compared("cold push, 1 GiB, to `docker build` + `docker push`", ours, theirs, goal="<= 0.2", times=1)


def what_it_takes(folder: Path, model: Path, there: Registry) -> Iterator[Row]:
    """Bytes read and written of one cold push, as the kernel counts them."""
    forget(folder)
    there.empty()
    command = [*BUILD, str(model), "--name", "bench", "--push", f"{there.host}/bench:1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    started = time.perf_counter()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    taken = time.perf_counter() - started
    counted = dict(line.split(": ") for line in Path(f"/proc/{process.pid}/io").read_text().splitlines())
    process.wait()
    read, written = int(counted["rchar"]), int(counted["write_bytes"])
    yield Row("cold push: bytes read, to the model's", f"{read / MIB:,.0f} MiB", "1,024 MiB", read / GIB, "<= 1.05")
    yield Row(
        "cold push: bytes written to disk, to 1 MiB", f"{written / 1024:,.0f} KiB", "1 MiB", written / MIB, "<= 1"
    )
    yield Row("cold push: rate", f"{GIB / taken / 1e6:,.0f} MB/s", "", 0, "published")


def throttled(folder: Path, model: Path, there: Registry) -> Iterator[Row]:
    group = _BLKIO / f"mlops-deploy-bench-{os.getpid()}"
    try:
        device = (model / "weights.bin").stat().st_dev
        group.mkdir()
        limit = f"{os.major(device)}:{os.minor(device)} {THROTTLE}"
        (group / "blkio.throttle.read_bps_device").write_text(limit)
    except OSError as error:
        print(f"registry: a throttled source is not measured: {error}", file=sys.stderr)
        with suppress(OSError):
            group.rmdir()
        return

    def cold(*command: str | Path) -> float:
        with (model / "weights.bin").open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        inside = f'echo $$ > {group / "cgroup.procs"} && exec "$@"'
        return seconds(lambda: run("sh", "-c", inside, "sh", *command))

    def ours() -> float:
        forget(folder)
        there.empty()
        return cold(*BUILD, model, "--name", "bench", "--push", f"{there.host}/bench:1")

    def once() -> float:
        return cold(sys.executable, "-c", READ, model / "weights.bin")

    try:
        yield compared("push from a source of 100 MB/s, to reading it once", ours, once, goal="<= 1.1", times=1)
    finally:
        group.rmdir()


def unchanged(folder: Path, model: Path, there: Registry) -> Iterator[Row]:
    push(folder, model, there)
    times, read = [], 0
    for _ in range(5):
        started = time.perf_counter()
        said = push(folder, model, there, cold=False)
        times.append(time.perf_counter() - started)
        read += int(str(said["bytes_read"]))
    yield Row("unchanged push, 1 GiB", f"{min(times):.2f} s", "0.50 s", min(times) / 0.5, "<= 1")
    yield Row("bytes of the model read for it", str(read), "0", float(read), "<= 0")


def pull(folder: Path, model: Path, there: Registry) -> Iterator[Row]:
    push(folder, model, there)
    blob = max((there.folder / "docker" / "registry" / "v2" / "blobs").rglob("data"), key=lambda p: p.stat().st_size)
    digest = f"sha256:{blob.parent.name}"
    volume = folder / "volume"

    def ours() -> float:
        shutil.rmtree(volume, ignore_errors=True)
        os.sync()
        return seconds(lambda: run(*PULL, f"{there.host}/bench:1", volume))

    def bare() -> float:
        (folder / "copy").unlink(missing_ok=True)
        os.sync()
        command = (sys.executable, "-c", BARE_PULL, there.host, "bench", digest, folder / "copy")
        return seconds(lambda: run(*command))

    bare()
    yield compared("`pull`, 1 GiB, to a bare GET + sha256 + write + fsync", ours, bare, goal="<= 1.2", times=5)
    taken = min(seconds(lambda: run(*PULL, f"{there.host}/bench:1", volume)) for _ in range(5))
    yield Row("`pull` of what is there", f"{taken:.2f} s", "0.50 s", taken / 0.5, "<= 1")
    used = sum(path.stat().st_blocks * 512 for path in volume.rglob("*") if path.is_file())
    yield Row("`pull`: disk, to the model's bytes", f"{used / MIB:,.0f} MiB", "1,024 MiB", used / GIB, "<= 1.01")
    shutil.rmtree(volume)
    yield memory_row("peak memory, `pull` of 1 GiB", peak_memory([*PULL, f"{there.host}/bench:1", str(volume)]))
    shutil.rmtree(volume)
    (folder / "copy").unlink()


def pull_beside_docker(folder: Path, model: Path, there: Registry) -> Iterator[Row]:
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        print("registry: `docker pull` is not measured: no Docker Engine answers", file=sys.stderr)
        return
    theirs, carrier, volume = f"{there.host}/theirs:1", f"{there.host}/bench:1", folder / "volume"
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY model /models\n")
    engine = docker.from_env(timeout=600)
    before = cached(engine)
    run("docker", "build", "--quiet", "--no-cache", "-t", theirs, folder)
    run("docker", "push", "--quiet", theirs)
    run("docker", "rmi", theirs)
    for made in cached(engine) - before:  # an engine that still has the layer would not pull it
        engine.api.prune_builds(filters={"id": made}, all=True)
    run(*BUILD, model, "--name", "bench", "--push", carrier)
    kept: list[int] = []

    def ours() -> float:
        shutil.rmtree(volume, ignore_errors=True)
        os.sync()
        return seconds(lambda: run(*PULL, carrier, volume))

    def with_docker(name: str) -> float:
        """Pull, copy the files out of the image into a folder, and have them on disk: what a bootstrap does."""
        shutil.rmtree(volume, ignore_errors=True)
        os.sync()

        def work() -> None:
            run("docker", "pull", "--quiet", name)
            container = run("docker", "create", name, "none").strip()
            try:
                run("docker", "cp", "--quiet", f"{container}:/models", volume)
            finally:
                run("docker", "rm", container)
            os.sync()

        before = free(volume)
        taken = seconds(work)
        kept.append(before - free(volume))
        run("docker", "rmi", name)
        return taken

    yield compared(
        "`pull`, 1 GiB, to `docker pull` + copy + sync of a built image",
        ours, lambda: with_docker(theirs), goal="<= 0.25", times=3,
    )  # fmt: skip
    yield compared("the same, of our own carrier", ours, lambda: with_docker(carrier), goal="published", times=3)
    yield Row(
        "`pull`: disk, to that of `docker pull` + copy",
        "1,024 MiB",
        f"{kept[0] / MIB:,.0f} MiB",
        GIB / kept[0],
        "<= 0.55",
    )
    shutil.rmtree(volume)


def free(folder: Path) -> int:
    """Bytes that the disk still has room for."""
    os.sync()
    found = os.statvfs(folder.parent)
    return found.f_bfree * found.f_frsize


def shards(folder: Path, there: Registry) -> Iterator[Row]:
    """Ten shards: one changed, and a push that was cut in the middle."""
    model, size = folder / "shards", 100 * MIB
    model.mkdir()
    for number in range(10):
        write_random(model / f"shard-{number}.bin", size)
    push(folder, model, there)
    write_random(model / "shard-3.bin", size)
    time.sleep(0.2)
    sent = int(str(push(folder, model, there, cold=False)["bytes_sent"]))
    yield Row(
        "one of ten shards changed: bytes sent, to its own", f"{sent / MIB:.1f} MiB", "100 MiB", sent / size, "<= 1.01"
    )
    yield from cut(folder, model, there, size)
    shutil.rmtree(model)


def cut(folder: Path, model: Path, there: Registry, size: int) -> Iterator[Row]:
    forget(folder)
    there.empty()
    command = [*map(str, BUILD), str(model), "--name", "bench", "--push", f"{there.host}/bench:1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while len(whole(there, size)) < 5 and time.monotonic() < until:  # half of ten
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there_already = len(whole(there, size))
    sent = int(str(push(folder, model, there, cold=False)["bytes_sent"]))
    expected = (10 - there_already) * size
    yield Row(
        f"a push killed with {there_already} of ten shards there: bytes sent then, to the others'",
        f"{sent / MIB:,.0f} MiB", f"{expected / MIB:,.0f} MiB", sent / expected, "<= 1.01",
    )  # fmt: skip


def whole(there: Registry, size: int) -> list[Path]:
    blobs = there.folder / "docker" / "registry" / "v2" / "blobs"
    return [path for path in blobs.rglob("data") if path.stat().st_size >= size]


def memory(folder: Path, there: Registry) -> Iterator[Row]:
    """From holes, which cost no disk to read; the registry keeps them, so one size after the other."""
    for size in (1, 8):
        for side_by_side in (1, 4):
            forget(folder)
            there.empty()
            model = folder / "sparse"
            model.mkdir()
            for number in range(side_by_side):
                with (model / f"{number}.bin").open("wb") as file:
                    file.truncate(size * GIB // side_by_side)
                    file.write(b"%d" % number)  # no two of the same digest
            command = [*map(str, BUILD), str(model), "--name", "bench", "--push", f"{there.host}/bench:1"]
            used = peak_memory(command)
            yield memory_row(f"peak memory, push of {size} GiB in {side_by_side}", used)
            if size == 8 and side_by_side == 1:
                taken = min(seconds(partial(run, *command)) for _ in range(3))
                yield Row("unchanged push, 8 GiB", f"{taken:.2f} s", "0.50 s", taken / 0.5, "<= 1")
            shutil.rmtree(model)


if __name__ == "__main__":
    for row in rows():
        print(*row, row.met, sep=" | ", flush=True)
