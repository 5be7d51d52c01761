"""`bluegreen`: the candidate starts beside the live slot, proves itself, and takes all traffic in one write."""

from mlops_deploy.release.plan import free_slot, live_slot, serving
from mlops_deploy.release.state import Artefact, Observed, Slot
from mlops_deploy.release.steps import Bake, Drain, Planned, Promote, Start, Step, Warm
from mlops_deploy.release.strategy import WARM_SECONDS, await_ready, back, emptied, shift
from mlops_deploy.spec.deploy import ReleaseSpec


def bluegreen(observed: Observed, candidate: Artefact, spec: ReleaseSpec) -> tuple[Planned, ...]:
    """Start, prove, warm up, switch, watch, promote; the old slot stays hot, one router write away.

    A candidate that is parked in the other slot already is not started again.
    """
    if serving(observed, candidate):
        return ()
    slot = free_slot(observed)
    return (
        *_started(observed, slot, candidate, spec),
        Planned(step=await_ready(slot, candidate, spec)),
        Planned(step=Warm(slot=slot, key=candidate.key, seconds=WARM_SECONDS)),
        Planned(step=shift(slot, candidate), undo=back(observed)),
        *((Planned(step=Bake(slot=slot, seconds=spec.bake)),) if spec.bake else ()),
        Planned(step=Promote(slot=slot, key=candidate.key)),
        *_drained(observed, spec),
    )


def _started(observed: Observed, slot: Slot, candidate: Artefact, spec: ReleaseSpec) -> tuple[Planned, ...]:
    held = observed.slot(slot)
    if held.key == candidate.key and held.state == "running":
        return ()
    free: tuple[Step, ...] = (Drain(slot=slot, seconds=spec.drain),) if held.state == "running" else ()
    start = Planned(step=Start(slot=slot, key=candidate.key), undo=emptied(slot, spec))
    return (*(Planned(step=step) for step in free), start)


def _drained(observed: Observed, spec: ReleaseSpec) -> tuple[Planned, ...]:
    live = live_slot(observed)
    return () if live is None else (Planned(step=Drain(slot=live, seconds=spec.drain)),)
