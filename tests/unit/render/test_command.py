"""The command as a user meets it: streams, files and exit codes."""

import json
import os
import subprocess
import sys

import pytest

from mlops_deploy.oci.types import INDEX, Descriptor
from mlops_deploy.render.hcl_reader import read_job
from mlops_deploy.render.layout import read_back, read_objects
from mlops_deploy.spec.refs import Digest, ImageRef
from mlops_deploy.store.layout import LayoutStore
from mlops_deploy.store.log import Built

CONFIGURATION = {"service": "digits", "model": {"path": "model.bin"}, "port": 9000}


@pytest.fixture
def project(tmp_path):
    (tmp_path / "mlops.yml").write_text(json.dumps(CONFIGURATION))
    (tmp_path / "mlops.live.yml").write_text('{"env": {"PRICE": "$5"}}')
    store = LayoutStore(tmp_path / ".mlops" / "store")
    store.create()
    digest = Digest("b" * 64)
    entry = Built(
        time="2026-01-01T00:00:00+00:00",
        name="digits",
        digest=str(digest),
        content_id="1" * 64,
        tags=(),
        source="/nowhere",
    )
    store.record(entry, [ImageRef(name="digits", tag="b" * 12)], Descriptor(media_type=INDEX, digest=digest, size=1))
    return tmp_path


def test_the_file_goes_to_stdout_and_the_story_to_stderr(project):
    done = render(project, "-e", "live")
    assert done.returncode == 0
    document = read_back(done.stdout)
    assert document["name"] == "digits-live"
    assert document["services"]["server"]["environment"]["PRICE"] == "$5"
    assert "model digits@111111111111: carrier `digits:bbbbbbbbbbbb`" in done.stderr
    assert "server: `mlops-server-kserve-sklearn:" in done.stderr
    assert "golden requests: not checked" in done.stderr


def test_two_runs_give_the_same_bytes_and_the_next_command(project):
    done = render(project, "-o", "a file.yml")
    assert (done.returncode, done.stdout) == (0, "")
    assert "next: docker compose -f 'a file.yml' up --wait" in done.stderr
    assert (project / "a file.yml").read_text() == render(project).stdout


@pytest.mark.parametrize("out", ["-", "files/"])
def test_no_engine_is_asked(project, out):
    assert render(project, "-o", out, DOCKER_HOST="tcp://127.0.0.1:1", PATH="/nowhere").returncode == 0


def test_into_a_folder_go_the_files_of_a_release(project):
    done = render(project, "-e", "live", "-o", "new/files/")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.endswith("next: mlops-deploy release -e live --target docker\n")
    assert "server: `mlops-server-kserve-sklearn:" in done.stderr
    files = {path.name: read_back(path.read_text()) for path in (project / "new" / "files").iterdir()}
    assert {name: file["name"] for name, file in files.items()} == {
        "a.yml": "digits-live-a",
        "b.yml": "digits-live-b",
        "router.yml": "digits-live-router",
    }
    assert files["a.yml"]["services"]["server"]["environment"]["PRICE"] == "$5"
    router = files["router.yml"]["services"]["router"]
    assert router["ports"] == ["127.0.0.1:9000:8080"]
    assert "digits-live-a:8080" in router["environment"]["ROUTER_CONFIG"]
    (project / "here").mkdir()
    assert render(project, "-e", "live", "-o", "here").returncode == 0
    assert {path.name: path.read_text() for path in (project / "here").iterdir()} == {
        path.name: path.read_text() for path in (project / "new" / "files").iterdir()
    }


def test_the_release_of_what_is_in_a_folder_is_named_with_all_that_was_said(project):
    (project / "own.yml").write_text(json.dumps(CONFIGURATION | {"target": "docker"}))
    said = ["--model", "digits:bbbbbbbbbbbb", "--server", "s:1", "--insecure-registry", "r:1", "-f", "own.yml"]
    done = render(project, *said, "--target", "compose", "-o", "files/")
    assert done.stderr.endswith(f"next: mlops-deploy release {' '.join(said)}\n")


def test_a_file_of_a_folder_is_never_written_over_what_is_read(project):
    (project / "a.yml").write_text((project / "mlops.yml").read_text())
    done = render(project, "-f", "a.yml", "-o", "./")
    assert done.returncode == 2
    assert "error: the job file `a.yml` would overwrite" in done.stderr
    assert not (project / "b.yml").exists()


@pytest.mark.parametrize(
    ("name", "next_command"),
    [("a file.hcl", "nomad job run 'a file.hcl'"), ("a file.json", "nomad job run -json 'a file.json'")],
)
def test_a_file_for_nomad_is_hcl_or_what_the_api_takes(project, name, next_command):
    done = render(project, "-e", "live", "--target", "nomad", "-o", name, NOMAD_ADDR="http://127.0.0.1:1")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.endswith(f"next: {next_command}\n")
    assert "warning: no `resources.memory`: a job on Nomad has a limit, and the server gets 1024 MiB" in done.stderr
    assert "the server may take all of the machine's memory" not in done.stderr
    assert "warning: no `nomad.volume.size`: nodes are chosen that have 300 MiB left" in done.stderr
    text = (project / name).read_text()
    job = json.loads(text)["Job"] if name.endswith(".json") else read_job(text)
    assert job["ID"] == "digits-live"
    assert job["TaskGroups"][0]["Tasks"][1]["Env"]["PRICE"] == "$5"
    assert ("Job" in text) == name.endswith(".json")


