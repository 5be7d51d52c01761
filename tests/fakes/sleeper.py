"""Holds the lease and writes as long as it may: `sleeper.py AGENT JOB`. Says what it wrote; ends as a command would."""

import sys

from mlops_deploy.adapters.clock import SystemClock
from mlops_deploy.adapters.nomad.client import NomadClient
from mlops_deploy.adapters.nomad.ledger import Ledger
from mlops_deploy.adapters.nomad.settings import Cluster
from mlops_deploy.api.drive import World, drive
from mlops_deploy.errors import LockedError
from mlops_deploy.release import lease
from mlops_deploy.release.journal import Interrupted
from mlops_deploy.release.session import Session
from mlops_deploy.release.state import Route
from tests.fakes.racer import keeper_at, say


def main(agent: str, job: str) -> None:
    """Write a line, the route and a key, again and again."""
    keeper = keeper_at(agent, job)
    ledger = Ledger(NomadClient(Cluster(address=agent)), job)
    world = World(target=None, keeper=keeper, clock=SystemClock())  # type: ignore[arg-type]  # no slot is touched
    held, index = drive(lease.acquire(lease.Holder(name="sleeper", nonce="s"), "r-1"), world)
    session = Session(release="r-1", lease=held, index=index, renewed=world.clock.elapsed())
    try:
        for number in range(1_000_000):
            drive(session.record(Interrupted(at=0.0, reason=f"sleeper {number}")), world)
            drive(session.commit(Route(share_b=number % 10_000), ledger.book().route.generation), world)
            drive(session.put("live", f"sleeper {number}"), world)
            say(str(number))
    except LockedError as lost:
        say(lost.message)
        sys.exit(lost.exit_code)


if __name__ == "__main__":
    main(*sys.argv[1:])
