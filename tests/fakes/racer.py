"""Wants a service's lease at a line on stdin, and lets go of it at the next: `racer.py STATE RUN NAME ROUNDS`.

On Nomad, `STATE` is the address of an agent and `RUN` the router's job. Everybody's way to the lease, through a keeper
of its own; prints one JSON object for each round.
"""

import json
import os
import sys
import time

from mlops_deploy.adapters.clock import SystemClock
from mlops_deploy.adapters.keeper import KeeperStream, Stream
from mlops_deploy.adapters.nomad.client import NomadClient
from mlops_deploy.adapters.nomad.keeper import NomadKeeper
from mlops_deploy.adapters.nomad.settings import Cluster
from mlops_deploy.api.drive import World, drive
from mlops_deploy.errors import LockedError
from mlops_deploy.ports import Keeper
from mlops_deploy.release import lease
from mlops_deploy.resources import IMAGES


def keeper_at(state: str, run: str) -> Keeper:
    """A keeper of our own."""
    if state.startswith("http"):
        return NomadKeeper(NomadClient(Cluster(address=state)), run, no_router)
    argv = (sys.executable, "-I", "-S", str(IMAGES / "router" / "keeper"), "serve")
    return KeeperStream(argv, {"STATE": state, "RUN": run, "PATH": os.defpath})


def no_router() -> Stream:
    """Nobody is asked what the router sees."""
    raise ConnectionRefusedError


def main(state: str, run: str, name: str, rounds: str) -> None:
    """Race."""
    keeper = keeper_at(state, run)
    world = World(target=None, keeper=keeper, clock=SystemClock())  # type: ignore[arg-type]  # no slot is touched
    for number in range(int(rounds)):
        sys.stdin.readline()
        holder = lease.Holder(name=name, nonce=f"{name}-{number}")
        token, said, code, held = None, "", 0, None
        began = time.monotonic()
        try:
            held = drive(lease.acquire(holder, None), world)
            token = held[0].token
        except LockedError as locked:
            said, code = locked.message, locked.exit_code
        took = time.monotonic() - began
        say(json.dumps({"name": name, "token": token, "said": said, "code": code, "seconds": took}))
        sys.stdin.readline()
        if held is not None:
            drive(lease.let_go(*held), world)
        say("freed")
    keeper.close()


def say(line: str) -> None:
    """One line, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