def test_into_a_folder_go_the_jobs_of_a_release_on_nomad(project):
    done = render(project, "-e", "live", "--target", "nomad", "-o", "files/")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.endswith("next: mlops-deploy release -e live --target nomad\n")
    files = {path.name: read_job(path.read_text()) for path in (project / "files").iterdir()}
    assert {name: job["ID"] for name, job in files.items()} == {
        "a.nomad.hcl": "digits-live-a",
        "b.nomad.hcl": "digits-live-b",
        "router.nomad.hcl": "digits-live-router",
    }
    assert files["router.nomad.hcl"]["TaskGroups"][0]["Networks"][0]["ReservedPorts"][0]["Value"] == 9000


def test_only_a_cluster_can_check_a_file(project):
    done = render(project, "--check")
    assert (done.returncode, done.stdout) == (2, "")
    assert "`--check` is for `--target nomad`: there is nobody else to ask" in done.stderr


def test_a_file_for_kubernetes_is_applied_without_an_annotation_of_its_size(project):
    done = render(project, "-e", "live", "--target", "kubernetes", "-o", "a file.yml")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.endswith("next: kubectl apply --server-side -f 'a file.yml'\n")
    text = (project / "a file.yml").read_text()
    job, service = read_objects(text)
    assert (job["kind"], job["metadata"]["name"]) == ("Deployment", "digits-live")
    assert (service["kind"], service["spec"]["ports"][0]["port"]) == ("Service", 9000)
    [server] = job["spec"]["template"]["spec"]["containers"]
    assert {"name": "PRICE", "value": "$$5"} in server["env"]
    assert render(project, "-e", "live", "--target", "kubernetes").stdout == text


def test_into_a_folder_go_both_slots_for_kubernetes_and_the_service_that_selects_one(project):
    done = render(project, "--target", "kubernetes", "-o", "files/")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.endswith("next: kubectl apply --server-side -f files\n")
    files = {path.name: read_objects(path.read_text()) for path in (project / "files").iterdir()}
    assert {name: one["metadata"]["name"] for name, [one] in files.items()} == {
        "a.yml": "digits-a",
        "b.yml": "digits-b",
        "service.yml": "digits",
    }


def test_the_server_can_be_named(project):
    done = render(project, "--server", "example/server:1")
    server = read_back(done.stdout)["services"]["server"]
    assert (server["image"], server["pull_policy"]) == ("example/server:1", "missing")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--target", "process"], 2, "target `process` cannot be rendered"),
        (["--target", "nomd"], 2, "'nomd' is not one of"),
        (["--model", "nothing"], 2, "no carrier `nothing`"),
        (["--server", "A B"], 2, "`A B` is not an image reference"),
        (["-e", "absent"], 2, "mlops.absent.yml"),
        (["-f", "absent.yml"], 2, "`absent.yml` does not exist"),
        (["-o", "mlops.yml/"], 2, "the folder `mlops.yml` cannot be made: file exists"),
        (["-o", "absent/compose.yml"], 2, "`absent/compose.yml` cannot be written: there is no folder `absent`"),
        (["-o", ""], 2, "the path is empty"),
        (["-e", ""], 2, "the value is empty"),
        (["-f", ""], 2, "the path is empty"),
        (["--server", ""], 2, "the value is empty"),
        (["--model", ""], 2, "the value is empty"),
        (["-o", "/dev/full"], 1, "cannot be written: no space left on device"),
    ],
)
def test_bad_input_gets_one_clear_error_and_nothing_is_written(project, arguments, code, says):
    before = sorted(project.rglob("*"))
    done = render(project, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(project.rglob("*")) == before


@pytest.mark.parametrize(
    "name",
    [
        "mlops.yml",
        "mlops.live.yml",
        "mlops.lock",
        "golden.jsonl",
        "hook.py",
        "frozen.txt",
        "model/a",
        "model/new",
        "link",
    ],
)
def test_what_is_read_is_never_overwritten(project, name):
    answer = {"request": {"inputs": [{"name": "x"}]}, "expect": [{"name": "y", "data": [1]}]}
    (project / "golden.jsonl").write_text(json.dumps(answer))
    (project / "hook.py").write_text("def predict(model, inputs): return inputs\n")
    (project / "frozen.txt").write_text("numpy==2.4.6\n")
    (project / "model").mkdir()
    (project / "model" / "a").write_text("weights")
    (project / "link").symlink_to("mlops.yml")
    server = {"hook": "hook.py", "constraints": "frozen.txt"}
    whole = {"service": "digits", "model": {"path": "model"}, "ready": {"golden": "golden.jsonl"}, "server": server}
    (project / "mlops.yml").write_text(json.dumps(whole))
    assert render(project).returncode == 0
    before = contents(project)
    done = render(project, "-o", name)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"error: the job file `{name}` " in done.stderr
    assert contents(project) == before


def test_no_memory_limit_and_root_are_warned_of(project):
    told = "warning: no memory limit: the server may take all of the machine's memory; set `resources.memory`\n"
    assert told in render(project).stderr
    (project / "mlops.yml").write_text(json.dumps({**CONFIGURATION, "resources": {"memory": "1Gi"}, "user": "0:0"}))
    done = render(project)
    assert told not in done.stderr
    assert "warning: `user` says that the server runs as root\n" in done.stderr


def test_without_a_carrier_the_hint_is_build_model(project):
    (project / ".mlops" / "store" / "log.jsonl").unlink()
    done = render(project)
    assert done.returncode == 2
    assert "hint: build one with `mlops-deploy build-model`" in done.stderr


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and ".mlops" not in path.parts}


def render(folder, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "mlops_deploy", "render", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, **environment},
        timeout=60,
    )
