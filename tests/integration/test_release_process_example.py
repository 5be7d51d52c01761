"""The example from a model file to two versions and back, with the real server and without a container engine."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.local_slots import holds, processes_of
from tests.fakes.ports import free_port

pytestmark = pytest.mark.haproxy

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"
NOWHERE = "tcp://127.0.0.1:9"


class Digits:
    """A copy of the example, and the command line in it."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder, self.programs = folder, programs
        shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".mlops", "mlops.lock", "*.joblib"))
        self.port = free_port()
        config = (folder / "mlops.yml").read_text(encoding="utf-8")
        config = config.replace("port: 8080", f"port: {self.port}\ntarget: process")
        (folder / "mlops.yml").write_text(config, encoding="utf-8")
        self.environ = os.environ | {"XDG_STATE_HOME": str(folder / "state"), "DOCKER_HOST": NOWHERE}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command to its good end."""
        command = [sys.executable, "-m", "mlops_deploy", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done

    def train(self, *arguments: str) -> str:
        """A model, and its carrier in the store: the version that it will have."""
        subprocess.run([self.programs / "python", "train.py", *arguments], cwd=self.folder, check=True)
        built = self.run("build-model", "--output", "json")
        return str(json.loads(built.stdout)["content_id"][:12])

    def reads(self) -> tuple[int, str]:
        """What the image of the example shows, and which version says so."""
        url = f"http://127.0.0.1:{self.port}/v2/models/digits/infer"
        answer = json.loads(subprocess.run(["curl", "-sSf", "-d", "@request.json", url], cwd=self.folder,
                                           capture_output=True, check=True).stdout)  # fmt: skip
        return answer["outputs"][0]["data"][0], answer["model_version"]


def test_digits_from_training_to_a_rollback_and_away(tmp_path: Path, programs: Path) -> None:
    digits = Digits(tmp_path / "digits", programs)
    try:
        first = digits.train()
        released = digits.run("release")  # no engine answers, and none is needed
        assert released.stdout.startswith(f"digits@{first} r-")
        assert "1 golden request, the router calls it up" in released.stderr
        assert digits.reads() == (3, first)
        second = digits.train("--c", "3")
        plan = digits.run("plan").stdout
        assert f"digits@{first} -> digits@{second}" in plan
        assert f"hot, one router write: digits@{first} stays parked in slot a" in plan
        assert digits.run("release").stdout.startswith(f"digits@{second} r-")
        assert digits.reads() == (3, second)
        back = digits.run("rollback")
        assert f"back to digits@{first}: hot, one router write" in back.stderr
        assert digits.reads() == (3, first)
        status = digits.run("status").stdout
        assert re.search(rf"a +live 100 % +digits@{first}", status)
        assert re.search(rf"b +parked hot +digits@{second}", status)
        assert [record["end"] for record in json.loads(digits.run("history", "--output", "json").stdout)] == (
            ["released"] * 3
        )
        assert "digits" in digits.run("logs").stdout
    finally:
        digits.run("down", "--volumes", "--force")
    assert not (digits.folder / "state" / "mlops-deploy" / "digits").exists()
    holds(lambda: processes_of(digits.folder) == {})
