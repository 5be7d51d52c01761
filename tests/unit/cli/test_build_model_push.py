"""`build-model --push` as a user runs it: what it says, and what it refuses before anything is sent."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.carriers import elf, write_model
from tests.fakes.registry import FakeRegistry, distribution

CONFIG = "service: digits\npreset: kserve-sklearn\nmodel:\n  path: model\n  name: digits\n"


@pytest.fixture
def registry():
    with FakeRegistry(distribution()).running() as running:
        yield running


@pytest.fixture
def folder(tmp_path):
    write_model(tmp_path / "model", {"model.bin": os.urandom(5000), "labels.txt": b"0\n"})
    (tmp_path / "sh").write_bytes(elf())
    return tmp_path


@pytest.fixture
def run(folder):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "MLOPS_"))}
    home = {name: str(folder / "home") for name in ("HOME", "XDG_CACHE_HOME")}
    more = {"DOCKER_HOST": "unix:///nowhere.sock", "PYTHONPATH": str(Path.cwd())}

    def running(*arguments):
        line = [sys.executable, "-m", "mlops_deploy", "build-model", *arguments, "--shell", "sh"]
        env = kept | home | more
        return subprocess.run(line, cwd=folder, env=env, timeout=60, check=False, capture_output=True, text=True)

    return running


def test_the_line_and_the_next_command_of_a_project(registry, run, folder):
    (folder / "mlops.yml").write_text(CONFIG)
    done = run("--push", f"{registry.host}/t/digits:1")
    (digest,) = registry.content.tags["t/digits"].values()
    assert done.stdout == f"{registry.host}/t/digits:1@{digest}\n", done.stderr
    assert done.stderr.endswith(f"next: mlops-deploy release --model {registry.host}/t/digits:1@{digest}\n")
    assert not (folder / ".mlops" / "store").exists()


def test_a_model_that_the_project_does_not_serve_is_inspected(registry, run, folder):
    (folder / "mlops.yml").write_text(CONFIG)
    done = run("model/labels.txt", "--push", f"{registry.host}/t/labels")
    assert f"next: mlops-deploy inspect {done.stdout}" in done.stderr


def test_without_a_tag_the_one_that_it_got_is_named_everywhere(registry, run, folder):
    done = run("model", "--push", f"{registry.host}/t/digits")
    ((tag, digest),) = registry.content.tags["t/digits"].items()
    assert done.stdout == f"{registry.host}/t/digits:{tag}@{digest}\n"
    assert f"next: mlops-deploy inspect {registry.host}/t/digits:{tag}@{digest}\n" in done.stderr
    said = json.loads(run("model", "--push", f"{registry.host}/t/digits", "--output", "json").stdout)
    assert (said["name"], said["tags"]) == (f"{registry.host}/t/digits:{tag}", [f"{registry.host}/t/digits:{tag}"])


def test_the_next_command_asks_the_registry_as_the_push_did(registry, run, folder):
    to = ("--push", f"{registry.host}/t/digits:1", "--insecure-registry", registry.host)
    assert run("model", *to).stderr.endswith(f" --insecure-registry {registry.host}\n")
    (folder / "mlops.yml").write_text(CONFIG)
    last = run(*to).stderr.splitlines()[-1]
    assert last.startswith("next: mlops-deploy release --model ")
    assert last.endswith(f" --insecure-registry {registry.host}")


def test_json_has_every_name_and_what_was_sent(registry, run, folder):
    done = run(
        "model", "-t", "digits:1", "--store", "s", "--push", f"{registry.host}/t/digits:1", "--push",
        f"{registry.host}/u/digits", "--output", "json",
    )  # fmt: skip
    said = json.loads(done.stdout)
    short = said["digest"].removeprefix("sha256:")[:12]
    assert said["tags"] == [
        "digits:1", f"digits:{short}", f"{registry.host}/t/digits:1", f"{registry.host}/u/digits:{short}",
    ]  # fmt: skip
    assert said["name"] == f"{registry.host}/t/digits:1"
    assert said["bytes_read"] == 5002
    assert said["bytes_sent"] > 5002
    assert registry.content.tags["u/digits"] == {short: said["digest"]}
    assert json.loads((folder / "s" / "index.json").read_text())["manifests"]


def test_the_digest_file_has_the_digest(registry, run, folder):
    run("model", "--push", f"{registry.host}/t/digits:1", "--digest-file", "d")
    assert (folder / "d").read_text().strip() in registry.content.tags["t/digits"].values()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--push", "digits:1"), "names no registry"),
        (("--push", "127.0.0.1:15082"), "put a name behind a registry: `127.0.0.1:15082/NAME:TAG`"),
        (("--push", "registry.example.com"), "put a name behind a registry: `registry.example.com/NAME:TAG`"),
        (("--push", "r.example:99999/d:1"), "a registry's port is between 1 and 65535, not 99999"),
        (("--push", ""), "the value is empty"),
        (("--push", "r.example/d@sha256:" + "0" * 64), "has a digest"),
        (("--push", "r.example/d:0123456789ab"), "belongs to one carrier alone"),
        (("--push", "r.example/D:1"), "is not an image reference"),
        (("--push", "r.example/d:1", "-t", "digits:1"), "names what goes elsewhere"),
        (("--push", "r.example/d:1", "--builder", "docker"), "leave `--store`, `--archive` and `--push` out"),
        (("--push", "r.example/d:1", "--parallel", "0"), "0 is not in the range"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read_or_asked(run, folder, options, words):
    done = run("model", *options)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert done.stdout == ""
    assert not (folder / ".mlops").exists()
