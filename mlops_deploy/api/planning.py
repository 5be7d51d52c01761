"""From what is in the store and what runs to a plan; nothing is changed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlops_deploy.api.drive import drive
from mlops_deploy.api.pulled import in_registry
from mlops_deploy.api.render import choose_carrier, require_model, tell_changes
from mlops_deploy.api.service import Service, Supply, world_on
from mlops_deploy.errors import DeployError, UnusableInputError
from mlops_deploy.ports import Story
from mlops_deploy.release.forecast import Forecast
from mlops_deploy.release.observe import observe
from mlops_deploy.release.plan import Plan, load, save
from mlops_deploy.release.state import CLOSED, Artefact, Counters, Lane, Observed, RouterView
from mlops_deploy.release.strategies import make_plan
from mlops_deploy.store.cache import DigestCache
from mlops_deploy.store.files import write_named
from mlops_deploy.store.layout import LayoutStore, Stored

STRATEGY: Final = "bluegreen"
"""How a release on two slots goes where nobody says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a release is asked to do; None leaves it to the configuration and the newest carrier.

    With `hold` it waits for a decision once the candidate is ready.
    """

    strategy: str | None = None
    model: str | None = None
    server: str | None = None
    hold: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """Where carriers are, and what earlier builds learned of the model's files."""

    store: LayoutStore
    cache: DigestCache


def find_candidate(service: Service, shelf: Shelf, wish: Wish, story: Story) -> Artefact:
    """What would be released: the newest carrier unless one is named, on the server; tells when files changed since."""
    supply = service.supply()
    carrier = _carrier(service, supply, shelf, wish.model, story)
    server = in_registry(wish.server or service.spec.server.image or "")
    if server is not None:
        supply.fetch(server, story)
    artefact = supply.artefact(carrier, wish.server)
    if wish.model is None:
        tell_changes(service.spec, carrier, shelf.cache, story)
    return artefact


def _carrier(service: Service, supply: Supply, shelf: Shelf, asked: str | None, story: Story) -> Stored:
    """The carrier of the store; one that is named by its digest and is not there, of its registry."""
    ref = None if asked is None else in_registry(asked)
    if asked is None or ref is None or shelf.store.has_carrier(asked):
        return choose_carrier(service.spec, shelf.store, asked)
    supply.fetch(ref, story)
    carrier = supply.carrier(ref)
    require_model(service.spec, carrier, asked)
    return carrier


def plan_from(service: Service, observed: Observed, candidate: Artefact, wish: Wish) -> Plan:
    """The plan that makes `candidate` live, from what was observed."""
    strategy = wish.strategy or service.spec.release.strategy or STRATEGY
    return make_plan(service.spec, service.target_name, strategy, observed, candidate, hold=wish.hold)


def preview(service: Service, shelf: Shelf, wish: Wish, story: Story) -> Plan:
    """The plan of a release now, also before there is a router."""
    candidate = find_candidate(service, shelf, wish, story)
    return plan_from(service, look(service), candidate, wish)


def forecast(service: Service, plan: Plan) -> Forecast | None:
    """What the target says beforehand of what `plan` starts; None where it says nothing, or nothing is started."""
    if service.forecast is None or plan.slot is None or plan.hot:
        return None
    return service.forecast(plan.slot, plan.base.route.live, plan.artefact(plan.candidate))


def look(service: Service) -> Observed:
    """What a strategy may look at; without a router what the first release will find: one that is closed."""
    keeper = service.target.keeper()
    if keeper is None:
        return _before_the_first(service)
    with world_on(service, keeper) as world:
        return drive(observe(), world)


def _before_the_first(service: Service) -> Observed:
    lane = Lane(up=False, verdict="there is no router", sessions=0, counters=Counters())
    router = RouterView(route=CLOSED, applied=None, generation=0, token=0, a=lane, b=lane, entry=Counters(), started="")
    return Observed(a=service.target.observe("a"), b=service.target.observe("b"), router=router)


def load_plan(service: Service, text: str, name: str) -> Plan:
    """The plan of the file `name`; raise `UnusableInputError` when it was not made for this service and target."""
    plan = load(text, name)
    spec = service.spec
    for what, planned, ours in (
        ("service", plan.service, spec.service),
        ("environment", plan.environment, spec.environment),
        ("target", plan.target, service.target_name),
    ):
        if planned != ours:
            raise UnusableInputError(
                f"`{name}` is a plan {_for(what, planned)}, not {_for(what, ours)}",
                hint="`mlops-deploy plan -o FILE` writes one for this service",
            )
    return plan


def write_plan(plan: Plan, path: Path) -> None:
    """Write the file that `release --plan` takes, whole or not at all."""
    try:
        write_named(path, save(plan).encode())
    except OSError as error:
        raise DeployError(f"the plan `{path}` cannot be written: {(error.strerror or str(error)).lower()}") from error


def _for(what: str, name: str | None) -> str:
    return f"without an {what}" if name is None else f"for the {what} `{name}`"
