"""A service whose target, keeper and clock are one simulated world: what commands say is heard from real releases."""

import re
from contextlib import contextmanager
from dataclasses import replace
from random import Random

from mlops_deploy.api import release as api
from mlops_deploy.api.planning import Shelf
from mlops_deploy.api.service import Service
from mlops_deploy.cli.course import Course
from mlops_deploy.errors import UnreachableError
from mlops_deploy.release import lease as leases
from mlops_deploy.release.effects import (
    AppendLine,
    AskServer,
    CommitRoute,
    EnsureSlot,
    GetKey,
    Lost,
    ObserveRouter,
    ObserveSlot,
    Pause,
    PutKey,
    ReadJournal,
    StopSlot,
)
from mlops_deploy.release.journal import Opened, from_line
from mlops_deploy.release.lease import Holder
from mlops_deploy.spec.refs import Digest
from mlops_deploy.store.cache import DigestCache
from mlops_deploy.store.layout import Stored
from tests.fakes.carriers import Silent
from tests.simulation.scenarios import SCENARIOS, SPEC, artefact, plan_of, world_of
from tests.simulation.world import Fate

TOOK = 0.005
"""Seconds that every effect takes."""

WALL = 1_700_000_000.0


class Ports:
    """Target, keeper and clock in one, for one command after another; `before` may do harm before any effect."""

    def __init__(self, world):
        self.world, self.made = world, True
        self.before = lambda effect: None
        self.interrupt = None
        self.closed = 0
        self._token = 0

    def _do(self, effect):
        self.world.advance(self.world.now + TOOK)
        self.before(effect)
        if isinstance(effect, AppendLine) and not effect.position:
            entry = from_line(effect.line, 0)
            assert isinstance(entry, Opened)
            self.world.plans[effect.journal] = entry.plan
        if isinstance(effect, PutKey) and effect.key == leases.KEY:
            self._token = effect.value["token"]
        answer = self.world.perform(effect, self._token)
        if isinstance(answer, Lost):
            raise UnreachableError(answer.reason)
        return answer

    # --- the target

    def ensure(self, slot, wanted):
        return self._do(EnsureSlot(slot=slot, artefact=wanted))

    def observe(self, slot):
        return self._do(ObserveSlot(slot=slot))

    def stop(self, slot, grace):
        return self._do(StopSlot(slot=slot, grace=grace))

    def keeper(self):
        return self if self.made else None

    def make_router(self, config):
        self.made = True

    def restore_state(self, config, *, blind):
        return None

    # --- the keeper

    def observed(self):
        return self._do(ObserveRouter())

    def commit(self, route, generation, token):
        return self._do(CommitRoute(route=route, generation=generation, token=token))

    def ask(self, slot, path, body, timeout):
        return self._do(AskServer(slot=slot, path=path, body=body, timeout=timeout))

    def get(self, key):
        return self._do(GetKey(key=key))

    def put(self, key, value, index, token):
        return self._do(PutKey(key=key, value=value, index=index, token=token))

    def append(self, journal, line, position, token):
        return self._do(AppendLine(journal=journal, line=line, position=position, token=token))

    def read(self, journal):
        return self._do(ReadJournal(journal=journal))

    def close(self):
        self.closed += 1

    # --- the clock

    def wall(self):
        return WALL + self.world.now

    def elapsed(self):
        return self.world.now

    def monotonic(self):
        return self.world.now

    time = wall

    def pause(self, seconds):
        self.before(Pause(seconds=seconds))
        if self.interrupt is None:
            self.world.advance(self.world.now + seconds)
        return self.interrupt

    @contextmanager
    def listening(self):
        yield


class Simulated:
    """The service of a scenario; `version` is the model's newest carrier."""

    def __init__(self, scenario):
        self.scenario = scenario
        self.world = world_of(scenario, Random(0))
        self.ports = Ports(self.world)
        self.version = scenario.candidate
        self.prepared = []
        self.made = 0
        self.spec = replace(SPEC, release=replace(SPEC.release, bake=scenario.bake, strategy=_strategy(scenario)))
        self.story = Silent()
        self.course = Course()

    @property
    def service(self):
        self.made += 1
        return Service(
            spec=self.spec,
            target_name="process",
            target=self.ports,
            supply=lambda: self,
            router_config=lambda: "",
            clock=self.ports,
            holder=Holder(name="anna@build7", nonce=str(self.made)),
        )

    @property
    def shelf(self):
        return Shelf(store=self, cache=DigestCache(None), registries=nobody)

    def plan(self):
        return plan_of(self.scenario, self.world)

    def release(self, wish=None):
        wish = wish or api.Wish(hold=self.scenario.hold)
        return api.release(self.service, self.shelf, wish, self.story, self.course.hear)

    # --- supply and store

    def newest(self, name):
        made = artefact(self.version)
        return Stored(
            name=name, digest=Digest("b" * 64), content_id=made.content_id, tags=("toy:1",), time=None, source=None
        )

    def artefact(self, carrier, server):
        return artefact(int(carrier.content_id.hex[0], 16))

    def prepare(self, wanted, story):
        self.prepared.append(wanted.key)


def nobody():
    """No registry is named in any scenario."""
    raise AssertionError("a registry was asked")


def story_of(name):
    """A service whose release goes as `name` says."""
    scenario, fates, harm = STORIES[name]
    sim = Simulated(SCENARIOS[scenario])
    sim.world.fates = list(fates)
    if harm is not None:
        sim.ports.before = lambda effect: harm(sim, effect)
    return sim


def _opens(effect):
    return isinstance(effect, CommitRoute) and not effect.route.closed


def _silence(sim, effect):
    if _opens(effect):
        sim.world.silence(1e6)


def _gone(sim, effect):
    if _opens(effect):
        sim.world.gone = 1e6


def _restart(sim, effect):
    if _opens(effect) and sim.world.started == 1:
        sim.world.restart_router(1.0)


def _interrupt(sim, effect):
    if isinstance(effect, Pause) and sim.world.now > 1000.5:
        sim.ports.interrupt = "SIGINT"


def _kill(sim, effect):
    if isinstance(effect, Pause) and sim.world.route.share_b:
        sim.world.kill("b")


def _overtake(sim, effect):
    if _opens(effect):
        held, index, _ = sim.world.keys[leases.KEY]
        eve = held | {"token": held["token"] + 1, "holder": {"name": "eve@x", "nonce": "z", "url": None}}
        sim.world.keys[leases.KEY] = (eve, index + 1, sim.world.now)


STORIES = {
    "first": ("first", (), None),
    "next": ("next", (), None),
    "recreate": ("recreate", (), None),
    "held": ("hold", (), None),
    "first-never-ready": ("first", (Fate(kind="bootstrap"),), None),
    "never-ready": ("next", (Fate(kind="identity"),), None),
    "slow": ("next", (Fate(load=20.0),), None),
    "died-under-traffic": ("next", (), _kill),
    "recreate-reverted": ("recreate", (Fate(kind="prediction"),), None),
    "stuck": ("next", (), _silence),
    "unreachable": ("next", (), _gone),
    "router-restarted": ("next", (), _restart),
    "interrupted": ("next", (), _interrupt),
    "overtaken": ("next", (), _overtake),
}
"""How a release may go: the state that it begins in, what becomes of its servers, and harm from outside."""


def _strategy(scenario):
    return "bluegreen" if scenario.strategy == "rollback" else scenario.strategy


def unnamed(text):
    """`text` with every release id of the simulation the same."""
    return re.sub(r"\br-\d{8}-\d{6}-[0-9a-f]{4}\b", "r-20231114-223000-1234", text)
