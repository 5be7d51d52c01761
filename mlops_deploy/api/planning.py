"""From what is in the store and what runs to a plan; nothing is changed."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlops_deploy.api.compat import require_fit, require_no_carrier, server_provides
from mlops_deploy.api.drive import drive
from mlops_deploy.api.registry_images import FindRegistries, image_labels, look_up, registry_ref
from mlops_deploy.api.render import choose_carrier, tell_changes
from mlops_deploy.api.server_inputs import known_preset
from mlops_deploy.api.service import Service, find_keeper, require_slots, world_on
from mlops_deploy.compat.provides import Provides
from mlops_deploy.errors import DeployError, UnreachableError, UnusableInputError
from mlops_deploy.ports import Story
from mlops_deploy.release.forecast import Forecast
from mlops_deploy.release.observe import observe
from mlops_deploy.release.plan import Plan, load, save
from mlops_deploy.release.state import CLOSED, Artefact, Counters, Lane, Observed, RouterView
from mlops_deploy.release.strategies import make_plan
from mlops_deploy.spec.refs import ImageRef
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
    """Where carriers and servers are, and what earlier builds learned of the model's files."""

    store: LayoutStore
    cache: DigestCache
    registries: FindRegistries


def find_candidate(service: Service, shelf: Shelf, wish: Wish, story: Story) -> Artefact:
    """What would be released: the newest carrier unless one is named, on the server; tells when files changed since."""
    carrier = choose_carrier(service.spec, shelf.store, wish.model, shelf.registries)
    if carrier.pulled:
        story.say(f"`{wish.model}` is the carrier `{carrier.ref}` in the registry")
    artefact = _artefact(service, shelf, carrier, wish.server, story)
    require_fit(service.spec, carrier, artefact.server, _provides(service, shelf, artefact), story)
    if wish.model is None:
        tell_changes(service.spec, carrier, shelf.cache, story)
    return artefact


def _artefact(service: Service, shelf: Shelf, carrier: Stored, asked: str | None, story: Story) -> Artefact:
    """The carrier on the server; one that a registry has is named by its digest, whatever its tag comes to mean."""
    supply, ref = service.supply(), registry_ref(asked or service.spec.server.image or "")
    if ref is None or ref.digest is not None or service.target_name == "process":
        return supply.artefact(carrier, asked)
    try:
        found = look_up(ref, shelf.registries())
    except (UnreachableError, UnusableInputError) as error:
        with suppress(UnusableInputError):
            artefact = supply.artefact(carrier, asked)
            story.warn(f"the server is `{ref}` as the engine has it: {error.message}")
            return artefact
        raise
    pinned = ImageRef(name=ref.name, digest=found.digest)
    story.say(f"`{ref}` is the server `{pinned}` in the registry")
    return supply.artefact(carrier, str(pinned))


def _provides(service: Service, shelf: Shelf, artefact: Artefact) -> Provides | None:
    """What the server provides: one that is in a registry says so there, also when nobody has pulled it yet."""
    ref = registry_ref(artefact.server)
    if ref is not None and ref.digest is not None:
        labels = None
        with suppress(UnreachableError, UnusableInputError):
            labels = image_labels(look_up(ref, shelf.registries()))
        if labels is not None:
            require_no_carrier(artefact.server, labels)
            return server_provides(labels, known_preset(service.spec.preset))
    return service.provides(artefact)


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
    """What a strategy may look at; without router and slots what the first release will find: a router that is closed.

    Raises `UnreachableError` when slots are there and the router is not: only that knows which of them is live;
    `UnusableInputError` where the service runs without slots.
    """
    require_slots(service)
    keeper = find_keeper(service)
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
        raise DeployError(
            f"the plan `{path}` cannot be written: {(error.strerror or str(error)).lower()}",
            hint="name another place with `-o FILE`",
        ) from error


def _for(what: str, name: str | None) -> str:
    return f"without an {what}" if name is None else f"for the {what} `{name}`"
