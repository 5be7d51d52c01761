"""What a cluster says of a slot's job, its allocations and an evaluation becomes a state and a cause."""

from datetime import UTC, datetime

import pytest

from mlops_deploy.adapters.faults import Fault
from mlops_deploy.adapters.nomad.allocations import (
    CHANGING,
    LASTING,
    PASSING,
    Allocation,
    current,
    ending,
    judge,
    restarts,
    unready,
)
from mlops_deploy.adapters.nomad.evaluations import Blocked
from mlops_deploy.adapters.nomad.slot_job import SlotJob
from mlops_deploy.spec.owner import LABEL

CREATED = 1_795_240_000.0
NOW = CREATED + 10

GROUP = {
    "Name": "model",
    "Volumes": {"models": {"Source": "shop-a-models"}},
    "Tasks": [
        {"Name": "bootstrap", "Driver": "docker", "Resources": {"MemoryMB": 64}},
        {
            "Name": "server",
            "Driver": "docker",
            "Resources": {"MemoryMB": 96, "Devices": [{"Name": "nvidia/gpu", "Count": 1}]},
        },
    ],
}


def job(**changes):
    registered = {
        "ID": "shop-a",
        "Version": 3,
        "JobModifyIndex": 70,
        "Stop": False,
        "Datacenters": ["*"],
        "Meta": {f"{LABEL}key": "k" * 64, f"{LABEL}content": "c" * 64},
        "TaskGroups": [GROUP],
    }
    return SlotJob.read(registered | changes)


def at(seconds):
    """A time as the API writes it, in nanoseconds."""
    return datetime.fromtimestamp(CREATED + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.123456789Z")


def event(kind, **details):
    return {"Type": kind, "DisplayMessage": kind, "Details": details, "Time": int(CREATED * 1e9)}


def ended(code, *, starved=False):
    return event("Terminated", exit_code=str(code), oom_killed=str(starved).lower())


STARTED = event("Started")
AGAIN = event("Restarting", restart_reason="Restart within policy")


def task(state, *events, failed=False, times=0, started=None):
    begun = None if started is None else at(started)
    return {"State": state, "Failed": failed, "Restarts": times, "StartedAt": begun, "Events": list(events)}


COPIED = task("dead", STARTED, ended(0), started=1)
UP = task("running", STARTED, started=2)


def allocation(bootstrap=None, server=None, **changes):
    found = {
        "ID": "7391c4f9-aaaa-bbbb-cccc-000000000000",
        "NodeName": "n1",
        "JobVersion": 3,
        "DesiredStatus": "run",
        "ClientStatus": "running",
        "ClientDescription": "Tasks are running",
        "CreateTime": int(CREATED * 1e9),
        "CreateIndex": 71,
        "TaskStates": {name: one for name, one in (("bootstrap", bootstrap), ("server", server)) if one} or None,
    }
    return Allocation.read(found | changes)


def said(*allocations, of=None, blocked=None, now=NOW):
    return judge(of or job(), allocations, blocked=blocked, now=now)


def test_a_slot_without_a_job_is_absent():
    assert judge(None, (), blocked=None, now=NOW) == "absent"


@pytest.mark.parametrize(
    ("status", "state"),
    [("running", "running"), ("pending", "running"), ("unknown", "running"), ("complete", "absent")],
)
def test_what_is_being_stopped_counts_as_running_until_nothing_of_it_is_left(status, state):
    left = allocation(COPIED, UP, JobVersion=2, DesiredStatus="stop", ClientStatus=status)
    assert said(left, of=job(Stop=True)) == state


def test_a_job_that_has_not_been_placed_yet_is_preparing():
    assert said() == "preparing"


def test_it_prepares_until_the_server_has_started():
    assert said(allocation(ClientStatus="pending")) == "preparing"
    assert said(allocation(task("running", STARTED, started=1), task("pending"), ClientStatus="pending")) == "preparing"
    assert said(allocation(COPIED, task("pending"), ClientStatus="pending")) == "preparing"
    assert said(allocation(COPIED, UP)) == "running"


def test_only_the_newest_allocation_of_the_job_as_it_is_now_counts():
    earlier = allocation(COPIED, UP, JobVersion=2, CreateIndex=60)
    failed = allocation(task("dead", ended(65), failed=True), ClientStatus="failed", CreateIndex=71)
    fresh = allocation(COPIED, UP, CreateIndex=80)
    assert said(earlier) == "preparing"
    assert said(earlier, failed, fresh) == "running"
    assert current(job(), (earlier, failed, fresh)) is fresh


def test_what_failed_before_the_job_was_registered_says_nothing_of_it_also_when_it_is_said_to_be_of_its_version():
    failed = allocation(task("dead", event("Driver Failure"), failed=True), ClientStatus="failed", CreateIndex=60)
    assert said(failed) == "preparing"
    assert current(job(), [failed]) is None
    assert restarts(job(), [failed, allocation(COPIED, UP)]) == 0
    goes_on = allocation(COPIED, UP, CreateIndex=60)
    assert current(job(), [goes_on]) == goes_on, "a job that was changed in place"


def test_what_is_told_to_stop_is_not_what_runs_in_the_slot():
    drained = allocation(COPIED, UP, DesiredStatus="stop", CreateIndex=90)
    held = allocation(COPIED, UP, CreateIndex=80)
    assert current(job(), (drained,)) is None
    assert said(drained) == "preparing"
    assert current(job(), (held, drained)) is held


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        (65, "the carrier is damaged, or carries another model than the job asks for"),
        (73, "the slot's volume cannot be written to"),
        (74, "the slot's volume has no room, or fails"),
        (77, "something else stands in the model's place on the slot's volume"),
        (78, "its settings are wrong"),
        (137, "it was killed"),
        (1, "the carrier's script did not come to its end"),
    ],
)
def test_a_bootstrap_that_fails_is_told_at_once_also_when_nomad_will_try_again(code, meaning):
    retried = allocation(task("pending", STARTED, ended(code), AGAIN, times=1), task("pending"), ClientStatus="pending")
    message = f"the bootstrap ended with {code}: {meaning}"
    assert said(retried) == Fault(kind="bootstrap", message=message, task="bootstrap")


