"""What strategies share: how a slot gets all traffic, and how the old one gets it back."""

from typing import Final

from mlops_deploy.release.plan import live_slot
from mlops_deploy.release.state import CLOSED, Artefact, Observed, Slot, whole
from mlops_deploy.release.steps import AwaitReady, Drain, Shift, Start, Step, Stop
from mlops_deploy.spec.deploy import ReleaseSpec

WARM_SECONDS: Final = 10.0
"""How long a candidate is sent golden requests before it gets traffic."""


def await_ready(slot: Slot, candidate: Artefact, spec: ReleaseSpec) -> AwaitReady:
    """Wait for `candidate` as long as its server may take, and no longer than the release may."""
    return AwaitReady(slot=slot, key=candidate.key, deadline=min(candidate.proof.deadline, spec.deadline))


def shift(slot: Slot, artefact: Artefact) -> Shift:
    """All traffic to `slot`, where `artefact` answers."""
    return Shift(route=whole(slot), serves=artefact.key)


def back(observed: Observed) -> tuple[Step, ...]:
    """How the route becomes as it was observed: to the live slot, or closed when there was none.

    What ran there is started again first, should it have ended meanwhile, as far as it is known.
    """
    live = live_slot(observed)
    if live is None:
        return (Shift(route=CLOSED, serves=None),)
    route = Shift(route=observed.router.route, serves=observed.slot(live).key)
    old = observed.artefact(live)
    if old is None:
        return (route,)
    again = (Start(slot=live, key=old.key), AwaitReady(slot=live, key=old.key, deadline=old.proof.deadline))
    return (*again, route)


def emptied(slot: Slot, spec: ReleaseSpec) -> tuple[Step, ...]:
    """How a slot that gets no more traffic ends: its requests first, then the server."""
    return (Drain(slot=slot, seconds=spec.drain), Stop(slot=slot, seconds=spec.drain))
