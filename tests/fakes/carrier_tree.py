"""A carrier as a plain folder, volumes to copy it to, and every shell on this machine that can run its deploy.sh."""

import hashlib
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "images" / "carrier" / "deploy.sh"
APPLETS = (REPOSITORY / "images" / "carrier" / "applets").read_text(encoding="utf-8").split()
GUARD = '. "$CARRIER_ROOT/deploy.sh"; [ "$DEPLOYED" = "$MODEL_ID" ]'
NAME = "digits"
FILES = {
    "-dash": b"",
    "model.bin": bytes(range(256)) * 1024,
    "names with blanks/a b.txt": b"blanks",
    "z/deep/er": b"\x00" * 5000,
}


@dataclass(frozen=True, kw_only=True)
class Shell:
    """A way to run the script: the words before it, and the folder of the commands that it finds."""

    label: str
    argv: tuple[str, ...]
    path: str = os.environ.get("PATH", os.defpath)


def shells() -> list[Shell]:
    """The busyboxes of this machine (`MLOPS_DEPLOY_BUSYBOX` names more, separated by colons), and dash."""
    named = [name for name in os.environ.get("MLOPS_DEPLOY_BUSYBOX", "").split(os.pathsep) if name]
    found: dict[str, Shell] = {}
    for name in [*named, shutil.which("busybox")]:
        if name is not None:
            words = subprocess.run([name], capture_output=True, text=True, check=False).stdout.split()
            label = "busybox-" + words[1].removeprefix("v")
            found.setdefault(label, Shell(label=label, argv=(str(Path(name).resolve()), "sh")))
    if dash := shutil.which("dash"):
        found["dash"] = Shell(label="dash", argv=(dash,))
    return list(found.values())


SHELLS = shells()
BUSYBOXES = [shell for shell in SHELLS if shell.label.startswith("busybox")]
every_shell = pytest.mark.parametrize(
    "shell",
    SHELLS or [pytest.param(None, marks=pytest.mark.skip("neither busybox nor dash is here"))],
    ids=lambda s: s.label,
)
every_busybox = pytest.mark.parametrize(
    "shell",
    BUSYBOXES or [pytest.param(None, marks=pytest.mark.skip("no busybox is here: install `busybox-static`"))],
    ids=lambda s: getattr(s, "label", "busybox"),
)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount and change the user")


@dataclass(frozen=True, kw_only=True)
class Carrier:
    """The tree of an image: `models/`, `carrier/` and `deploy.sh`, as the builder lays it out."""

    root: Path
    files: dict[str, bytes]
    id: str


def make_carrier(root: Path, files: dict[str, bytes] | None = None, name: str = NAME) -> Carrier:
    files = FILES if files is None else files
    ordered = sorted(files, key=os.fsencode)
    for path in ordered:
        place = root / "models" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(files[path])
    (root / "carrier").mkdir(exist_ok=True)
    shutil.copy(SCRIPT, root)  # a checkout may be where only root can read
    sums = "".join(f"{hashlib.sha256(files[path]).hexdigest()}  ./{path}\n" for path in ordered)
    (root / "carrier" / "SHA256SUMS").write_text(sums)
    (root / "carrier" / "SIZES").write_text("".join(f"{len(files[path])} ./{path}\n" for path in ordered))
    (root / "carrier" / "manifest.json").write_text(f'{{\n  "schema": 1,\n  "name": "{name}",\n  "files": []\n}}\n')
    return Carrier(root=root, files=files, id=hashlib.sha256(sums.encode()).hexdigest())


@dataclass(kw_only=True)
class Volume:
    """A volume and the carrier that is copied to it: what is there, and whether it is right."""

    path: Path
    carrier: Carrier
    name: str = NAME
    env: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.path / "v" / self.carrier.id

    @property
    def link(self) -> Path:
        return self.path / self.name

    def environ(self, **changes: str) -> dict[str, str]:
        settings = {"MODEL_VOLUME": str(self.path), "CARRIER_ROOT": str(self.carrier.root), "MODEL_ID": self.carrier.id}
        return {**settings, **self.env, **changes}

    def start(
        self, shell: Shell, *, before: str = "", after: str = "", user: int | None = None, **changes: str
    ) -> subprocess.Popen[str]:
        """Start the script in its own process group, sourced as the image's own command does, between two others."""
        return subprocess.Popen(
            [*shell.argv, "-c", f"{before}\n{GUARD}\n{after}"],
            env={"PATH": shell.path, **self.environ(**changes)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            start_new_session=True,
        )

    def run(
        self, shell: Shell, *, before: str = "", user: int | None = None, **changes: str
    ) -> subprocess.CompletedProcess[str]:
        with self.start(shell, before=before, user=user, **changes) as process:
            out, err = finish(process)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def is_whole(self) -> bool:
        """The same names and bytes as the carrier's, nothing else, and no link."""
        return contents(self.home) == self.carrier.files

    def is_clean(self) -> bool:
        """Nothing but the model, its link and the fifo."""
        kept = {p.name for p in self.path.iterdir()} == {"v", self.name}
        return kept and {p.name for p in (self.path / "v").iterdir()} <= {".alive", self.carrier.id}


def finish(process: subprocess.Popen[str], seconds: float = 60) -> tuple[str, str]:
    try:
        return process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise


def contents(folder: Path) -> dict[str, bytes] | None:
    """What a folder holds, or None if it is not one; a link counts as a file that nobody wrote."""
    if not folder.is_dir() or folder.is_symlink():
        return None
    found = {}
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            found[str(path.relative_to(folder))] = b"a link" if path.is_symlink() else path.read_bytes()
    return found


def wait_until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
