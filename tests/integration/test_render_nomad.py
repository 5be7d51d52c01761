"""The rendered jobs, read and run by a real Nomad agent."""

import dataclasses
import json
import os
import subprocess
import sys
import urllib.request
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings

from mlops_deploy.render.hcl import hcl
from mlops_deploy.render.nomad import document, slot_document, slot_job
from mlops_deploy.render.nomad_router import router_document
from mlops_deploy.spec.nomad import NomadSpec
from mlops_deploy.spec.owner import Owner
from mlops_deploy.spec.preset import Ports, Preset, Readiness
from mlops_deploy.spec.rendered import JobImage
from tests.integration.releasing import docker, until
from tests.integration.test_render_compose import GOLDEN, NASTY, REQUEST, a_carrier, service
from tests.unit.render.test_hcl import NOMADS

pytestmark = [pytest.mark.nomad, pytest.mark.docker]

MORE = {
    "REFERENCES": "${HOME} ${PATH} $${PORT} ${MODEL_ID} ${NOMAD_ALLOC_ID} ${NOMAD_META_mlops_deploy_dollar}",
    "NODE": '${attr.kernel.name} ${node.unique.name} ${meta.x} ${env["HOME"]}',
    "ESCAPED": "$${a} $$${b} $$$${c} %%{d} %%%{e} \\${f} \\%{g} ${${h}} $%{i}",
    "ENDS": "$",
    "OPEN": "${ %{ ${a %{ if",
    "COMBINED": "\u00e9\uac00\u0105\u0301",
    "HEREDOC": "<<EOT\nx\nEOT\n",
    "node": "the name of what a client looks up",
    "attr": "another one",
}
VALUES = NASTY | MORE
PRESET = Preset(
    name="kserve-sklearn",
    doc="",
    command=("python", "-m", "mlops_server"),
    ports=Ports(http=8080),
    ready=Readiness(path="/v2/models/{name}/ready", endpoint="/v2/models/{name}/ready"),
)
JOB = (a_carrier(), JobImage(ref="mlops-tiny-v2:1", local=True), PRESET)
SAYS = (
    "import json, os, sys; print(json.dumps(sys.argv[1:])); print(sorted(os.listdir(os.environ['MODEL_PATH'])));"
    "print(os.path.exists('/model/x'), os.access('/model', os.W_OK))"
)


class TestReading:
    """Nomad's own parser makes of our HCL what its API gets as JSON."""

    @settings(
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        deadline=None,
        max_examples=40,
    )
    @given(nomad=NOMADS)
    def test_every_job_is_read_as_it_is_meant(self, nomad_agent, nomad):
        made = document(with_nomad(nomad), *JOB)
        assert pruned(parsed(nomad_agent, hcl(made))) == pruned(made)

    @pytest.mark.parametrize("nomad", [NomadSpec(), NomadSpec(priority=60, meta={"team": "x"})])
    def test_with_every_default_filled_in_both_are_the_same_job(self, nomad_agent, nomad):
        spec, owner = with_nomad(nomad, VALUES), Owner(service="rendertest")
        slot = slot_document(owner, "a", slot_job(spec, *JOB), content="1" * 64, key="2" * 64)
        for made in (document(spec, *JOB), slot, router_document(owner, 9000, JOB[1], nomad)):
            from_hcl, from_json = (planned(nomad_agent, one) for one in (parsed(nomad_agent, hcl(made)), made))
            assert from_hcl == from_json
            assert from_json["Type"] == "Added"

    def test_it_is_formatted_as_nomad_formats(self, tmp_path):
        file = tmp_path / "job.nomad.hcl"
        file.write_text(hcl(document(with_nomad(NomadSpec(meta={"a": "b", "longer": "c"}), VALUES), *JOB)))
        assert run("nomad", "fmt", "-check", str(file)).returncode == 0


