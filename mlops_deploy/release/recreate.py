"""`recreate`: for machines with room for one server. Close, stop the old, start the new, open; else the old again."""

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.release.bluegreen import bluegreen
from mlops_deploy.release.plan import free_slot, live_slot, serving
from mlops_deploy.release.state import CLOSED, Artefact, Observed
from mlops_deploy.release.steps import Bake, Drain, Planned, Promote, Shift, Start, Stop, Warm
from mlops_deploy.release.strategy import WARM_SECONDS, await_ready, back, emptied, shift
from mlops_deploy.spec.deploy import ReleaseSpec


def recreate(observed: Observed, candidate: Artefact, spec: ReleaseSpec) -> tuple[Planned, ...]:
    """Answer 503 while the live slot stops and the candidate starts in the other one.

    Whatever fails before the promotion, the old artefact is started again before its traffic comes back; raises
    `UnusableInputError` when nothing is known of it.
    """
    if serving(observed, candidate):
        return ()
    live = live_slot(observed)
    if live is None:
        return bluegreen(observed, candidate, spec)
    slot = free_slot(observed)
    if observed.artefact(live) is None:
        raise UnusableInputError(
            f"nothing is known of what slot {live} holds, so it could not be started again",
            hint="`--strategy bluegreen` leaves it running until the candidate has proved itself",
        )
    parked = observed.slot(slot).state != "absent"
    return (
        *((Planned(step=step) for step in emptied(slot, spec)) if parked else ()),
        Planned(step=Shift(route=CLOSED, serves=None), undo=back(observed)),
        Planned(step=Drain(slot=live, seconds=spec.drain)),
        Planned(step=Stop(slot=live, seconds=spec.drain)),
        Planned(step=Start(slot=slot, key=candidate.key), undo=emptied(slot, spec)),
        Planned(step=await_ready(slot, candidate, spec)),
        Planned(step=Warm(slot=slot, key=candidate.key, seconds=WARM_SECONDS)),
        Planned(step=shift(slot, candidate), undo=(Shift(route=CLOSED, serves=None),)),
        *((Planned(step=Bake(slot=slot, seconds=spec.bake)),) if spec.bake else ()),
        Planned(step=Promote(slot=slot, key=candidate.key)),
    )
