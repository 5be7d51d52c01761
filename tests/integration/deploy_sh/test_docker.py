"""deploy.sh where it belongs: in a container of a shell, the model and nothing else, on Docker's own volumes."""

import io
import subprocess
import tarfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.carrier_tree import (
    APPLETS,
    BUSYBOXES,
    FILES,
    Carrier,
    Shell,
    every_busybox,
    make_carrier,
    wait_until,
)

pytestmark = pytest.mark.docker
HARDENED = ("--read-only", "--network=none", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--memory=64m")
OURS = ("--user=65532:65532", *HARDENED)


def docker(*words: str, code: int | None = 0, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(["docker", *words], input=data, capture_output=True, timeout=120, check=False)
    assert code in (None, done.returncode), (words, done)
    return done


def image_tar(carrier: Carrier, busybox: Path) -> bytes:
    def owned(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        return entry

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(carrier.root, "", filter=owned)
        tar.add(busybox, "bin/busybox", filter=owned)
        for applet in APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        model = tarfile.TarInfo("model")
        model.type, model.mode, model.uid, model.gid = tarfile.DIRTYPE, 0o755, 65532, 65532
        tar.addfile(model)
    return packed.getvalue()


@pytest.fixture(scope="module")
def carrier(tmp_path_factory: pytest.TempPathFactory) -> Carrier:
    return make_carrier(tmp_path_factory.mktemp("image"), FILES)


@pytest.fixture(scope="module")
def images(carrier: Carrier) -> Iterator[dict[str, str]]:
    made = {}
    for shell in BUSYBOXES:
        name = f"mlops-deploy-test-carrier:{uuid.uuid4().hex[:12]}"
        guard = '["sh", "-c", ". /deploy.sh; [ \\"$DEPLOYED\\" = \\"$MODEL_ID\\" ]"]'
        changes = (f"ENV MODEL_ID={carrier.id}", "ENV PATH=/bin", f"CMD {guard}")
        docker(
            "import",
            *(f"--change={change}" for change in changes),
            "-",
            name,
            data=image_tar(carrier, Path(shell.argv[0])),
        )
        made[shell.label] = name
    yield made
    docker("rmi", "--force", *made.values())


@pytest.fixture
def volume() -> Iterator[str]:
    name = f"mlops-deploy-test-{uuid.uuid4().hex[:12]}"
    docker("volume", "create", name)
    yield name
    docker("volume", "rm", "--force", name)


def listed(image: str, volume: str) -> list[str]:
    shown = docker("run", "--rm", "-v", f"{volume}:/model:ro", image, "find", "/model", "-type", "f").stdout.decode()
    return sorted(shown.splitlines())


@every_busybox
def test_a_fresh_named_volume(shell: Shell, images: dict[str, str], volume: str, carrier: Carrier) -> None:
    run = ("run", "--rm", *OURS, "-v", f"{volume}:/model", images[shell.label])
    assert docker(*run).stdout.startswith(b"copied digits ")
    assert docker(*run).stdout.startswith(b"found digits ")
    assert docker(*run, "sh", "-c", "/deploy.sh").stdout.startswith(b"found digits ")
    assert listed(images[shell.label], volume) == sorted(f"/model/v/{carrier.id}/{path}" for path in FILES)
    by_link = (
        "run",
        "--rm",
        "--user=1234",
        "-v",
        f"{volume}:/model:ro",
        images[shell.label],
        "cat",
        "/model/digits/z/deep/er",
    )
    assert docker(*by_link).stdout == FILES["z/deep/er"]


@every_busybox
def test_a_job_written_by_hand(shell: Shell, images: dict[str, str], volume: str) -> None:
    assert (
        docker("run", "--rm", "-v", f"{volume}:/model", images[shell.label], "sh", "-c", "/deploy.sh").returncode == 0
    )


@every_busybox
def test_a_folder_of_root_is_refused_with_the_uid_to_use(shell: Shell, images: dict[str, str], tmp_path: Path) -> None:
    done = docker("run", "--rm", *OURS, "-v", f"{tmp_path}:/model", images[shell.label], code=73)
    assert b"it belongs to uid 0 and this runs as uid 65532: run it as user 0" in done.stderr
    as_owner = ("--user=0:0", *HARDENED)
    assert docker("run", "--rm", *as_owner, "-v", f"{tmp_path}:/model", images[shell.label]).stdout.startswith(
        b"copied "
    )


@every_busybox
def test_without_a_volume_it_says_so(shell: Shell, images: dict[str, str]) -> None:
    done = docker("run", "--rm", *OURS, "-e", "MODEL_VOLUME=/elsewhere", images[shell.label], code=73)
    assert b"cannot make `/elsewhere`: mount a volume there" in done.stderr


@every_busybox
def test_the_model_of_another_job(shell: Shell, images: dict[str, str], volume: str) -> None:
    run = ("run", "--rm", *OURS, "-v", f"{volume}:/model", "-e", f"MODEL_ID={'1' * 64}", images[shell.label])
    assert b"the job asks for 1111" in docker(*run, code=65).stderr


@every_busybox
def test_containers_at_once_copy_once(shell: Shell, images: dict[str, str], volume: str) -> None:
    names = [
        docker("run", "-d", *OURS, "-v", f"{volume}:/model", images[shell.label]).stdout.decode().strip()
        for _ in range(6)
    ]
    try:
        assert [docker("wait", name).stdout.strip() for name in names] == [b"0"] * len(names)
        said = sorted(docker("logs", name).stdout.split()[0] for name in names)
        assert said == [b"copied", *[b"found"] * (len(names) - 1)]
    finally:
        docker("rm", "--force", *names)


@every_busybox
def test_a_stopped_container_leaves_nothing_and_a_killed_one_is_cleaned_up(
    shell: Shell, images: dict[str, str], volume: str
) -> None:
    stuck = ("sh", "-c", 'cp() { exec sleep 60; }; . /deploy.sh; [ "$DEPLOYED" = "$MODEL_ID" ]')
    names = []
    try:
        for end, code in ((("stop", "--time", "60"), b"143"), (("kill",), b"137")):
            name = (
                docker("run", "-d", *OURS, "-v", f"{volume}:/model", images[shell.label], *stuck)
                .stdout.decode()
                .strip()
            )
            names.append(name)
            wait_until(lambda: docker("exec", names[-1], "find", "/model/v", "-name", "*.1", code=None).stdout)
            started = time.monotonic()
            docker(*end, name)
            assert time.monotonic() - started < 30, "a container that ignores its signal is killed after a minute"
            assert docker("wait", name).stdout.strip() == code
            left = docker(
                "run", "--rm", "-v", f"{volume}:/model:ro", images[shell.label], "find", "/model/v", "-name", "*.1"
            )
            assert bool(left.stdout) == (end == ("kill",))
        run = ("run", "--rm", *OURS, "-v", f"{volume}:/model", images[shell.label])
        assert docker(*run).stdout.startswith(b"copied ")
        left = docker(
            "run", "--rm", "-v", f"{volume}:/model:ro", images[shell.label], "find", "/model/v", "-name", "*.1"
        )
        assert not left.stdout
    finally:
        docker("rm", "--force", *names)