class TestRunning:
    """A tiny server of the real one's shape, with the real carrier; its job is written and run by commands alone."""

    @pytest.mark.parametrize("name", ["job.nomad.hcl", "job.json"])
    def test_it_becomes_healthy_predicts_and_has_every_value_as_it_was_given(self, project, name):
        project.render("-o", name, env=VALUES)
        project.start(name)
        assert project.predicted() == [5.5, 11.5]
        found = dict(entry.split("=", 1) for entry in project.inspect("server")["Config"]["Env"])
        assert {key: found[key] for key in VALUES} == VALUES
        assert project.logs("bootstrap").count("copied") == 1

    def test_the_server_is_locked_down_and_the_model_is_read_only(self, project):
        project.render("-o", "job.nomad.hcl")
        project.start("job.nomad.hcl")
        found = project.inspect("server")
        host = found["HostConfig"]
        assert found["Config"]["User"] == "65532:65532"
        assert (host["ReadonlyRootfs"], host["CapDrop"], host["Privileged"]) == (True, ["ALL"], False)
        assert (host["SecurityOpt"], host["PidsLimit"]) == (["no-new-privileges"], 4096)
        assert host["Memory"] == 128 << 20
        for path in ("/x", "/model/x", "/model/v/x", "/alloc/data/x", "/alloc/data/model/x"):
            assert "Read-only file system" in project.inside("touch", path).stderr, path
        assert project.inside("stat", "-c", "%u:%g", f"/model/v/{project.content}").stdout == "65532:65532\n"
        assert project.inside("stat", "-c", "%a", "/tmp").stdout == "1777\n"  # noqa: S108 - in the container
        assert project.inside("touch", "/tmp/x").returncode == 0  # noqa: S108

    def test_into_a_host_volume(self, project):
        project.render("-o", "job.nomad.hcl", nomad={"volume": {"kind": "host", "name": "models"}})
        project.start("job.nomad.hcl")
        assert project.predicted() == [5.5, 11.5]
        assert "Read-only file system" in project.inside("touch", "/model/x").stderr
        assert (project.agent.folder / "volume" / "v" / project.content).is_dir()

    def test_into_a_dynamic_volume(self, project):
        project.render("-o", "job.nomad.hcl", nomad={"volume": {"kind": "dynamic"}})
        project.make_volume()
        project.start("job.nomad.hcl")
        assert project.predicted() == [5.5, 11.5]
        assert "Read-only file system" in project.inside("touch", "/model/x").stderr

    def test_another_user_reads_it_too(self, project):
        project.render("-o", "job.nomad.hcl", user="1000:1000", env={"LOAD_SECONDS": "3"})
        project.start("job.nomad.hcl")
        assert project.predicted() == [5.5, 11.5]
        assert project.inside("id", "-u").stdout == "1000\n"

    def test_with_the_wrong_model_the_server_never_starts(self, project):
        project.render("-o", "job.nomad.hcl")
        file = project.folder / "job.nomad.hcl"
        file.write_text(file.read_text().replace(project.content, "0" * 64))
        project.start("job.nomad.hcl", healthy=False)
        until(lambda: project.exit_code("bootstrap") == 65, 40, "the bootstrap has ended with 65")
        assert project.allocation()["TaskStates"]["server"]["StartedAt"] is None
        assert project.agent.ask("GET", f"/v1/service/{project.name}") == []

    def test_while_the_model_loads_the_service_is_there_and_not_healthy(self, project):
        project.render("-o", "job.nomad.hcl", env={"NEVER_READY": "1"})
        project.start("job.nomad.hcl", healthy=False)
        until(lambda: project.agent.ask("GET", f"/v1/service/{project.name}"), 40, "the service is registered")
        until(lambda: "failure" in project.checks(), 20, "the check fails")
        assert project.deployment()["Status"] == "running"


class TestBatch:
    """A batch run reads the model, gets every argument as it was given, and ends."""

    def test_a_command_gets_its_very_arguments_and_ends(self, project):
        texts = [text for text in VALUES.values() if len(text) < 4000]
        project.render("-o", "job.json", nomad={"type": "batch", "command": ["python", "-c", SAYS, *texts]})
        project.start("job.json", healthy=False)
        until(lambda: project.allocation().get("ClientStatus") == "complete", 40, "the run has ended")
        said, listed, writable = project.logs("server").splitlines()
        assert json.loads(said) == texts
        assert (listed, writable) == ("['model.json']", "False False")

    def test_one_that_fails_is_told_as_such(self, project):
        project.render("-o", "job.json", nomad={"type": "batch", "command": ["python", "-c", "raise SystemExit(3)"]})
        project.start("job.json", healthy=False)
        until(lambda: project.exit_code("server") == 3, 40, "the run has failed")

    def test_a_periodic_one_runs_when_it_is_time(self, project):
        nomad = {"type": "batch", "command": ["python", "-c", SAYS], "periodic": "@yearly"}
        project.render("-o", "job.nomad.hcl", nomad=nomad)
        project.start("job.nomad.hcl", healthy=False)
        assert project.agent.ask("GET", f"/v1/job/{project.name}")["Periodic"]["ProhibitOverlap"] is True
        project.agent.ask("PUT", f"/v1/job/{project.name}/periodic/force")
        children = f"/v1/jobs?prefix={project.name}/periodic-"
        until(lambda: [one["Status"] for one in project.agent.ask("GET", children)] == ["dead"], 40, "it has run")