def test_a_bootstrap_that_wants_too_much_memory_is_told_so():
    found = said(allocation(task("dead", ended(137, starved=True), failed=True), ClientStatus="failed"))
    message = "the bootstrap was killed: it wants more than its 64 MiB of memory"
    assert found == Fault(kind="memory", message=message, task="bootstrap")


def test_a_server_that_was_killed_for_its_memory_is_told_the_first_time():
    server = task("pending", STARTED, ended(137, starved=True), AGAIN, times=1, started=2)
    found = said(allocation(COPIED, server, ClientStatus="pending"))
    message = "the server was killed: it wants more than its 96 MiB of memory, see `resources.memory`"
    assert found == Fault(kind="memory", message=message, task="server")


def test_a_server_that_ran_out_of_memory_long_ago_runs():
    server = task("running", STARTED, ended(137, starved=True), AGAIN, STARTED, times=1, started=5)
    assert said(allocation(COPIED, server), now=CREATED + 90) == "running"


def test_a_server_that_ends_again_and_again_is_told_after_the_third_time():
    twice = task("pending", STARTED, ended(70), AGAIN, times=2, started=5)
    assert said(allocation(COPIED, twice, ClientStatus="pending")) == "running"
    thrice = task("pending", STARTED, ended(70), AGAIN, times=3, started=8)
    message = "the server crashes again and again: it ended with 70"
    assert said(allocation(COPIED, thrice)) == Fault(kind="crash", message=message, task="server")


def test_a_server_that_ended_now_and_then_over_days_does_not_crash_again_and_again():
    server = task("running", STARTED, ended(70), AGAIN, STARTED, times=4, started=400_000)
    assert said(allocation(COPIED, server), now=CREATED + 400_010) == "running"


def test_a_server_that_nomad_has_given_up_is_told_with_its_exit_code():
    once = task("dead", STARTED, ended(70), event("Not Restarting"), failed=True, started=5)
    found = said(allocation(COPIED, once, ClientStatus="failed"))
    assert found == Fault(kind="crash", message="the server ended with 70", task="server")


PULL = "Failed to pull `shop:1`: Error response from daemon: pull access denied for shop.\nmore"


def test_an_image_that_cannot_be_pulled_is_told_once_nomad_gives_up_or_meets_it_twice():
    failure = event("Driver Failure", driver_error=PULL)
    assert said(allocation(COPIED, task("pending", failure, AGAIN), ClientStatus="pending")) == "preparing"
    for server in (
        task("pending", failure, AGAIN, failure, AGAIN, times=2),
        task("dead", failure, event("Not Restarting"), failed=True),
    ):
        found = said(allocation(COPIED, server, ClientStatus="pending"))
        assert (found.kind, found.task) == ("image", None)
        assert found.message == (
            "the image `shop:1` is not in the engine of node `n1`, and cannot be pulled: pull access denied for shop"
        )
        assert found.lines == tuple(PULL.splitlines())


