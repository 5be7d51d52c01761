"""The ledger in a variable of a real cluster: like any keeper, for one holder at a time, and how fast."""

import json
import random
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlops_deploy.adapters.clock import SystemClock
from mlops_deploy.adapters.nomad.ledger import Ledger
from mlops_deploy.adapters.nomad.settings import Cluster
from mlops_deploy.api.drive import World, drive
from mlops_deploy.errors import DeployError
from mlops_deploy.release import lease
from mlops_deploy.release.effects import Committed, Lines, Written
from mlops_deploy.release.state import Route
from tests.fakes.ledger_story import Telling, age_files, age_variable
from tests.fakes.racer import keeper_at
from tests.fakes.variables import ClusterVariables
from tests.integration.releasing import ROOT
from tests.unit.keeper.conftest import State

pytestmark = pytest.mark.nomad

FAKES = Path(__file__).parents[1] / "fakes"
RACES = 100
SLEEPS = 12


@pytest.fixture
def variables(nomad_agent):
    return ClusterVariables(Cluster(address=nomad_agent.address))


@pytest.fixture
def job(request, variables):
    """A router's job of the test's own, of which there is the ledger alone."""
    name = f"{request.node.originalname[-30:].strip('_').replace('_', '-')}-router"
    Ledger(variables, name).lay_out("global\n")
    yield name
    for path in variables.variables(f"nomad/jobs/{name}"):
        variables.delete_variable(path)


def path_of(job):
    return f"nomad/jobs/{job}"


def test_a_ledger_in_a_cluster_answers_as_a_keeper_does(variables, job, tmp_path):
    state = State(tmp_path / "state")
    keeper = state.keeper()
    ledgers = [Ledger(variables, job) for _ in range(2)]

    def pass_time(seconds):
        age_files(state, seconds)
        age_variable(variables, path_of(job), seconds)

    telling = Telling(99, keeper, ledgers, variables, path=path_of(job), pass_time=pass_time)
    try:
        telling.tell(300)
    finally:
        keeper.close()
    assert {"Written", "Refused", "fenced", "Committed", "Stored", "Lines", "conflict", "done", "lost"} <= set(
        telling.seen
    )


def test_of_two_processes_that_want_the_lease_at_the_same_time_one_gets_it(nomad_agent, job):
    racers = [
        subprocess.Popen(
            [sys.executable, FAKES / "racer.py", nomad_agent.address, job, name, str(RACES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT)},
        )
        for name in ("anna@one", "bert@two")
    ]
    tokens, winners, slowest = [], [], 0.0
    for _ in range(RACES):
        for racer in racers:
            racer.stdin.write("go\n")
            racer.stdin.flush()
        answers = [json.loads(racer.stdout.readline()) for racer in racers]
        won = [answer for answer in answers if answer["token"] is not None]
        lost = [answer for answer in answers if answer["token"] is None]
        assert (len(won), len(lost)) == (1, 1), answers
        assert won[0]["name"] in lost[0]["said"]
        assert lost[0]["code"] == 3
        tokens.append(won[0]["token"])
        winners.append(won[0]["name"])
        slowest = max(slowest, lost[0]["seconds"])
        for racer in racers:
            racer.stdin.write("free\n")
            racer.stdin.flush()
            assert racer.stdout.readline() == "freed\n"
    for racer in racers:
        racer.communicate()
    assert tokens == list(range(1, RACES + 1))
    assert set(winners) == {"anna@one", "bert@two"}
    assert slowest < 2


def test_a_holder_that_was_stopped_and_wakes_up_late_is_refused(nomad_agent, variables, job):
    """Stopped anywhere, also within a request; its lease runs out, another process takes over and writes."""
    chance = random.Random(3)
    ledger = Ledger(variables, job)
    for _ in range(SLEEPS):
        sleeper = subprocess.Popen(
            [sys.executable, FAKES / "sleeper.py", nomad_agent.address, job],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT)},
        )
        for _ in range(chance.randint(1, 5)):
            assert sleeper.stdout.readline().strip().isdigit()
        time.sleep(chance.uniform(0, 0.03))
        sleeper.send_signal(signal.SIGSTOP)
        time.sleep(0.3)  # what it has sent arrives
        age_variable(variables, path_of(job), 61)
        took = take_over(nomad_agent, job)
        before = (ledger.read("r-1"), ledger.get("live").value, ledger.book().route)
        sleeper.send_signal(signal.SIGCONT)
        said, _ = sleeper.communicate(timeout=60)
        assert sleeper.returncode == 3, said
        assert "the lease was lost to" in said
        assert (ledger.read("r-1"), ledger.get("live").value, ledger.book().route) == before
        assert before[1] == f"taken with {took}"
        ledger.put("lease", {"token": took, "holder": None, "ttl": 60}, ledger.get("lease").index, 0)
        variables.delete_variable(path_of(job))
        ledger.lay_out("global\n")


def take_over(agent, job):
    """What another command does once the lease is over; its token."""
    keeper = keeper_at(agent.address, job)
    world = World(target=None, keeper=keeper, clock=SystemClock())
    held, _ = drive(lease.acquire(lease.Holder(name="other", nonce="o"), None), world)
    book = Ledger(ClusterVariables(Cluster(address=agent.address)), job).book()
    assert isinstance(keeper.commit(Route(share_b=1234), book.route.generation, held.token), Committed)
    assert isinstance(keeper.put("live", f"taken with {held.token}", keeper.get("live").index, held.token), Written)
    assert isinstance(keeper.append("r-1", "taken", len(keeper.read("r-1").lines), held.token), Written)
    return held.token


def test_a_variable_of_a_cluster_holds_as_much_as_the_ledger_says(variables, job):
    ledger = Ledger(variables, job)
    big = {"token": 1, "holder": "", "ttl": 60}
    ledger.put("lease", big, 0, 0)
    used = sum(len(name) + len(text) for name, text in variables.variable(path_of(job)).items.items())
    fitting = "x" * ((64 << 10) - used)
    with pytest.raises(DeployError, match="would need 65537 bytes"):
        ledger.put("lease", big | {"holder": fitting + "x"}, 1, 0)
    assert ledger.put("lease", big | {"holder": fitting}, 1, 0) == Written(index=2)
    assert ledger.get("lease").value["holder"] == fitting


def test_how_long_writes_take(variables, job):
    ledger = Ledger(variables, job)
    took = {"lease": [], "append": [], "commit": []}
    for number in range(60):
        took["lease"].append(timed(lambda: ledger.put("lease", {"token": 1, "holder": "x", "ttl": 60}, number, 0)))  # noqa: B023
        took["append"].append(timed(lambda: ledger.append("r-1", "x" * 200, number, 1)))  # noqa: B023
        took["commit"].append(timed(lambda: ledger.commit(Route(share_b=number), number, 1)))  # noqa: B023
    medians = {name: statistics.median(times) * 1000 for name, times in took.items()}
    assert max(medians.values()) < 100, medians
    assert ledger.read("r-1") == Lines(lines=("x" * 200,) * 60)


def timed(act):
    began = time.monotonic()
    answer = act()
    assert isinstance(answer, Written | Committed), answer
    return time.monotonic() - began
