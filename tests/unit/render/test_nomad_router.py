import json
from dataclasses import replace

import pytest

from mlops_deploy.render.nomad_router import KEY, router_document, router_id, router_variable
from mlops_deploy.spec.nomad import Constraint, NomadSpec
from mlops_deploy.spec.owner import Owner
from mlops_deploy.spec.rendered import JobImage

OWNER = Owner(service="digits", environment="test")
IMAGE = JobImage(ref="mlops-router:0123456789ab", local=True)
SPEC = NomadSpec(
    namespace="ml",
    region="eu",
    datacenters=("dc1", "dc2"),
    node_pool="edge",
    priority=70,
    pull_timeout=120.0,
    shutdown_delay=1.5,
    constraints=(Constraint(attribute="${attr.kernel.name}", value="linux"),),
)


def text(document):
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def test_the_job_as_the_api_takes_it(golden):
    golden("nomad-router.json", text(router_document(OWNER, 8080, IMAGE, SPEC)))


def test_what_the_section_leaves_open_is_left_to_the_cluster():
    job = router_document(Owner(service="digits"), 8080, IMAGE, NomadSpec())
    assert {"Namespace", "Region", "NodePool", "Priority", "Constraints"}.isdisjoint(job)
    assert (job["ID"], job["Datacenters"]) == ("digits-router", ["*"])


def test_it_follows_the_variable_that_its_identity_may_read():
    job = router_document(OWNER, 8080, IMAGE, SPEC)
    (task,) = job["TaskGroups"][0]["Tasks"]
    assert router_variable(OWNER) == task["Env"]["ROUTER_VARIABLE"] == f"nomad/jobs/{job['ID']}"
    assert (task["Env"]["ROUTER_SLOT_A"], task["Env"]["ROUTER_SLOT_B"]) == ("digits-test-a", "digits-test-b")
    assert job["ID"] == router_id(OWNER)


def test_requests_get_less_time_to_end_than_the_task_and_the_task_no_more_than_a_client_grants():
    (task,) = router_document(OWNER, 8080, IMAGE, SPEC)["TaskGroups"][0]["Tasks"]
    assert int(task["Env"]["ROUTER_GRACE"]) < task["KillTimeout"] // 10**9 <= 30


@pytest.mark.parametrize(
    "other",
    [
        {"port": 8081},
        {"image": replace(IMAGE, ref="mlops-router:other")},
        {"nomad": replace(SPEC, priority=71)},
        {"nomad": replace(SPEC, constraints=())},
    ],
)
def test_another_job_has_another_key(other):
    given = {"port": 8080, "image": IMAGE, "nomad": SPEC}
    one, another = (router_document(OWNER, **chosen) for chosen in (given, given | other))
    assert one["Meta"][KEY] != another["Meta"][KEY]
    assert one == router_document(OWNER, **given)


def test_its_labels_say_whose_it_is():
    assert OWNER.owns(router_document(OWNER, 8080, IMAGE, SPEC)["Meta"])
    assert not Owner(service="digits").owns(router_document(OWNER, 8080, IMAGE, SPEC)["Meta"])
