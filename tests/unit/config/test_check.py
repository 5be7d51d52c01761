"""`mlops-deploy check` from the outside: streams, exit codes, JSON."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.config.test_load import GOLDEN, LEAST


def check(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "mlops_deploy", "check", *args]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_a_good_file_is_one_line(folder: Path) -> None:
    (folder / "mlops.yml").write_text(LEAST + "ready: {golden: golden.jsonl}\ntarget: compose\n")
    (folder / "mlops.prod.yml").write_text("port: 80\n")
    (folder / "golden.jsonl").write_text(GOLDEN)
    (folder / "m").touch()
    done = check(folder, "-e", "prod")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "`digits-prod` is right: model `digits`, preset `kserve-sklearn`, target `docker`; "
        "read `mlops.yml`, `mlops.prod.yml`, `golden.jsonl`\n"
    )


def test_a_bad_file_ends_with_two_and_says_nothing_on_stdout(folder: Path) -> None:
    (folder / "mlops.yml").write_text(LEAST + "port: eighty\n")
    done = check(folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: `port` must be a whole number from 1 to 65535\n --> mlops.yml:3:7\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_json_has_every_issue(folder: Path) -> None:
    (folder / "mlops.yml").write_text(LEAST + "release: {bake: 1}\n")
    done = check(folder, "--output", "json")
    assert done.returncode == 2
    shown = json.loads(done.stdout)
    assert (shown["ok"], shown["files"]) == (False, ["mlops.yml"])
    assert shown["issues"][-1] == {
        "severity": "error",
        "file": "mlops.yml",
        "line": 3,
        "column": 17,
        "path": "release.bake",
        "message": "`release.bake` must be a duration such as `30s`, `2m` or `1h30m`, at most 720h",
        "hint": "`1` has no unit",
    }
    assert [issue["severity"] for issue in shown["issues"]] == ["warning", "warning", "error"]


@pytest.mark.parametrize("args", [["-f", "nowhere.yml"], ["-e", "nowhere"], ["-f", "."]])
def test_json_also_for_files_that_are_not_there(folder: Path, args: list[str]) -> None:
    (folder / "mlops.yml").write_text(LEAST)
    done = check(folder, "--output", "json", *args)
    assert done.returncode == 2
    (issue,) = json.loads(done.stdout)["issues"]
    assert issue["message"] in done.stderr
