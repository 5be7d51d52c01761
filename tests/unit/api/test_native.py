"""What the commands about slots do with a service that was released without them."""

from types import SimpleNamespace

import pytest

from mlops_deploy.api.decisions import resume
from mlops_deploy.api.freeze import freeze
from mlops_deploy.api.history import history
from mlops_deploy.api.logs import find_source, read_logs
from mlops_deploy.api.service import Service
from mlops_deploy.api.status import following, status
from mlops_deploy.errors import UnusableInputError
from mlops_deploy.release.rolling import RollingView
from mlops_deploy.release.state import SlotView

SETTLED = RollingView(state="settled", version=3, content="2" * 64, servers=("one",))
LINES = ("first", "second")


class Nothing:
    """A target without router and slots."""

    def keeper(self):
        return None

    def observe(self, slot):
        return SlotView(slot=slot, state="absent")

    def logs(self, task, slot, tail, *, follow):
        return (f"{task} in {slot}",)


class Job:
    def __init__(self, view):
        self.seen = view

    def view(self):
        if isinstance(self.seen, Exception):
            raise self.seen
        return self.seen

    def logs(self, task, tail, *, follow):
        return (*LINES[-tail:], task, str(follow))


def service(view):
    return Service(
        spec=SimpleNamespace(project="digits"),
        target_name="nomad",
        target=Nothing(),
        supply=None,
        router_config=None,
        clock=None,
        holder=None,
        rolling=None if view is None else lambda: Job(view),
    )


def test_status_shows_its_job():
    assert status(service(SETTLED)) is SETTLED
    assert following(SETTLED) == ("logs",)


@pytest.mark.parametrize(
    "view",
    [None, RollingView(state="absent"), UnusableInputError("the job `digits` is there and is not of this service")],
    ids=["no cluster", "no job", "a job of somebody else"],
)
def test_where_there_is_no_such_job_nothing_is_released(view):
    assert status(service(view)) is None
    with pytest.raises(UnusableInputError, match="nothing has been released yet"):
        find_source(service(view), "server", None)


def test_logs_are_those_of_its_newest_server():
    source = find_source(service(SETTLED), "bootstrap", None)
    assert source.name == "bootstrap"
    assert read_logs(service(SETTLED), source, 1, follow=True) == ("second", "bootstrap", "True")


def test_logs_of_a_slot_or_the_router_are_not_its_own():
    for task, slot in (("server", "a"), ("router", None)):
        source = find_source(service(SETTLED), task, slot)
        assert read_logs(service(SETTLED), source, 1, follow=False) == (f"{task} in {slot}",)


@pytest.mark.parametrize("act", [resume, lambda one: freeze(one, "holiday")], ids=["resume", "freeze"])
def test_what_needs_a_journal_names_the_commands_that_know_the_job(act):
    with pytest.raises(UnusableInputError, match="`digits` was released with `--native`") as caught:
        act(service(SETTLED))
    assert caught.value.hint.startswith("`nomad job status digits` shows it")
    assert history(service(SETTLED), 5) == ()
