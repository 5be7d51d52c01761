"""`--builder docker` makes the same tree as the native builder."""

import hashlib
import json
import subprocess
import sys
import tarfile
import uuid
from pathlib import Path

import pytest

pytestmark = pytest.mark.docker


def run(*argv: str, cwd: Path) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "a folder").mkdir(parents=True)
    (folder / "weights.bin").write_bytes(bytes(range(256)) * 2000)
    (folder / "a folder" / "vocabulary é.txt").write_text("eins zwei", encoding="utf-8")
    (folder / "a folder" / "same.txt").symlink_to("vocabulary é.txt")
    (folder / "empty").write_bytes(b"")
    return folder


def tree(image: str, cwd: Path) -> list[tuple[str, ...]]:
    """Every entry of the image: mode, owner, size, name, link; and the hash of each file."""
    container = run("docker", "create", image, cwd=cwd)
    try:
        archive = cwd / "tree.tar"
        with archive.open("wb") as file:
            subprocess.run(["docker", "export", container], stdout=file, check=True, timeout=60)
    finally:
        run("docker", "rm", container, cwd=cwd)
    with tarfile.open(archive) as tar:
        entries = []
        for member in tar:
            content = tar.extractfile(member) if member.isreg() else None
            digest = hashlib.sha256(content.read()).hexdigest() if content else ""
            owner = f"{member.uid}:{member.gid}"
            entries.append((member.name, oct(member.mode), owner, str(member.size), member.linkname, digest))
    return sorted(entries)


def test_both_builders_make_the_same_tree(model: Path, tmp_path: Path) -> None:
    tag = f"t-{uuid.uuid4().hex[:12]}"
    try:
        for builder in ("native", "docker"):
            destination = () if builder == "docker" else ("--load",)
            argv = (
                sys.executable,
                "-m",
                "mlops_deploy",
                "build-model",
                str(model),
                "--name",
                "twin",
                "-t",
                f"twin-{builder}:{tag}",
            )
            said = run(*argv, "--builder", builder, *destination, cwd=tmp_path)
            assert said.startswith(f"twin-{builder}:{tag}@sha256:")
        native, docker = (tree(f"twin-{builder}:{tag}", tmp_path) for builder in ("native", "docker"))
        assert native == docker
        assert [name for name, *_ in native if name.startswith("models/")] == [
            "models/a folder",
            "models/a folder/same.txt",
            "models/a folder/vocabulary é.txt",
            "models/empty",
            "models/weights.bin",
        ]
        configs = [
            json.loads(run("docker", "inspect", f"twin-{builder}:{tag}", "--format", "{{json .Config}}", cwd=tmp_path))
            for builder in ("native", "docker")
        ]
        for key in ("Env", "Cmd", "Labels", "WorkingDir", "Entrypoint", "User"):
            assert configs[0].get(key) == configs[1].get(key), key
    finally:
        run("docker", "rmi", "-f", f"twin-native:{tag}", f"twin-docker:{tag}", cwd=tmp_path)


def test_the_docker_builder_goes_to_the_engine_only(model: Path, tmp_path: Path) -> None:
    argv = (
        sys.executable,
        "-m",
        "mlops_deploy",
        "build-model",
        str(model),
        "--builder",
        "docker",
        "--archive",
        "x.tar",
    )
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "engine only" in done.stderr
    assert not (tmp_path / "x.tar").exists()