class TestChecking:
    """`--check`: the cluster reads, validates and plans what is about to be written."""

    def test_what_it_would_take_is_written(self, project):
        done = project.render("--check", "-o", "files/")
        assert [line for line in done.stderr.splitlines() if line.startswith("checked")] == [
            f"checked: the cluster would take the job `{project.name}-{part}`" for part in ("a", "b", "router")
        ]
        assert len(list((project.folder / "files").iterdir())) == 3
        assert project.agent.ask("GET", f"/v1/jobs?prefix={project.name}") == [], "nothing is registered"

    def test_what_could_not_be_placed_is_written_and_told(self, project):
        constraint = {"attribute": "${attr.kernel.name}", "value": "plan9"}
        done = project.render("--check", "-o", "job.json", nomad={"constraints": [constraint]})
        assert "could not be placed now: 1 node does not meet `${attr.kernel.name} = plan9`" in done.stderr
        assert (project.folder / "job.json").exists()

    @pytest.mark.parametrize("name", ["job.nomad.hcl", "job.json"])
    def test_what_it_refuses_is_not_written(self, project, name):
        constraint = {"attribute": "${attr.kernel.name}", "operator": "regexp", "value": "("}
        done = project.render("--check", "-o", name, code=2, nomad={"constraints": [constraint]})
        assert f"error: the cluster refuses the job `{project.name}`" in done.stderr
        assert "missing closing ): `(`" in done.stderr
        assert not (project.folder / name).exists()

    def test_nobody_at_the_address_is_told_and_nothing_is_written(self, project):
        done = project.render("--check", "-o", "job.json", code=8, address="http://127.0.0.1:1")
        assert "no Nomad API answers at `http://127.0.0.1:1`" in done.stderr
        assert not (project.folder / "job.json").exists()
        project.render("-o", "job.json", address="http://127.0.0.1:1")
        assert (project.folder / "job.json").exists(), "without `--check` no cluster is asked"

    def test_for_docker_there_is_nobody_to_ask(self, project):
        assert "`--check` is for `--target nomad`" in project.render("--target", "docker", "--check", code=2).stderr


@pytest.fixture(scope="module", name="tiny")
def build_tiny(tiny_image):
    docker("tag", "mlops-tiny-v2", "mlops-tiny-v2:1")


@pytest.fixture
def project(tiny, busybox, nomad_agent, tmp_path):
    one = Project(tmp_path, nomad_agent)
    yield one
    one.remove()


