"""`rollback`, and what is decided about a release that is open: `advance`, `resume`, `abort`."""

from mlops_deploy.api.drive import Witness, drive
from mlops_deploy.api.release import carry_out, may_begin
from mlops_deploy.api.report import Report, report_on
from mlops_deploy.api.service import Service, existing_world
from mlops_deploy.ports import Story
from mlops_deploy.release import executor
from mlops_deploy.release.exchange import Run
from mlops_deploy.release.observe import observe
from mlops_deploy.release.outcome import Outcome
from mlops_deploy.release.rollback import is_hot, previous
from mlops_deploy.release.state import Observed
from mlops_deploy.release.strategies import make_plan


def rollback(service: Service, story: Story, witness: Witness | None = None) -> Report:
    """Give the traffic back to what was live before, telling whether that needs a start."""
    with existing_world(service) as world:
        drive(may_begin(), world)
        observed = drive(observe(), world)
        target = previous(observed)
        story.say(f"back to {target.version}: {_temperature(observed)}")
        plan = make_plan(service.spec, service.target_name, "rollback", observed, target)
        return carry_out(service, world, plan, story, witness)


def _temperature(observed: Observed) -> str:
    target = previous(observed)
    if is_hot(observed, target):
        return "hot, one router write"
    found = next((view for view in (observed.a, observed.b) if view.key == target.key), None)
    why = f"its slot {found.slot} is {found.state}" if found else "no slot holds it any more"
    return f"cold, because {why}"


def advance(service: Service, witness: Witness | None = None) -> Report:
    """Decide that the release which is held goes on."""
    return _decided(service, executor.advance(service.holder), witness)


def resume(service: Service, witness: Witness | None = None) -> Report:
    """Go on with the open release in its direction."""
    return _decided(service, executor.resume(service.holder), witness)


def abort(service: Service, reason: str, witness: Witness | None = None) -> Report:
    """Turn the open release back."""
    return _decided(service, executor.abort(service.holder, reason), witness)


def _decided(service: Service, run: Run[Outcome], witness: Witness | None) -> Report:
    with existing_world(service) as world:
        with service.clock.listening():
            outcome = drive(run, world, witness)
        return report_on(outcome, world)
