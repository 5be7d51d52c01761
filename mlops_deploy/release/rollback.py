"""`rollback`: what was live before takes the traffic back; one router write while its slot is hot."""

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.release.bluegreen import bluegreen
from mlops_deploy.release.state import Artefact, Observed, other
from mlops_deploy.release.steps import Bake, Drain, Planned, Warm
from mlops_deploy.spec.deploy import ReleaseSpec


def before(observed: Observed) -> Artefact | None:
    """What was live before what is live, None when that is not known.

    Where a release switched the traffic and was closed before its promotion, that is what the last promotion recorded.
    A live slot whose tasks were removed held what was promoted there.
    """
    record, slot = observed.live, observed.router.route.live
    if record is None or slot is None:
        return None
    promoted = record.slot == slot and observed.slot(slot).key in {record.key, None}
    key = record.previous if promoted else record.key
    return observed.artefacts.get(key) if key else None


def previous(observed: Observed) -> Artefact:
    """What to go back to; raise `UnusableInputError` when there is nothing."""
    if observed.router.route.live is None:
        raise UnusableInputError("nothing is live, so there is nothing to go back from", hint="`mlops-deploy release`")
    found = before(observed)
    if found is None:
        raise UnusableInputError(
            "there is no earlier version to go back to", hint="`mlops-deploy release --model NAME:TAG` names one"
        )
    return found


def is_hot(observed: Observed, target: Artefact) -> bool:
    """Whether `target` runs in the slot without traffic."""
    live = observed.router.route.live
    parked = observed.slot(other(live)) if live else None
    return parked is not None and parked.key == target.key and parked.state == "running"


def rollback(observed: Observed, target: Artefact, spec: ReleaseSpec) -> tuple[Planned, ...]:
    """As `bluegreen` without warming up or watching: the target has been live before."""
    steps = bluegreen(observed, target, spec)
    left_out = Warm | Bake | Drain if is_hot(observed, target) else Bake
    return tuple(planned for planned in steps if not isinstance(planned.step, left_out))