class Project:
    """A folder with a model and its configuration, and what the agent makes of its rendered job."""

    def __init__(self, folder, agent):
        self.folder, self.agent = folder, agent
        self.name = f"rn-{uuid4().hex[:8]}"
        (folder / "model.json").write_text(json.dumps({"weights": [1.0, 2.0], "bias": 0.5, "of": self.name}))
        (folder / "golden.jsonl").write_text(json.dumps(GOLDEN))
        self.configure({})
        built = json.loads(self.mlops_deploy("build-model", "--output", "json").stdout)
        self.content, self.tags = built["content_id"], built["tags"]

    def configure(self, more):
        configuration = {
            "service": self.name,
            "model": {"path": "model.json", "name": "plane"},
            "server": {"image": "mlops-tiny-v2:1"},
            "target": "nomad",
            "resources": {"cpu": 0.2, "memory": "128Mi"},
            "ready": {"golden": "golden.jsonl", "deadline": "20s"},
            "release": {"drain": "2s"},
            **more,
        }
        (self.folder / "mlops.json").write_text(json.dumps(configuration))

    def mlops_deploy(self, *arguments, code=0, address=None):
        environment = os.environ | {"NOMAD_ADDR": address or self.agent.address}
        command = (sys.executable, "-m", "mlops_deploy", *arguments, "-f", "mlops.json")
        done = run(*command, cwd=self.folder, env=environment)
        assert done.returncode == code, done.stderr
        return done

    def render(self, *arguments, code=0, address=None, **more):
        self.configure(more)
        return self.mlops_deploy("render", *arguments, code=code, address=address)

    def start(self, name, *, healthy=True):
        form = ["-json"] if name.endswith(".json") else []
        detach = [] if healthy else ["-detach"]
        command = ("nomad", "job", "run", f"-address={self.agent.address}", *detach, *form, name)
        done = run(*command, cwd=self.folder, timeout=90)
        assert done.returncode == 0, done.stdout + done.stderr
        if healthy:
            assert self.deployment()["Status"] == "successful"

    def make_volume(self):
        asked = {
            "Name": f"{self.name}-models",
            "PluginID": "mkdir",
            "RequestedCapabilities": [{"AccessMode": "single-node-multi-writer", "AttachmentMode": "file-system"}],
            "Parameters": {"mode": "0755", "uid": "65532", "gid": "65532"},
        }
        made = self.agent.ask("PUT", "/v1/volume/host/create", {"Volume": asked})["Volume"]
        path = f"/v1/volume/host/{made['ID']}"
        until(lambda: self.agent.ask("GET", path)["State"] == "ready", 10, "the volume is ready")

    def deployment(self):
        return self.agent.ask("GET", f"/v1/job/{self.name}/deployment")

    def allocation(self):
        found = self.agent.ask("GET", f"/v1/job/{self.name}/allocations")
        return min(found, key=lambda one: one["CreateIndex"], default={})

    def exit_code(self, task):
        state = (self.allocation().get("TaskStates") or {}).get(task) or {}
        codes = [event["ExitCode"] for event in state.get("Events") or () if event["Type"] == "Terminated"]
        return codes[-1] if codes else None

    def checks(self):
        found = self.agent.ask("GET", f"/v1/client/allocation/{self.allocation()['ID']}/checks") or {}
        return {one["Status"] for one in found.values()}

    def container(self, task):
        return f"{task}-{self.allocation()['ID']}"

    def inspect(self, task):
        return json.loads(docker("inspect", self.container(task)))[0]

    def inside(self, *command):
        return run("docker", "exec", self.container("server"), *command)

    def logs(self, task):
        url = f"{self.agent.address}/v1/client/fs/logs/{self.allocation()['ID']}?task={task}&type="
        streams = (urllib.request.urlopen(f"{url}{stream}&plain=true", timeout=10) for stream in ("stdout", "stderr"))  # noqa: S310
        return "".join(stream.read().decode() for stream in streams)

    def predicted(self):
        (found,) = self.agent.ask("GET", f"/v1/service/{self.name}")
        url = f"http://{found['Address']}:{found['Port']}/v2/models/plane/infer"
        request = urllib.request.Request(url, json.dumps(REQUEST).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return json.load(answer)["outputs"][0]["data"]

    def remove(self):
        self.agent.ask("DELETE", f"/v1/job/{self.name}?purge=true")
        for volume in self.agent.ask("GET", "/v1/volumes?type=host") or []:
            if volume["Name"] == f"{self.name}-models":
                until(lambda: not self._running(), 20, "the job has ended")
                self.agent.ask("DELETE", f"/v1/volume/host/{volume['ID']}/delete")
        docker("image", "rm", "--force", *self.tags, check=False)

    def _running(self):
        found = self.agent.ask("GET", f"/v1/job/{self.name}/allocations")
        return any(one["ClientStatus"] in {"pending", "running"} for one in found)


def with_nomad(nomad, env=None):
    return dataclasses.replace(service(env), nomad=nomad)


def parsed(agent, text):
    return agent.ask("POST", "/v1/jobs/parse", {"JobHCL": text})


def planned(agent, job):
    """Every field of a new job, after the servers have filled in what it leaves out."""
    return in_order(agent.ask("POST", f"/v1/job/{job['ID']}/plan", {"Job": job, "Diff": True})["Diff"])


def in_order(value):
    """With every list sorted: a server goes through its maps in any order."""
    match value:
        case dict():
            return {key: in_order(one) for key, one in value.items()}
        case list():
            return sorted((in_order(one) for one in value), key=lambda one: json.dumps(one, sort_keys=True))
        case _:
            return value


def pruned(value):
    """Without what means the same as nothing: the parser writes every field that it knows."""
    match value:
        case dict():
            return {key: inside for key, one in value.items() if (inside := pruned(one)) not in (None, "", 0, [], {})}
        case list():
            return [pruned(one) for one in value]
        case _:
            return value


def run(*command, timeout=120, **more):
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout, **more)
