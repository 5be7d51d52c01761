"""Which of a job's evaluations tells why it has no place."""

import pytest

from mlops_deploy.adapters.nomad.evaluations import Blocked, blocked, blocked_at_first
from tests.unit.adapters.nomad.test_allocations import CREATED, job

FULL = {"NodesEvaluated": 1, "NodesExhausted": 1}
UNFIT = {"NodesEvaluated": 1, "ConstraintFiltered": {"missing drivers": 1}}
JOB = job(JobModifyIndex=70)


def evaluation(status="blocked", index=70, metric=FULL, order=100):
    failed = None if metric is None else {"model": metric}
    made = {"CreateIndex": order, "CreateTime": int(CREATED + order) * 1_000_000_000}
    return {"Status": status, "JobModifyIndex": index, "FailedTGAllocs": failed, **made}


def test_what_waits_is_this_job_and_now():
    earlier, placed = evaluation(index=69, metric=UNFIT), evaluation(metric=None)
    waits = evaluation(order=120)
    assert blocked(JOB, [earlier, evaluation("complete", metric=UNFIT), placed, waits]) == Blocked(
        metric=FULL, since=CREATED + 120
    )
    assert blocked(JOB, [evaluation(index=71)]) is not None


@pytest.mark.parametrize(
    "said",
    [
        [],
        None,
        "no such job",
        [evaluation("complete")],
        [evaluation(index=69)],
        [evaluation(metric=None)],
        [{"Status": "blocked"}],
    ],
)
def test_nothing_waits(said):
    assert blocked(JOB, said) is None


def test_the_first_that_found_no_place_tells_why_whatever_became_of_it():
    said = [
        evaluation(order=130),
        evaluation("complete", order=110, metric=UNFIT),
        evaluation("complete", order=105, metric=None),
        evaluation(index=69, order=90),
        evaluation(index=71, order=95),
    ]
    assert blocked_at_first(JOB, said) == Blocked(metric=UNFIT, since=CREATED + 110)
    assert blocked_at_first(JOB, said[2:]) is None
    assert blocked_at_first(JOB, None) is None