def test_an_image_of_an_engine_alone_is_not_said_to_be_pullable():
    failure = event("Driver Failure", driver_error=f"Failed to pull `sha256:{'a' * 64}`: denied")
    found = said(allocation(task("dead", failure, failed=True), ClientStatus="failed"))
    assert found.message == f"the image `sha256:{'a' * 64}` is not in the engine of node `n1`"


def test_a_task_that_cannot_be_started_is_told_with_what_the_driver_says():
    failure = event("Driver Failure", driver_error="Failed to start container: no such file")
    found = said(allocation(COPIED, task("dead", failure, failed=True), ClientStatus="failed"))
    message = "the server cannot be started: Failed to start container: no such file"
    assert (found.kind, found.message) == ("start", message)


def test_an_allocation_that_failed_without_any_task_to_blame_says_what_its_client_said():
    found = said(allocation(ClientStatus="failed", ClientDescription="Failed to mount volume"))
    assert (found.kind, found.message) == ("start", "the allocation on `n1` failed: failed to mount volume")


def test_a_server_that_ended_well_for_good_is_stopped_and_says_with_what():
    held = allocation(COPIED, task("dead", STARTED, ended(0), started=2), ClientStatus="complete")
    assert said(held) == "stopped"
    assert ending(held, NOW) == "the server ended with 0"


def test_an_ending_is_told_for_a_while_after_the_server_was_started_again():
    server = task("running", STARTED, ended(70), AGAIN, STARTED, times=1, started=5)
    held = allocation(COPIED, server)
    assert ending(held, NOW) == "the server ended with 70, and was started again"
    assert ending(held, NOW + 60) is None
    assert ending(allocation(COPIED, UP), NOW) is None
    assert ending(None, NOW) is None


def test_restarts_are_counted_over_all_nodes():
    first = allocation(COPIED, task("dead", ended(70), failed=True, times=3), ClientStatus="failed")
    second = allocation(COPIED, task("running", STARTED, times=1, started=5), CreateIndex=80)
    assert restarts(job(), ()) == 0
    assert restarts(job(), (first,)) == 3
    assert restarts(job(), (first, second)) == 5
    assert restarts(None, ()) == 0


def metric(**said_):
    return {"NodesEvaluated": 2, "NodesExhausted": 0, "ConstraintFiltered": None, **said_}


LACKING = metric(ConstraintFiltered={"missing devices": 2})
FULL = metric(NodesExhausted=2, DimensionExhausted={"memory": 2}, ResourcesExhausted={"server": {"MemoryMB": 96}})


@pytest.mark.parametrize(("found", "patience"), [(LACKING, LASTING), (FULL, PASSING)])
def test_a_job_that_no_node_takes_is_told_when_waiting_is_of_no_use(found, patience):
    blocked = Blocked(metric=found, since=CREATED)
    assert said(blocked=blocked, now=CREATED + patience - 0.1) == "preparing"
    fault = said(blocked=blocked, now=CREATED + patience)
    assert fault.kind == "placement"
    assert fault.message.startswith("no node can take the slot: 2 nodes ")


def test_a_job_whose_node_was_lost_waits_for_another_one():
    lost = allocation(COPIED, UP, ClientStatus="lost")
    assert said(lost) == "preparing"
    assert said(lost, blocked=Blocked(metric=FULL, since=CREATED), now=CREATED + PASSING).kind == "placement"


def test_room_is_waited_for_a_moment_and_longer_while_something_of_ours_is_ending():
    full = metric(NodesExhausted=1, DimensionExhausted={"memory": 1})
    for changing, seconds in ((False, PASSING), (True, CHANGING)):
        stuck = Blocked(metric=full, since=NOW - seconds, changing=changing)
        assert isinstance(judge(job(), [], blocked=stuck, now=NOW), Fault)
        assert judge(job(), [], blocked=stuck, now=NOW - 0.1) == "preparing"
    assert PASSING <= 6


def test_what_a_slot_waits_for_is_told_and_copying_only_while_something_copies():
    full = metric(NodesExhausted=1, DimensionExhausted={"memory": 1})
    assert unready(job(), None, None) == "it is not placed on a node yet"
    told = unready(job(), None, Blocked(metric=full, since=NOW))
    assert told == "it is not placed on a node yet: 1 node has not enough memory left"
    running = task("running", STARTED, started=1)
    for bootstrap, words in (
        (None, "node `n1` prepares the bootstrap"),
        (task("pending"), "node `n1` prepares the bootstrap"),
        (running, ""),
        (COPIED, "node `n1` prepares the server"),
    ):
        assert unready(job(), allocation(bootstrap), None) == words
