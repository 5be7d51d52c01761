"""The ledger on Nomad answers as the keeper beside a router does, whatever is asked, interrupted or lost."""

import pytest

from mlops_deploy.adapters.nomad import writing
from mlops_deploy.adapters.nomad.ledger import Ledger
from tests.fakes.ledger_story import Telling, age_files
from tests.fakes.variables import MemoryVariables
from tests.unit.keeper.conftest import State


@pytest.mark.parametrize("seed", range(6))
def test_both_give_the_same_answers(seed, tmp_path, monkeypatch):
    """Half of the stories have so little room that nearly everything is on pages and on one of many shelves."""
    for name, room in {"ROOM": 400, "TAIL": 100, "INLINE": 50}.items() if seed % 2 else ():
        monkeypatch.setattr(writing, name, room)
    state, variables = State(tmp_path / "state"), MemoryVariables()
    keeper = state.keeper()
    ledgers = [Ledger(variables, "svc-router") for _ in range(3)]
    ledgers[0].lay_out("global\n")

    def pass_time(seconds):
        variables.pass_time(seconds)
        age_files(state, seconds)

    telling = Telling(seed, keeper, ledgers, variables, path="nomad/jobs/svc-router", pass_time=pass_time)
    try:
        telling.tell(250)
    finally:
        keeper.close()
    assert {"Written", "Refused", "fenced", "Committed", "Stored", "Lines", "conflict", "done", "lost"} <= set(
        telling.seen
    )
