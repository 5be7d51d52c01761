"""Start states of a service, and a plan for each: what the simulation begins with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Final

from mlops_deploy.release.codec import encode
from mlops_deploy.release.observe import LIVE, artefact_key, observe
from mlops_deploy.release.plan import Plan
from mlops_deploy.release.rollback import previous
from mlops_deploy.release.state import CLOSED, Artefact, Live, Observed, Proof, Slot, other, whole
from mlops_deploy.release.strategies import make_plan
from mlops_deploy.spec.deploy import (
    DeploySpec,
    GoldenRequest,
    ModelSpec,
    Ready,
    ReleaseSpec,
    Resources,
    ServerSpec,
)
from mlops_deploy.spec.refs import ContentId, Digest
from tests.simulation.world import GOOD, Fate, Server, World

DRAIN: Final = 2.0
BAKE: Final = 1.5
DEADLINE: Final = 5.0
ENGINE_TOOK: Final = 0.0

SPEC: Final = DeploySpec(
    root=Path("/"),
    service="toy",
    environment=None,
    model=ModelSpec(path=Path("/model"), name="toy"),
    preset="sklearn",
    server=ServerSpec(),
    target=None,
    port=8080,
    env={},
    resources=Resources(),
    user=None,
    ready=Ready(),
    release=ReleaseSpec(bake=BAKE, drain=DRAIN, deadline=60.0),
)


@cache
def artefact(version: int) -> Artefact:
    """Version `version` of the toy model; from 10 on its last digit is the model's, and it runs on another server."""
    model, server = version % 10, 1 + version // 10
    content = ContentId(f"{model:x}" * 64)
    golden = GoldenRequest(request={"inputs": [model]}, expect=({"data": [model]},))
    proof = Proof(
        endpoint="/ready",
        identity="/model",
        infer="/infer",
        version=f"v{model}",
        version_in="model_version",
        golden=(golden,),
        deadline=DEADLINE,
    )
    return Artefact(
        model="toy",
        content_id=content,
        carrier=f"toy:{model}",
        carrier_digest=Digest(f"{model:x}" * 64),
        server=f"server:{server}",
        server_id=f"sha256:{server}",
        job={"version": version},
        proof=proof,
    )


@cache
def key(version: int) -> str:
    return artefact(version).key


@dataclass(frozen=True, slots=True)
class Start:
    """What there is: the live slot, the version in each slot, and what was live before."""

    live: Slot | None = "a"
    a: int | None = None
    b: int | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """A start, and what is to be released: `candidate` by `strategy`, `hold` before requests are sent to it."""

    start: Start
    strategy: str = "bluegreen"
    candidate: int = 2
    hold: bool = False
    bake: float = BAKE


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "first": Scenario(Start(live=None)),
    "next": Scenario(Start(a=1)),
    "next-from-b": Scenario(Start(live="b", b=1)),
    "parked-other": Scenario(Start(a=1, b=7, before=7)),
    "parked-same": Scenario(Start(a=1, b=2, before=2)),
    "unbaked": Scenario(Start(a=1), bake=0.0),
    "recreate": Scenario(Start(a=1), strategy="recreate"),
    "recreate-parked": Scenario(Start(live="b", a=7, b=1, before=7), strategy="recreate"),
    "recreate-first": Scenario(Start(live=None), strategy="recreate"),
    "rollback-hot": Scenario(Start(live="b", a=1, b=2, before=1), strategy="rollback", candidate=1),
    "rollback-cold": Scenario(Start(live="b", b=2, before=1), strategy="rollback", candidate=1),
    "next-server": Scenario(Start(a=1), candidate=11),
    "hold": Scenario(Start(a=1), hold=True),
}


def world_of(scenario: Scenario, random: Random) -> World:
    """A world in the state that the scenario begins with."""
    world = World(random=random, drain=DRAIN)
    start = scenario.start
    for slot, version in (("a", start.a), ("b", start.b)):
        if version is not None:
            _fill(world, "a" if slot == "a" else "b", version)
    world.route = CLOSED if start.live is None else whole(start.live)
    world.generation = 0 if start.live is None else 3
    for version in {start.a, start.b, start.before} - {None}:
        _keep(world, artefact_key(key(version or 0)), encode_artefact(version or 0))
    if start.live is not None:
        version = (start.a if start.live == "a" else start.b) or 0
        previous_key = None if start.before is None else key(start.before)
        live = Live(slot=start.live, key=key(version), release="r0", since=0.0, previous=previous_key)
        _keep(world, LIVE, encode(live))
    return world


@cache
def encode_artefact(version: int) -> object:
    return encode(artefact(version))


def _keep(world: World, name: str, value: object) -> None:
    world.keys[name] = (value, 1, world.now)


def _fill(world: World, slot: Slot, version: int) -> None:
    world.revisions += 1
    world.slots[slot] = Server(
        artefact=artefact(version),
        key=key(version),
        revision=f"v{world.revisions}",
        fate=Fate(),
        prepared=world.now - 100,
        loaded=world.now - 100,
    )


def look(world: World) -> Observed:
    """What is to be seen of `world`."""
    run = observe()
    try:
        effect = next(run)
        while True:
            effect = run.send(world.perform(effect, 0))
    except StopIteration as end:
        found: Observed = end.value
        return found


def plan_of(scenario: Scenario, world: World) -> Plan:
    """The plan of `scenario`, made from what `world` shows now."""
    observed = look(world)
    spec = replace(SPEC, release=replace(SPEC.release, bake=scenario.bake))
    candidate = previous(observed) if scenario.strategy == "rollback" else artefact(scenario.candidate)
    return make_plan(spec, "process", scenario.strategy, observed, candidate, hold=scenario.hold)


@cache
def planned(name: str) -> Plan:
    """The plan of a scenario by its name."""
    scenario = SCENARIOS[name]
    return plan_of(scenario, world_of(scenario, Random(0)))


Builder = Callable[[Scenario, Random], World]
__all__ = [
    "GOOD",
    "SCENARIOS",
    "SPEC",
    "Scenario",
    "Start",
    "artefact",
    "key",
    "other",
    "plan_of",
    "planned",
    "world_of",
]
