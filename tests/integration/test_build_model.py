"""Carriers against what has to take them: Docker with both of its image stores, skopeo, a full disk."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest

from tests.fakes.carrier_tree import wait_until
from tests.fakes.carriers import write_model

pytestmark = pytest.mark.docker

FILES = {"model.bin": os.urandom(300_000), "labels/names with blanks.txt": b"0\n", "labels/größe": b"8x8", "empty": b""}
needs_skopeo = pytest.mark.skipif(not shutil.which("skopeo"), reason="no skopeo here")


def run(*arguments, check=True, **named):
    named.setdefault("capture_output", True)
    done = subprocess.run([str(part) for part in arguments], timeout=300, check=False, **named)
    assert not check or done.returncode == 0, done.stderr
    return done


def build(folder, *arguments, check=True, **more):
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())} | more
    command = [sys.executable, "-m", "mlops_deploy", "build-model", "model", *arguments]
    return run(*command, cwd=folder, env=environment, check=check)


def result(done):
    return json.loads(done.stdout)


@pytest.fixture
def folder(tmp_path):
    write_model(tmp_path / "model", FILES)
    time.sleep(0.15)  # older than the resolution of their times
    return tmp_path


@pytest.fixture(scope="module")
def containerd_store(tmp_path_factory):
    """A second engine, which keeps its images in containerd."""
    if os.geteuid() or not shutil.which("dockerd"):
        pytest.skip("a second engine needs root and dockerd")
    root = tmp_path_factory.mktemp("e")
    settings = {
        "features": {"containerd-snapshotter": True},
        "hosts": [f"unix://{root}/d.sock"],
        "data-root": f"{root}/data",
        "exec-root": f"{root}/exec",
        "pidfile": f"{root}/pid",
        "bridge": "none",
        "iptables": False,
        "ip6tables": False,
        "containerd-namespace": "mlops-deploy-test",
        "containerd-plugins-namespace": "mlops-deploy-test-plugins",
    }
    (root / "daemon.json").write_text(json.dumps(settings))
    with (root / "log").open("wb") as log:
        # In a network of its own: an engine without a bridge removes the one that the machine's engine uses.
        command = ["unshare", "--net", "dockerd", "--config-file", str(root / "daemon.json")]
        engine = subprocess.Popen(command, stdout=log, stderr=log)
    host = f"unix://{root}/d.sock"
    asked = ["docker", "-H", host, "info", "--format", "{{.DriverStatus}}"]
    deadline = time.monotonic() + 60
    while (answer := run(*asked, check=False)).returncode and time.monotonic() < deadline and engine.poll() is None:
        time.sleep(0.2)
    if b"snapshotter" not in answer.stdout:
        stop(engine)
        pytest.skip("this engine cannot keep images in containerd")
    yield host
    for image in run("docker", "-H", host, "images", "-q").stdout.decode().split():
        run("docker", "-H", host, "rmi", "-f", image, check=False)
    stop(engine)


def stop(engine):
    engine.terminate()
    engine.wait(120)


@pytest.fixture(params=["classic", "containerd"])
def host(request):
    """An engine, with either image store, from which what a test loads is removed."""
    found = request.getfixturevalue("classic" if request.param == "classic" else "containerd_store")
    yield found
    remove_images(found)


def remove_images(host):
    listed = run("docker", "-H", host, "images", "--filter", "reference=mlops-carrier-test*", "-q").stdout
    for image in set(listed.decode().split()):
        run("docker", "-H", host, "rmi", "-f", image)


@pytest.fixture
def classic():
    """The engine of this machine."""
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    yield host
    remove_images(host)


TAG = "mlops-carrier-test:1"


def copied(host, image, tmp_path, command=("sh", "-c", "/deploy.sh")):
    """What is on a fresh volume after the carrier ran; and what a second run says."""
    volume = tmp_path / "volume"
    volume.mkdir()
    line = ("docker", "-H", host, "run", "--rm", "--network", "none", "-v", f"{volume}:/model", image, *command)
    first, second = run(*line), run(*line)
    assert b"copied" in first.stdout + first.stderr
    assert b"found" in second.stdout + second.stderr
    (content,) = (path for path in (volume / "v").iterdir() if len(path.name) == 64)
    return {str(p.relative_to(content)): p.read_bytes() for p in content.rglob("*") if p.is_file()}, content.name


class TestEngine:
    def test_it_is_loaded_once_and_runs_and_the_second_time_nothing_is_sent(self, folder, host):
        first = result(build(folder, "--load", "-t", TAG, "--output", "json", DOCKER_HOST=host))
        assert first["bytes_read"] == sum(map(len, FILES.values()))
        assert first["bytes_sent"] > first["bytes_read"]
        again = result(build(folder, "--load", "-t", TAG, "--output", "json", DOCKER_HOST=host))
        assert (again["bytes_read"], again["bytes_sent"]) == (0, 0)
        assert again["digest"] == first["digest"]
        files, content = copied(host, TAG, folder)
        assert files == FILES
        assert content == first["content_id"]

    def test_a_removed_tag_is_set_again_without_sending(self, folder, host):
        first = result(build(folder, "--load", "-t", TAG, "--output", "json", DOCKER_HOST=host))
        run("docker", "-H", host, "rmi", TAG)
        again = result(build(folder, "--load", "-t", TAG, "--output", "json", DOCKER_HOST=host))
        assert (again["bytes_read"], again["bytes_sent"]) == (0, 0)
        assert run("docker", "-H", host, "image", "inspect", *first["tags"]).returncode == 0

    def test_the_command_of_the_image_does_it_alone(self, folder, host):
        build(folder, "--load", "-t", TAG, DOCKER_HOST=host)
        assert copied(host, TAG, folder, command=())[0] == FILES

    @pytest.mark.parametrize("way", ["file", "stream"])
    def test_an_archive_is_loaded(self, folder, host, way):
        if way == "file":
            build(folder, "--archive", "x.tar", "-t", TAG)
            run("docker", "-H", host, "load", "-i", folder / "x.tar")
        else:
            run("docker", "-H", host, "load", input=build(folder, "--archive", "-", "-t", TAG).stdout)
        assert copied(host, TAG, folder)[0] == FILES

    def test_the_labels_are_read_without_pulling_a_layer(self, folder, host):
        made = result(build(folder, "--load", "-t", TAG, "--output", "json", DOCKER_HOST=host))
        asked = ("docker", "-H", host, "image", "inspect", "--format", "{{json .Config}}", TAG)
        config = json.loads(run(*asked).stdout)
        assert config["Labels"]["io.mlops-deploy.content"] == made["content_id"]
        assert f"MODEL_ID={made['content_id']}" in config["Env"]

    def test_an_interrupt_while_loading_leaves_no_image(self, folder, host):
        with (folder / "model" / "big").open("wb") as file:
            file.truncate(20 * 2**30)
        process = subprocess.Popen(
            [sys.executable, "-m", "mlops_deploy", "build-model", "model", "--load", "-t", TAG],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(Path.cwd()), "DOCKER_HOST": host},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        wait_until(lambda: folder / "model" / "big" in opened(process.pid), 60)
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (130, b""), err
        assert time.monotonic() - started < 10  # what is left to read takes far longer
        assert run("docker", "-H", host, "image", "inspect", TAG, check=False).returncode


def opened(pid):
    """The files that a process has open."""
    with suppress(OSError):
        return {path.readlink() for path in Path(f"/proc/{pid}/fd").iterdir()}
    return set()


@needs_skopeo
class TestSkopeo:
    def test_the_store_is_a_layout(self, folder):
        made = result(build(folder, "--store", "s", "-t", TAG, "--output", "json"))
        source = f"oci:s:{TAG}"
        seen = json.loads(run("skopeo", "inspect", "--no-tags", source, cwd=folder).stdout)
        assert seen["Labels"]["io.mlops-deploy.content"] == made["content_id"]
        run("skopeo", "copy", "--all", source, "dir:copy", cwd=folder)
        copy = {path.name for path in (folder / "copy").iterdir()}
        blobs = {path.name for path in (folder / "s" / "blobs" / "sha256").iterdir()}
        index = json.loads((folder / "copy" / "manifest.json").read_bytes())
        assert {entry["digest"].removeprefix("sha256:") for entry in index["manifests"]} <= blobs
        assert len(copy & blobs) == len(blobs) - 2  # the manifests are called by their role there

    @pytest.mark.parametrize("way", ["docker-archive", "oci-archive"])
    @pytest.mark.parametrize("form", ["file", "stream"])
    def test_archives_of_both_kinds_are_copied_whole(self, folder, way, form):
        if form == "file":
            build(folder, "--archive", "x.tar", "-t", TAG)
        else:
            (folder / "x.tar").write_bytes(build(folder, "--archive", "-", "-t", TAG).stdout)
        source = f"{way}:x.tar" + (f":{TAG}" if way == "docker-archive" else ":1")
        run("skopeo", "copy", source, "oci:copy:1", cwd=folder)
        assert models_in(folder / "copy") == FILES


def models_in(layout):
    found = {}
    for path in (layout / "blobs" / "sha256").iterdir():
        try:
            with tarfile.open(path) as tar:
                found |= {
                    member.name.removeprefix("models/"): tar.extractfile(member).read()
                    for member in tar
                    if member.isfile() and member.name.startswith("models/")
                }
        except tarfile.ReadError:
            continue
    return found


@pytest.mark.skipif(bool(os.geteuid()), reason="only root mounts a small disk")
class TestFullDisk:
    @pytest.fixture
    def small(self, folder):
        """A disk of 4 MiB."""
        disk = folder / "disk"
        disk.mkdir()
        if run("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk, check=False).returncode:
            pytest.skip("nothing can be mounted here")
        yield disk
        run("umount", "-l", disk)

    def refused(self, done, what):
        assert done.returncode == 1
        assert done.stdout == b""
        err = done.stderr.decode()
        assert f"error: {what}" in err
        assert "no space left on device" in err
        assert "hint:" in err
        assert "Traceback" not in err

    @pytest.mark.parametrize("option", ["--store", "--archive"])
    @pytest.mark.parametrize("size", [10 * 2**20, 1_200_000, 2_200_000])
    def test_a_model_that_does_not_fit_gives_one_clear_error_and_no_half_file(self, folder, small, option, size):
        write_model(folder / "model", {"big": os.urandom(size)})
        filler = small / "filler"
        filler.write_bytes(bytes(10**6))
        done = build(folder, option, str(small / "x"), check=False)
        self.refused(done, "the store" if option == "--store" else "the archive")
        left = [path for path in small.rglob("*") if path.is_file() and path != filler]
        assert not [path for path in left if path.name.endswith(".tmp")]
        for path in left:
            if path.parent.name == "sha256":
                assert sha256(path.read_bytes()).hexdigest() == path.name

    @pytest.mark.parametrize("free", range(0, 60_000, 4096))
    def test_wherever_the_room_ends_the_store_stays_usable(self, folder, small, free):
        """The layers fit; the documents, the index or the log may not."""
        store = small / "store"
        build(folder, "--store", str(store))
        before = (store / "index.json").read_bytes(), (store / "log.jsonl").read_bytes()
        (folder / "model" / "labels" / "more").write_bytes(b"1")
        (folder / "model" / "model.bin").write_bytes(b"1")
        room = shutil.disk_usage(small).free
        (small / "filler").write_bytes(bytes(max(0, room - free)))
        done = build(folder, "--store", str(store), check=False)
        assert done.returncode or free > 8192
        if done.returncode:
            self.refused(done, "the store")
            index = json.loads((store / "index.json").read_bytes())
            assert index["manifests"][: len(json.loads(before[0])["manifests"])] == json.loads(before[0])["manifests"]
        assert not list(store.rglob("*.tmp"))
        (small / "filler").unlink()
        assert build(folder, "--store", str(store)).returncode == 0


def test_a_hundred_thousand_files(tmp_path):
    for number in range(100_000):
        folder = tmp_path / "model" / f"{number // 1000}"
        if number % 1000 == 0:
            folder.mkdir(parents=True)
        (folder / f"{number}").write_bytes(b"%d" % number)
    made = result(build(tmp_path, "--store", "s", "--output", "json"))
    assert (made["files"], made["bytes_read"]) == (100_000, 488_890)
    assert len(list((tmp_path / "s" / "blobs" / "sha256").iterdir())) == 6


def test_two_builds_at_once_into_one_engine(folder, classic):
    results = []

    def once():
        results.append(build(folder, "--load", "-t", TAG, "--output", "json", check=False, DOCKER_HOST=classic))

    threads = [threading.Thread(target=once) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [done.returncode for done in results] == [0, 0], [done.stderr for done in results]
    assert len({result(done)["digest"] for done in results}) == 1
