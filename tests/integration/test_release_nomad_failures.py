"""A candidate that fails on Nomad, whatever way: told at once with its reason, nothing exposed, no request failed."""

import dataclasses
import os
import stat
import subprocess
import time
from contextlib import contextmanager

import pytest

from mlops_deploy.api.holder import this_holder
from mlops_deploy.api.planning import Wish, find_candidate
from mlops_deploy.cli import wiring
from mlops_deploy.cli.console import PlainStory
from mlops_deploy.cli.project import require_project
from mlops_deploy.cli.wiring import shelf
from tests.integration.releasing import docker, until

pytestmark = [pytest.mark.nomad, pytest.mark.docker]

DEADLINE = "90s"
"""Far more than what a failure that waiting does not mend may take to be told."""

AT_ONCE = 25
"""Seconds for what is told at once: the command itself, and the way back."""

AFTER_A_WHILE = 60
"""The same where another job might end, or Nomad starts the server again a few times."""


@pytest.fixture(scope="module")
def live(nomad_service_of_all):
    """Version 1 is live, version 2 is built."""
    service = nomad_service_of_all
    service.versions = service.build_all(1, 2)
    service.configure(ready={"golden": "golden.jsonl", "deadline": DEADLINE})
    service.release(1)
    return service


@pytest.fixture
def loaded(live):
    """Requests come in meanwhile; at the end none has failed, and all were answered by the version that was live."""
    before = live.config
    with live.load(rate=120, new=30) as load:
        time.sleep(1)
        yield live
        count = load.end()
    live.restore(before)
    assert count["failed"] == 0, count
    assert set(count["answered"]) == {live.versions[1]}


def refused(service, message, *, within, code=4, **environment):
    """A release of version 2 that ends with this message; what it wrote on stderr."""
    service.use(2)
    service.configure(env=environment)
    started = time.monotonic()
    done = service.run("release", "--model", f"{service.name}:2", code=code)
    took = time.monotonic() - started
    assert message in done.stderr, done.stderr
    assert took < within, done.stderr
    untouched(service)
    return done.stderr


def untouched(service):
    """Version 1 is live, and nothing is left of version 2."""
    status = service.status()
    assert status["slots"]["b"]["state"] == "absent"
    assert status["live"]["version"] == f"{service.name}@{service.versions[1]}"
    assert service.serves() == service.versions[1]
    assert status["release"] is None or status["release"]["course"] == "ended"


def test_a_candidate_that_never_becomes_ready_is_given_up_at_its_deadline(loaded):
    loaded.configure(ready={"golden": "golden.jsonl", "deadline": "6s"})
    assert "answers 503" in refused(loaded, "within 6 s", within=AFTER_A_WHILE, NEVER_READY="1")


def test_a_candidate_that_says_it_is_another_version_is_refused(loaded):
    assert loaded.versions[2] in refused(loaded, "identity", within=AFTER_A_WHILE, SAYS_VERSION="f" * 12)


def test_a_candidate_that_predicts_wrongly_is_refused(loaded):
    assert "is 8.5, expected 8.0" in refused(loaded, "golden request 1", within=AFTER_A_WHILE, ADDS="0.5")


def test_a_candidate_that_ends_again_and_again_is_told_with_its_last_words(loaded):
    story = refused(loaded, "crashes again and again: it ended with 70", within=AFTER_A_WHILE, CRASH_AFTER="0.02")
    assert "error: crashed, as asked" in story


def test_a_candidate_that_eats_more_than_its_memory_is_told_at_once(loaded):
    loaded.configure(resources={"memory": "96Mi"})
    refused(loaded, "the server was killed: it wants more than its 96 MiB of memory", within=AT_ONCE, EATS_MIB="400")


@pytest.mark.parametrize(
    ("sections", "message", "within"),
    [
        (
            {"nomad": {"constraints": [{"attribute": "${attr.kernel.name}", "value": "plan9"}]}},
            "1 node does not meet `${attr.kernel.name} = plan9`",
            AT_ONCE,
        ),
        ({"nomad": {"devices": [{"name": "nvidia/gpu"}]}}, "1 node lacks a device of the job: nvidia/gpu", AT_ONCE),
        (
            {"nomad": {"volume": {"kind": "host", "name": "nothing"}}},
            "1 node lacks the host volume `nothing`",
            AT_ONCE,
        ),
        ({"nomad": {"datacenters": ["mars"]}}, "no node is ready in datacenter `mars`", AT_ONCE),
        ({"resources": {"memory": "9000Gi"}}, "1 node has no 9,216,000 MiB of memory left", AT_ONCE),
    ],
    ids=["constraint", "device", "volume", "datacenter", "memory"],
)
def test_a_job_that_no_node_takes_is_told_with_what_each_lacks(loaded, sections, message, within):
    loaded.configure(**sections)
    assert "no node can take the slot" in refused(loaded, message, within=within)


def test_a_server_image_that_is_not_there_is_told_before_anything_starts(loaded):
    loaded.configure(server={"image": "mlops-tiny-absent"})
    refused(loaded, "mlops-tiny-absent", within=AT_ONCE, code=2)


