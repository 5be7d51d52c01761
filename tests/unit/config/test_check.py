"""`mlops-deploy check` from the outside: streams, exit codes, JSON."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlops_deploy.cli.docs import docs
from mlops_deploy.config.load import load
from mlops_deploy.errors import ConfigError
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


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("service: a\nmodel: {path: m}\nresources: {cpu: x, memory: y}\n", "`mlops-deploy docs resources` describes"),
        ("service: a\nmodel: {path: m}\na: {b: 1, b: 2}\n", "`mlops-deploy docs` describes"),
        ("[1, {a: 1, a: 2}]\n", "`mlops-deploy docs` describes"),
        ("service: a\nmodel: {path: m}\nport: x\nresources: {cpu: x}\n", "`mlops-deploy docs` describes"),
    ],
)
def test_the_hint_names_only_sections_that_there_are(folder, text, hint):
    (folder / "mlops.yml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(Path("mlops.yml"), None)
    assert caught.value.hint == f"{hint} every key"
    assert f"hint: {hint} every key\n" in check(folder).stderr


def test_a_mistake_below_an_unknown_key_names_no_section(folder):
    (folder / "mlops.yml").write_text("service: a\nmodel: {path: m}\nx-a: {b: 1, b: 2}\n")
    with pytest.raises(ConfigError, match="`b` is given twice") as caught:
        load(Path("mlops.yml"), None)
    assert caught.value.hint == "`mlops-deploy docs` describes every key"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"service: {'a' * 33}\nmodel: {{path: m}}\n", "found 33 characters; 32 are allowed"),
        (f"service: a\nmodel: {{path: m, name: {'a' * 64}}}\n", "found 64 characters; 63 are allowed"),
    ],
)
def test_a_name_that_is_too_long_says_how_long_it_may_be(folder, text, says):
    (folder / "mlops.yml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(Path("mlops.yml"), None)
    assert says in "\n".join(caught.value.detail)


@pytest.mark.parametrize("arguments", [["--schema", "--example"], ["port", "--schema"], ["port", "--example"]])
def test_the_forms_of_the_reference_exclude_each_other(arguments):
    result = CliRunner().invoke(docs, arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "each without the others" in result.output
