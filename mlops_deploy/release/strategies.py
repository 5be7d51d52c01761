"""The strategies by name: adding one is a module and a row."""

from collections.abc import Mapping
from typing import Final, Protocol

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.release.bluegreen import bluegreen
from mlops_deploy.release.plan import Plan, PlanStrategy, base_of
from mlops_deploy.release.recreate import recreate
from mlops_deploy.release.rollback import rollback
from mlops_deploy.release.state import Artefact, Observed
from mlops_deploy.release.steps import Hold, Planned, Shift
from mlops_deploy.spec.deploy import DeploySpec, ReleaseSpec

HOLD_SECONDS: Final = 24 * 3600.0
"""How long a candidate that is ready waits for a decision before `tend` turns back."""


class Strategy(Protocol):
    """Pure: the same observation and specification give the same steps; none when there is nothing to do."""

    def __call__(self, observed: Observed, candidate: Artefact, spec: ReleaseSpec, /) -> tuple[Planned, ...]:
        """The steps that make `candidate` live."""
        ...


STRATEGIES: Final[Mapping[PlanStrategy, Strategy]] = {
    "bluegreen": bluegreen,
    "recreate": recreate,
    "rollback": rollback,
}


def make_plan(
    spec: DeploySpec,
    target: str,
    strategy: str,
    observed: Observed,
    candidate: Artefact,
    *,
    hold: bool = False,
) -> Plan:
    """The plan for `candidate`; with `hold` it waits for a decision once the candidate is ready.

    Raises `UnusableInputError` for a strategy that is not there (yet), and for `recreate` with `hold`: it has closed
    the router by the time its candidate is ready, so that nobody would be served until somebody decides.
    """
    found = next((name for name in STRATEGIES if name == strategy), None)
    if found is None:
        known = ", ".join(f"`{name}`" for name in STRATEGIES if name != "rollback")
        raise UnusableInputError(
            f"there is no strategy `{strategy}` yet", hint=f"known: {known}, and on Nomad `rolling` with `--native`"
        )
    if hold and found == "recreate":
        raise UnusableInputError(
            "`recreate` cannot wait for a decision: nothing serves from its start until its candidate is live",
            hint="`--strategy bluegreen` waits beside the live slot, or leave `--until ready` out",
        )
    steps = STRATEGIES[found](observed, candidate, spec.release)
    named = {artefact.key: artefact for artefact in (*_in_slots(observed), candidate)}
    return Plan(
        service=spec.service,
        environment=spec.environment,
        target=target,
        strategy=found,
        base=base_of(observed),
        candidate=candidate.key,
        artefacts=tuple(named.values()),
        steps=_held(steps) if hold else steps,
    )


def _in_slots(observed: Observed) -> tuple[Artefact, ...]:
    return tuple(artefact for artefact in (observed.artefact("a"), observed.artefact("b")) if artefact is not None)


def _held(steps: tuple[Planned, ...]) -> tuple[Planned, ...]:
    """The same steps with a hold before the first that sends requests to the candidate."""
    first = next((i for i, p in enumerate(steps) if isinstance(p.step, Shift) and not p.step.route.closed), None)
    if first is None:
        return steps
    hold = Planned(step=Hold(reason="the candidate is ready", deadline=HOLD_SECONDS))
    return (*steps[:first], hold, *steps[first:])
