"""A trace that was written by the driver is read back whole, and judged by the model."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlops_deploy.api.drive import World as Ports
from mlops_deploy.api.drive import drive
from mlops_deploy.api.trace import VARIABLE
from mlops_deploy.errors import UnreachableError
from mlops_deploy.release import effects, executor
from mlops_deploy.release.effects import Lost
from mlops_deploy.release.lease import Holder
from tests.simulation.oracle import RejectedError
from tests.simulation.story import begin
from tests.simulation.trace import accept_file, read_traces, traced
from tests.simulation.world import World


class Simulated:
    """All ports at once: what the driver calls is what the simulated world performs."""

    def __init__(self, world: World) -> None:
        self.world = world

    def _do(self, kind: str, **fields: Any) -> Any:
        self.world.advance(self.world.now + 0.005)
        answer = self.world.perform(getattr(effects, kind)(**fields), 1)
        if isinstance(answer, Lost):
            raise UnreachableError(answer.reason)
        return answer

    def ensure(self, slot: Any, artefact: Any) -> None:
        self._do("EnsureSlot", slot=slot, artefact=artefact)

    def stop(self, slot: Any, grace: float) -> None:
        self._do("StopSlot", slot=slot, grace=grace)

    def observe(self, slot: Any) -> Any:
        return self._do("ObserveSlot", slot=slot)

    def observed(self) -> Any:
        return self._do("ObserveRouter")

    def commit(self, route: Any, generation: int, token: int) -> Any:
        return self._do("CommitRoute", route=route, generation=generation, token=token)

    def ask(self, slot: Any, path: str, body: Any, timeout: float) -> Any:
        return self._do("AskServer", slot=slot, path=path, body=body, timeout=timeout)

    def get(self, key: str) -> Any:
        return self._do("GetKey", key=key)

    def put(self, key: str, value: Any, index: int, token: int) -> Any:
        return self._do("PutKey", key=key, value=value, index=index, token=token)

    def append(self, journal: str, line: str, position: int, token: int) -> Any:
        return self._do("AppendLine", journal=journal, line=line, position=position, token=token)

    def read(self, journal: str) -> Any:
        return self._do("ReadJournal", journal=journal)

    def wall(self) -> float:
        return 1_700_000_000.0 + self.world.now

    def elapsed(self) -> float:
        return self.world.now

    def pause(self, seconds: float) -> None:
        self.world.advance(self.world.now + seconds)


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The trace of one release."""
    story = begin("next", 0)
    story.sim.world.plans["r1"] = story.plan
    ports: Any = Simulated(story.sim.world)
    world = Ports(target=ports, keeper=ports, clock=ports)
    with traced(tmp_path / "trace.jsonl", monkeypatch) as path:
        outcome = drive(executor.release(story.plan, "r1", Holder(name="anna", nonce="1")), world)
    assert outcome.result == "released"
    return path


def test_a_real_trace_is_accepted(trace: Path) -> None:
    assert accept_file(trace) == 1


def test_runs_are_told_apart(trace: Path) -> None:
    lines = [json.loads(line) for line in trace.read_text().splitlines()]
    both = [json.dumps(line | {"run": name}) for line in lines for name in ("1.1", "2.1")]
    trace.write_text("\n".join(both))
    assert [len(pairs) for pairs in read_traces(trace).values()] == [len(lines)] * 2
    assert accept_file(trace) == 2


def test_a_trace_without_its_proofs_is_rejected(trace: Path) -> None:
    kept = [line for line in trace.read_text().splitlines() if '"path":"/model"' not in line]
    trace.write_text("\n".join(kept))
    with pytest.raises(RejectedError, match="done without a proof"):
        accept_file(trace)


def test_nothing_is_traced_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert accept_file(tmp_path / "none.jsonl") == 0
