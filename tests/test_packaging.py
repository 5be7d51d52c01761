"""What we ship: the wheel and the sdist hold everything, and the installed wheel works without a checkout."""

import os
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from mlops_deploy import __version__

ROOT = Path(__file__).parent.parent
BUNDLED = "mlops_deploy/_bundled/"
LEFT_OUT = {"__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"}


def run(*argv: str | Path, cwd: Path = ROOT) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    done = subprocess.run(
        [str(word) for word in argv], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files_of(folder: str) -> set[str]:
    found = (path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file())
    return {str(path) for path in found if not LEFT_OUT & set(path.parts)}


def build(source: Path, out: Path, *kinds: str) -> Path:
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, *kinds, source)
    return out


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An sdist, and the wheel made from it."""
    return build(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    return dist / f"mlops_deploy-{__version__}-py3-none-any.whl"


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a fresh environment: the wheel from the outside, the libraries from the one that runs the tests."""
    home = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", home)
    python = home / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    libraries = [entry for entry in sys.path if entry.endswith("-packages")]
    Path(site, "libraries.pth").write_text("\n".join(libraries) + "\n")
    return home / "bin"


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return sorted(archive.namelist())


def test_the_wheel_holds_exactly_our_code_and_what_it_brings(wheel: Path) -> None:
    info = f"mlops_deploy-{__version__}.dist-info/"
    packed = {name for name in names(wheel) if not name.startswith(info)}
    brought = {BUNDLED + name for name in files_of("jobs") | files_of("images")}
    assert packed == files_of("mlops_deploy") | brought
    assert {name.removeprefix(info) for name in names(wheel) if name.startswith(info)} == {
        "METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE",
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", ["images/carrier/deploy.sh", "images/presets/kserve-sklearn.yml", "images/server/constraints.txt"]
)
def test_the_wheel_brings_what_no_service_can_do_without(wheel: Path, name: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read(BUNDLED + name) == (ROOT / name).read_bytes()


def test_the_wheel_from_the_checkout_is_the_wheel_from_the_sdist(wheel: Path, tmp_path: Path) -> None:
    build(ROOT, tmp_path, "--wheel")
    assert names(tmp_path / wheel.name) == names(wheel)


def test_the_sdist_can_be_built_and_tested(dist: Path) -> None:
    top = f"mlops_deploy-{__version__}"
    with tarfile.open(dist / f"{top}.tar.gz") as archive:
        packed = {name.removeprefix(f"{top}/") for name in archive.getnames()}
    for folder in ("mlops_deploy", "jobs", "images", "tests"):
        assert files_of(folder) <= packed
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"} <= packed


def test_the_installed_command_knows_its_version(installed: Path, tmp_path: Path) -> None:
    assert run(installed / "mlops-deploy", "--version", cwd=tmp_path) == f"mlops-deploy, version {__version__}\n"
    where = run(installed / "python", "-c", "import mlops_deploy; print(mlops_deploy.__file__)", cwd=tmp_path)
    assert where.startswith(str(installed.parent))


def test_the_installed_wheel_builds_and_renders(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "mlops.yml").write_text("service: tiny\nmodel: {path: model.txt}\n")
    (tmp_path / "model.txt").write_text("weights")
    (tmp_path / "busybox").write_bytes(static_program())
    deploy = installed / "mlops-deploy"
    run(deploy, "build-model", "--shell", "busybox", "--store", ".mlops/store", cwd=tmp_path)
    rendered = run(deploy, "render", "--server", "server:1.0", cwd=tmp_path)
    assert "name: tiny\n" in rendered
    assert "image: server:1.0\n" in rendered


def static_program() -> bytes:
    """The head of a static program for linux/amd64 that calls itself BusyBox: enough for a carrier that nobody runs."""
    return struct.pack("<4sBB10xHHIQQQIHHH", b"\x7fELF", 2, 1, 2, 62, 1, 0, 64, 0, 0, 64, 56, 0) + b"BusyBox v1.36.1"
