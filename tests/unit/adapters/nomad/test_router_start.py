"""What a cluster says of the router's job, its allocations and evaluations, and when waiting for it is of no use."""

import pytest

from mlops_deploy.adapters.nomad.router_start import LASTING, PASSING, Held, failure, is_over, unplaced
from mlops_deploy.adapters.nomad.slot_job import SlotJob
from mlops_deploy.errors import DeployError, UnusableInputError
from mlops_deploy.render.nomad_router import router_document
from mlops_deploy.spec.nomad import NomadSpec
from mlops_deploy.spec.owner import Owner
from mlops_deploy.spec.rendered import JobImage

REF = "mlops-router:0123456789ab"
JOB = router_document(Owner(service="shop"), 8080, JobImage(ref=REF, local=True), NomadSpec()) | {
    "Version": 3,
    "JobModifyIndex": 70,
    "Stop": False,
}
COLLISION = {"NodesEvaluated": 1, "NodesExhausted": 1}
COLLISION |= {"DimensionExhausted": {"network: reserved port collision entry=8080": 1}}
NO_ROOM = {"NodesEvaluated": 1, "NodesExhausted": 1, "DimensionExhausted": {"cpu": 1}}
UNFIT = {"NodesEvaluated": 1, "ConstraintFiltered": {"missing drivers": 1}}


def event(kind, text="", **details):
    return {"Type": kind, "DisplayMessage": text or kind, "Details": details}


def ended(code):
    return event("Terminated", exit_code=str(code))


def task(*events, state="running", failed=False):
    return {"State": state, "Failed": failed, "Restarts": 0, "StartedAt": None, "Events": list(events)}


def allocation(order=1, version=3, wanted="run", status="running", run=None):
    states = None if run is None else {"router": run}
    found = {"ID": f"id-{order}", "NodeName": "n1", "JobVersion": version, "CreateIndex": order}
    return found | {"DesiredStatus": wanted, "ClientStatus": status, "TaskStates": states}


def held(*events, **task_):
    found = Held.newest(JOB, [allocation(run=task(*events, **task_))])
    assert found is not None
    return found


def test_the_newest_allocation_of_the_job_as_it_is_now_counts():
    some = [allocation(1, version=2), allocation(2), allocation(4), allocation(5, wanted="stop"), allocation(3)]
    found = Held.newest(JOB, some)
    assert found is not None
    assert (found.id, found.node, found.running, found.run) == ("id-4", "n1", True, None)
    assert Held.newest(JOB, [allocation(1, version=2)]) is None
    assert not is_over(found, new=True)


def test_a_router_that_failed_before_the_job_was_registered_says_nothing_of_it():
    assert Held.newest(JOB, [allocation(60, status="failed")]) is None
    assert Held.newest(JOB, [allocation(71, status="failed")]) is not None


@pytest.mark.parametrize(
    ("it", "over"),
    [
        (held(), False),
        (held(event("Started")), False),
        (held(ended(1)), False),
        (held(ended(137), state="pending"), False),
        (held(ended(2), state="pending"), True),
        (held(ended(1), event("Started"), ended(1)), True),
        (held(ended(0), state="dead"), True),
        (held(event("Driver Failure"), state="pending"), False),
        (held(event("Driver Failure"), event("Restarting"), event("Driver Failure"), state="pending"), True),
        (held(event("Driver Failure"), state="dead", failed=True), True),
    ],
)
def test_a_router_that_nothing_starts_is_over(it, over):
    assert is_over(it, new=True) is over


def test_how_often_an_older_router_ended_says_nothing():
    for it in (held(ended(1), ended(1)), held(ended(137), event("Started"), ended(2), event("Started"))):
        assert not is_over(it, new=False)
    assert is_over(held(ended(2), state="pending"), new=False)
    assert is_over(held(ended(1), ended(1), state="dead"), new=False)


def test_an_image_that_is_not_there_is_named():
    text = f"Failed to pull `{REF}`: Error response from daemon: pull access denied"
    error = failure(held(event("Driver Failure", driver_error=text), state="dead", failed=True), REF, ())
    assert isinstance(error, UnusableInputError)
    said = f"the image `{REF}` is not in the engine of node `n1`, and cannot be pulled: pull access denied"
    assert error.message == f"the router cannot start: {said}"
    assert "nomad.router_image" in error.hint


def test_what_the_driver_refuses_is_told():
    text = "Failed to create container configuration: no such thing.\nmore"
    error = failure(held(event("Driver Failure", driver_error=text), state="dead", failed=True), REF, ())
    assert error.message == f"the router `{REF}` cannot be started: {text.splitlines()[0].rstrip('.')}"
    assert error.detail == tuple(text.splitlines())


def test_an_address_that_is_taken_is_told_with_a_way_out():
    line = "router: HAProxy cannot listen at 10.0.0.1:8080: address already in use"
    error = failure(held(ended(2)), REF, ("something", line))
    assert isinstance(error, UnusableInputError)
    assert error.message == f"the router cannot listen on node `n1`: {line.removeprefix('router: ')}"
    assert error.hint == "stop what has it, or set another `port`"


def test_another_end_is_told_with_its_last_words():
    error = failure(held(ended(1), ended(1)), REF, ("one", "two"))
    assert (type(error), error.message, error.detail) == (
        DeployError,
        "the router ended with 1 on node `n1`",
        ("one", "two"),
    )


@pytest.mark.parametrize(
    ("metric", "patience", "words"),
    [
        (COLLISION, LASTING, "1 node has given port 8080 to another job"),
        (UNFIT, LASTING, "1 node lacks a driver of the job: docker"),
        (NO_ROOM, PASSING, "1 node has not enough cpu left"),
        ({"NodesEvaluated": 0}, PASSING, "no node is ready in the cluster"),
    ],
)
def test_no_place_is_told_when_waiting_is_of_no_use(metric, patience, words):
    assert unplaced(SlotJob.read(JOB), metric, patience - 0.1) is None
    error = unplaced(SlotJob.read(JOB), metric, patience)
    assert isinstance(error, UnusableInputError)
    assert error.message == f"no node can take the router: {words}"
    assert (error.hint is not None) is (metric is COLLISION)
