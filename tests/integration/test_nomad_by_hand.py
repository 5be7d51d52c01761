"""What a real cluster makes of our jobs and of what somebody does to them by hand."""

import json
import subprocess
from pathlib import Path

import pytest

from mlops_deploy.adapters.nomad.client import NomadClient
from mlops_deploy.adapters.nomad.settings import Cluster
from mlops_deploy.adapters.nomad.target import NomadTarget
from mlops_deploy.adapters.nomad.volumes import Volumes
from mlops_deploy.errors import UnusableInputError
from mlops_deploy.render.hcl import hcl
from mlops_deploy.render.nomad import slot_document, slot_job
from mlops_deploy.render.nomad_fingerprint import is_edited
from mlops_deploy.render.nomad_rolling import rolling_document
from mlops_deploy.spec.nomad import Device, NomadSpec, NomadVolume
from mlops_deploy.spec.owner import Owner
from mlops_deploy.spec.rendered import JobImage
from tests.integration.test_render_nomad import JOB, with_nomad

pytestmark = pytest.mark.nomad

OWNER = Owner(service="byhand")
MADE = {"content": "1" * 64, "key": "2" * 64}
SPECS = {
    "plain": NomadSpec(),
    "host": NomadSpec(volume=NomadVolume(kind="host", name="models")),
    "dynamic": NomadSpec(volume=NomadVolume(kind="dynamic")),
    "cores": NomadSpec(cores=1, memory_max=2 << 30, meta={"x": "y"}, shutdown_delay=0.0),
    "device": NomadSpec(cores=1, devices=(Device(name="nvidia/gpu"),)),
}
ENV = {"EMPTY": "", "DOLLAR": "x${nope}", "DOTTED.c-d": "1", "LINES": "a\nb"}


@pytest.fixture
def agent(nomad_agent):
    yield nomad_agent
    for name in ("byhand-a", "byhand"):
        if any(one["ID"] == name for one in nomad_agent.ask("GET", "/v1/jobs?prefix=byhand")):
            nomad_agent.ask("DELETE", f"/v1/job/{name}?purge=true")


@pytest.mark.parametrize("name", SPECS)
def test_a_cluster_leaves_what_the_fingerprint_counts_as_it_was_given(agent, name):
    job = slot_job(with_nomad(SPECS[name], ENV), *JOB)
    documents = [slot_document(OWNER, "a", job, **MADE)]
    if name != "dynamic":
        documents.append(rolling_document(OWNER, job, count=2, **MADE))
    for document in documents:
        parsed = agent.ask("POST", "/v1/jobs/parse", {"JobHCL": hcl(document), "Canonicalize": True})
        for given in (document, parsed):
            agent.ask("PUT", "/v1/jobs", {"Job": given})
            assert not is_edited(agent.ask("GET", f"/v1/job/{document['ID']}"))


@pytest.mark.parametrize(("place", "value"), [("Env", {"ADDS": "100"}), ("User", "0"), ("Config", {"image": "other"})])
def test_an_edit_by_hand_is_seen(agent, tmp_path: Path, place, value):
    agent.ask("PUT", "/v1/jobs", {"Job": slot_document(OWNER, "a", slot_job(with_nomad(NomadSpec()), *JOB), **MADE)})
    address = f"-address={agent.address}"
    found = json.loads(
        subprocess.run(["nomad", "job", "inspect", address, "byhand-a"], check=True, capture_output=True).stdout
    )
    server = found["Job"]["TaskGroups"][0]["Tasks"][1]
    server[place] = server[place] | value if isinstance(value, dict) else value
    (tmp_path / "job.json").write_text(json.dumps(found))
    run = ["nomad", "job", "run", address, "-json", "-detach", str(tmp_path / "job.json")]
    subprocess.run(run, check=True, capture_output=True)
    registered = agent.ask("GET", "/v1/job/byhand-a")
    assert registered["Meta"] == found["Job"]["Meta"]
    assert is_edited(registered)


def test_a_volume_of_an_earlier_configuration_is_removed_too(agent):
    client = NomadClient(Cluster(address=agent.address))
    volumes = Volumes(OWNER, client)
    volumes.create("byhand-a-models", "a", "1" * 64, {"TaskGroups": [{"Tasks": []}]}, 0)
    target = NomadTarget(OWNER, 8080, JobImage(ref="router:1", local=True), NomadSpec(), client)
    target.remove(volumes=False)
    assert volumes.content("byhand-a-models", "a") == "1" * 64
    target.remove(volumes=True)
    assert volumes.content("byhand-a-models", "a") is None


def test_a_node_pool_that_is_not_there_is_told_as_such(agent):
    document = slot_document(OWNER, "a", slot_job(with_nomad(NomadSpec(node_pool="nowhere")), *JOB), **MADE)
    client = NomadClient(Cluster(address=agent.address))
    for ask in (lambda: client.plan(document), lambda: client.register(document, 0)):
        with pytest.raises(UnusableInputError, match="there is no node pool `nowhere` on the cluster") as refused:
            ask()
        assert "nomad.node_pool" in refused.value.hint


def test_a_region_that_is_not_there_is_told_as_such(agent):
    with pytest.raises(UnusableInputError, match="there is no region `mars`") as refused:
        NomadClient(Cluster(address=agent.address, region="mars")).check()
    assert "NOMAD_REGION" in refused.value.hint
