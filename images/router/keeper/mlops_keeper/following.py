"""A router in a cluster: the route, the configuration and the slots' addresses are the cluster's, followed from here.

Each of them is followed by a process of its own, which waits for news, says in the state folder what they are, and
then tells HAProxy.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping

from mlops_keeper import addresses, configuration, routes
from mlops_keeper.cluster import Cluster
from mlops_keeper.folder import Folder
from mlops_keeper.proxy import Proxy, SilentError
from mlops_keeper.wrong import WrongError

SERVICES = {"a": "ROUTER_SLOT_A", "b": "ROUTER_SLOT_B"}

PATIENCE = 5.0
"""Seconds after which a start makes do with what was known here last, when the cluster does not answer."""

GIVEN_UP = 10.0
"""Seconds for the router before this one to give its address up: it serves on while its service is taken away."""

_FIRST_PAUSE = 0.1
_LAST_PAUSE = 2.0
_WORTH_SAYING = 0.8
_BREATH = 0.005
"""Seconds between two answers at least: what others write makes the cluster answer too."""


class Source:
    """What the router's task is told to follow, by its environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.cluster = Cluster(environment)
        self.variable = environment["ROUTER_VARIABLE"]
        self.services = {slot: environment[name] for slot, name in SERVICES.items()}
        self._say = _Teller()

    def ledger(self, index: int) -> tuple[tuple[dict, str], int]:
        """The committed route and the configuration; `WrongError` when there is no such variable, or not both in it."""
        found, fresh = self.cluster.look(f"var/{self.variable}", index)
        items = (found or {}).get("Items") or {}
        try:
            route = routes.checked(json.loads(items["route"]) | {"created": found["CreateIndex"]})
            return (route, items["config"]), fresh
        except (KeyError, TypeError, ValueError) as missing:
            raise WrongError("state", f"the variable `{self.variable}` holds no route and configuration") from missing

    def address(self, slot: str, index: int) -> tuple[addresses.Address | None, int]:
        """Where the slot's server is, None for nowhere."""
        name = self.services[slot]
        found, fresh = self.cluster.look(f"service/{name}", index)
        try:
            return addresses.newest(found, name), fresh
        except WrongError as wrong:  # the address before it may be another server's by now
            self._say(f"slot {slot} is registered where nobody can be asked: {wrong.message}")
            return None, fresh


def begin(told: Source, folder: Folder, run: str) -> None:
    """Before the start: have the folder say what the cluster says, waiting for that as long as it takes.

    What is in the folder already does after `PATIENCE`: a router that had gone on would know no more. While the router
    before this one was waited for, a release may have gone on: then the cluster is asked once more.
    """
    _agree(told, folder, run)
    if configuration.ENTRY in os.environ and configuration.await_address(os.environ[configuration.ENTRY], GIVEN_UP):
        _agree(told, folder, run)


def _agree(told: Source, folder: Folder, run: str) -> None:
    until, say = time.monotonic() + PATIENCE, _Teller()
    while True:
        try:
            return _take_all(told, folder, run)
        except WrongError as wrong:
            if wrong.kind == "config":
                raise
            say(wrong.message)
        if time.monotonic() > until and addresses.known(folder) and folder.read(routes.FILE) is not None:
            return say("starting with what was known here last")
        time.sleep(_FIRST_PAUSE)


def _take_all(told: Source, folder: Folder, run: str) -> None:
    (route, config), _ = told.ledger(0)
    places = {slot: told.address(slot, 0)[0] for slot in addresses.SLOTS}
    with folder:
        for slot, place in places.items():
            addresses.write(folder, slot, place)
        routes.advance(folder, route)
        routes.write_map(folder, routes.map_value(routes.read(folder)))
        configuration.adopt(folder, run, config)


class Follower:
    """One who follows, beside a running HAProxy."""

    def __init__(self, told: Source, folder: Folder, run: str) -> None:
        self._told = told
        self._folder = folder
        self._proxy = Proxy(run)
        self._say = _Teller()
        self._refused = ""

    def ledger(self, index: int) -> int:
        """Take over route and configuration once they are others than at `index`; their index."""
        (route, config), fresh = self._told.ledger(index)
        with self._folder:
            if routes.advance(self._folder, route):
                share, closed = route["share_b"], ", closed" if route["closed"] else ""
                self._say(f"route {route['generation']}: {share} of {routes.WHOLE} to b{closed}")
            value = routes.map_value(routes.read(self._folder))
            routes.write_map(self._folder, value)
            if not self._proxy.set_route(value):
                raise SilentError("it does not take the route over")
        if config != self._refused:
            self._configure(config)
        return fresh

    def _configure(self, config: str) -> None:
        try:
            with self._folder:
                if configuration.take_over(self._folder, self._proxy, config):
                    self._say("another configuration is in force")
        except WrongError as wrong:
            if wrong.kind != "config":
                raise
            self._refused = config
            self._say("\n".join((wrong.message, *wrong.lines)))

    def slot(self, slot: str, index: int) -> int:
        """Take over where the server of `slot` is once that may be another place than at `index`; the index."""
        place, fresh = self._told.address(slot, index)
        with self._folder:
            if addresses.write(self._folder, slot, place):
                self._say(f"slot {slot} is at {place[0]} port {place[1]}" if place else f"slot {slot} is nowhere")
            addresses.apply(self._proxy, slot, place)
        return fresh

    def follow(self, step: Callable[[int], int]) -> None:
        """Do `step` with every news, and again after a pause when it fails."""
        index, pause = 0, _FIRST_PAUSE
        while True:
            try:
                index, pause = step(index), _FIRST_PAUSE
                time.sleep(_BREATH)
            except (WrongError, SilentError) as failed:
                if pause >= _WORTH_SAYING:  # HAProxy is silent for a moment when it starts, the cluster when it elects
                    self._say(str(failed) if isinstance(failed, WrongError) else f"HAProxy is silent: {failed}")
                time.sleep(pause)
                index, pause = 0, min(2 * pause, _LAST_PAUSE)


def steps(told: Source, folder: Folder, run: str) -> tuple[Callable[[], None], ...]:
    """What is to be done for ever beside HAProxy, each in a process of its own."""
    one = Follower(told, folder, os.path.abspath(run))
    slots = (lambda index, slot=slot: one.slot(slot, index) for slot in addresses.SLOTS)
    return tuple(lambda step=step: one.follow(step) for step in (one.ledger, *slots))


class _Teller:
    """Says each thing once, until there is another one to say."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, message: str) -> None:
        if message != self._last:
            self._last = message
            sys.stderr.write(f"router: {message}\n")
            sys.stderr.flush()
