"""Why no node takes a job, in words that name what is missing."""

import pytest

from mlops_deploy.adapters.nomad.placement import may_pass, obstacles, without_own_volume
from tests.unit.adapters.nomad.test_allocations import job, metric


@pytest.mark.parametrize(
    ("found", "words", "passing"),
    [
        (
            metric(ConstraintFiltered={"${attr.kernel.name} = plan9": 1}),
            "1 node does not meet `${attr.kernel.name} = plan9`",
            False,
        ),
        (metric(ConstraintFiltered={"missing drivers": 2}), "2 nodes lack a driver of the job: docker", False),
        (metric(ConstraintFiltered={"missing devices": 1}), "1 node lacks a device of the job: nvidia/gpu", False),
        (
            metric(ConstraintFiltered={"missing compatible host volumes": 2}),
            "2 nodes lack the host volume `shop-a-models`",
            True,
        ),
        (
            metric(
                NodesExhausted=1,
                DimensionExhausted={"memory": 1},
                ResourcesExhausted={"bootstrap": {"MemoryMB": 0}, "server": {"MemoryMB": 999_999}},
            ),
            "1 node has no 999,999 MiB of memory left",
            True,
        ),
        (metric(NodesExhausted=2, DimensionExhausted={"cpu": 2}), "2 nodes have not enough cpu left", True),
        (
            metric(NodesExhausted=1, DimensionExhausted={"network: reserved port collision entry=8080": 1}),
            "1 node has given port 8080 to another job",
            True,
        ),
        (
            metric(NodesExhausted=1, DimensionExhausted={"devices: no devices match request": 1}),
            "1 node has not enough left: devices: no devices match request",
            True,
        ),
        (
            metric(QuotaExhausted=["memory exhausted (2 needed > 1 limit)"]),
            "the quota of the namespace is used up: memory exhausted (2 needed > 1 limit)",
            True,
        ),
        (metric(NodesEvaluated=0), "no node is ready in the cluster", True),
        (metric(), "the scheduler names no reason", True),
    ],
)
def test_what_stands_in_the_way_is_named_and_whether_it_may_pass(found, words, passing):
    assert obstacles(job(), found) == (words,)
    assert may_pass(job(), found) is passing


def test_where_a_job_may_run_is_named_when_no_node_is_there():
    restricted = job(Datacenters=["mars", "venus"], NodePool="gpu")
    (words,) = obstacles(restricted, metric(NodesEvaluated=0))
    assert words == "no node is ready in datacenter `mars`, `venus` and node pool `gpu`"


def test_every_kind_of_reason_is_told():
    found = metric(
        ConstraintFiltered={"missing drivers": 1, "${node.class} = gpu": 1},
        NodesExhausted=1,
        DimensionExhausted={"disk": 1},
    )
    assert obstacles(job(), found) == (
        "1 node does not meet `${node.class} = gpu`",
        "1 node lacks a driver of the job: docker",
        "1 node has not enough disk left",
    )
    assert may_pass(job(), found)


def test_a_volume_of_nobodys_will_not_come_and_one_of_the_jobs_own_may():
    missing = metric(ConstraintFiltered={"missing compatible host volumes": 1})
    assert may_pass(job(), missing)
    other = job(ID="shop-b")
    assert other.own_volume is None
    assert not may_pass(other, missing)


def test_the_volume_that_a_release_will_make_is_no_obstacle_and_all_else_is():
    missing = "missing compatible host volumes"
    alone = metric(ConstraintFiltered={missing: 1})
    assert without_own_volume(job(), alone) == {}
    assert without_own_volume(job(ID="shop-b"), alone) == alone
    both = without_own_volume(job(), metric(ConstraintFiltered={missing: 1, "missing drivers": 1}))
    assert obstacles(job(), both) == ("1 node lacks a driver of the job: docker",)
