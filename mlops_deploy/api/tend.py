"""`tend`: what a deadline says shall happen when nobody decided, for a timer to call every minute."""

from mlops_deploy.api.drive import Witness, drive
from mlops_deploy.api.report import Report, report_on
from mlops_deploy.api.service import Service, world_on
from mlops_deploy.release.tend import tend as tended


def tend(service: Service, witness: Witness | None = None) -> Report | None:
    """Do what is due and report it; None when nothing was, also where nothing has been released yet.

    Raises `LockedError` when another command is at work.
    """
    keeper = service.target.keeper()
    if keeper is None:
        return None
    with world_on(service, keeper) as world:
        with service.clock.listening():
            outcome = drive(tended(service.holder), world, witness)
        return None if outcome is None else report_on(outcome, world)