def test_a_carrier_that_a_node_has_lost_is_told_with_what_the_engine_says(loaded):
    loaded.use(2)
    killed = loaded.kill_at(5, "release", "--model", f"{loaded.name}:2")
    assert killed.returncode == -9, killed.stderr
    carriers = docker("images", "--format", "{{.Repository}}:{{.Tag}}", f"{loaded.name}").split()
    docker("rmi", "--force", *carriers)
    loaded.expire_lease()
    done = loaded.run("resume", code=4)
    assert f"the image `{loaded.name}:" in done.stderr
    assert "is not in the engine of node" in done.stderr
    untouched(loaded)


@contextmanager
def spoilt(folder, how):
    """The static host volume `models` in a state in which nothing can be copied to it."""
    before = stat.S_IMODE(folder.stat().st_mode)
    undo = []
    if how == "closed":
        folder.chmod(0o755)
    elif how == "linked":
        (folder / "v").symlink_to("elsewhere")
        undo = ["rm", str(folder / "v")]
    else:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k,mode=0777", "none", folder], check=True)
        undo = ["umount", "--lazy", str(folder)]
    try:
        yield
    finally:
        if undo:
            subprocess.run(undo, check=True)
        folder.chmod(before)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
@pytest.mark.parametrize(("how", "code"), [("closed", 73), ("linked", 77), ("full", 74)])
def test_a_volume_that_cannot_be_used_is_told_with_the_exit_code_of_the_bootstrap(loaded, nomad_agent, how, code):
    subprocess.run(["rm", "-rf", *nomad_agent.volume.iterdir()], check=True)
    loaded.configure(nomad={"volume": {"kind": "host", "name": "models"}})
    with spoilt(nomad_agent.volume, how):
        refused(loaded, f"the bootstrap ended with {code}: ", within=AT_ONCE)


BY_JOB = {
    65: ("Env", {"MODEL_ID": "0" * 64}),
    73: ("Env", {"MODEL_VOLUME": "/etc"}),
    78: ("Env", {"MODEL_VERIFY": "never"}),
    77: (
        "Config",
        {"command": "sh", "args": ["-c", "mkdir /alloc/data/model; ln -s x /alloc/data/model/v; . /deploy.sh"]},
    ),
    1: ("Config", {"command": "sh", "args": ["-c", "echo one; echo two >&2; sleep 1; exit 1"]}),
    127: ("Config", {"command": "sh", "args": ["-c", "/nothing"]}),
    137: ("Config", {"command": "sh", "args": ["-c", "exit 137"]}),
    143: ("Config", {"command": "sh", "args": ["-c", "exit 143"]}),
}


@pytest.mark.parametrize("code", BY_JOB)
def test_each_exit_code_of_the_bootstrap_is_told_at_once(slot, code):
    target, artefact = slot
    where, what = BY_JOB[code]
    job = {**artefact.job, "TaskGroups": [edited(artefact.job["TaskGroups"][0], where, what)]}
    target.ensure("a", dataclasses.replace(artefact, job=job))
    took = until(lambda: target.observe("a").state == "failed", 20, "it has failed")
    cause = target.observe("a").cause
    assert cause.kind == "bootstrap"
    assert cause.message.startswith(f"the bootstrap ended with {code}: ")
    assert took < AT_ONCE
    if code == 1:  # what ends at once may have said things that Nomad did not come to keep
        assert cause.lines == ("one", "two")


def edited(group, where, what):
    """A group whose bootstrap is told otherwise."""
    bootstrap, server = group["Tasks"]
    return {**group, "Tasks": [bootstrap | {where: bootstrap[where] | what}, server]}


@pytest.fixture
def slot(make_nomad, monkeypatch):
    """A target, and an artefact that could run there."""
    service = make_nomad()
    service.build(1)
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)
    project, spec = require_project(service.folder / "mlops.yml", None)
    made = wiring.nomad_service(project, spec, wiring.clock(), this_holder(os.environ))
    artefact = find_candidate(made, shelf(project), Wish(), PlainStory())
    made.supply().prepare(artefact, PlainStory())
    yield made.target, artefact
    made.target.remove(volumes=True)


def test_a_slot_whose_job_was_edited_by_hand_is_not_taken_for_its_artefact(live):
    """The last of this file: it leaves the service with another live slot."""
    before = live.status()["live"]
    edited = live.job(before["slot"])
    edited["TaskGroups"][0]["Tasks"][1]["Env"]["ADDS"] = "100"
    live.agent.ask("PUT", "/v1/jobs", {"Job": edited})
    status = live.status()
    assert status["slots"][before["slot"]]["version"] is None
    assert "changed its job by hand" in status["slots"][before["slot"]]["remark"]
    assert "changed its job by hand" in live.run("status").stdout
    assert "nothing to do" not in live.run("release", "--dry-run").stdout
    live.release(1)
    after = live.status()["live"]
    assert after["version"] == before["version"]
    assert after["slot"] != before["slot"]
