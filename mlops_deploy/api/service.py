"""One service on its target: what every command that looks at a release, or changes one, begins with."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mlops_deploy.api.drive import World
from mlops_deploy.errors import UnreachableError, UnusableInputError
from mlops_deploy.ports import Clock, Keeper, Rolling, Story
from mlops_deploy.ports import Target as TargetPort
from mlops_deploy.release.forecast import Forecast
from mlops_deploy.release.lease import Holder
from mlops_deploy.release.rolling import RollingView
from mlops_deploy.release.state import SLOTS, Artefact, Slot
from mlops_deploy.spec.deploy import DeploySpec, Target

if TYPE_CHECKING:
    from mlops_deploy.compat.provides import Provides
    from mlops_deploy.store.layout import Stored


class Supply(Protocol):
    """How one target gets what it runs."""

    def artefact(self, carrier: "Stored", server: str | None) -> Artefact:
        """The model of `carrier` on the server that is asked for, else configured, as it will run; changes nothing.

        Raises `UnusableInputError` that names the next command when there is no such server yet.
        """
        ...

    def prepare(self, artefact: Artefact, story: Story) -> None:
        """Bring what `artefact` needs to where it will run; what is there already is left alone."""
        ...


Forecaster = Callable[[Slot, Slot | None, Artefact], Forecast]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service, where it runs, and who asks; `router_config` is the text that a new router starts with.

    `rolling` is the way without slots, where the target has one; `forecast` tells what it says beforehand of an
    artefact in a slot, given the slot that is live. `provides` tells what the server of an artefact provides, as far as
    anything says so.

    What only a release needs is called for, so that a look does not pay for it.
    """

    spec: DeploySpec
    target_name: Target
    target: TargetPort
    supply: Callable[[], Supply]
    router_config: Callable[[], str]
    clock: Clock
    holder: Holder
    rolling: Callable[[], Rolling] | None = None
    forecast: Forecaster | None = None
    provides: Callable[[Artefact], "Provides | None"] = lambda _: None


@contextmanager
def existing_world(service: Service) -> Iterator[World]:
    """The ports of a service that has a router; raise `UnusableInputError` when there is none to go on with."""
    keeper = find_keeper(service)
    if keeper is None:
        raise unreleased(service)
    with world_on(service, keeper) as world:
        yield world


def unreleased(service: Service) -> UnusableInputError:
    """There is no router, and so nothing to look at or to go on with."""
    project = service.spec.project
    if find_native(service) is not None:
        return UnusableInputError(
            f"`{project}` was released with `--native`: one job, without slots, router and journal",
            hint=f"`nomad job status {project}` shows it, `nomad job revert {project} VERSION` goes back",
        )
    return UnusableInputError(
        f"nothing has been released yet, or it was taken down: `{project}` has no router on target "
        f"`{service.target_name}`",
        hint="`mlops-deploy release` makes one, and brings the history back unless `down --volumes` has removed it",
    )


def find_native(service: Service) -> RollingView | None:
    """The one job of a service that was released with `--native`; None where there is none of ours."""
    if service.rolling is None:
        return None
    try:
        view = service.rolling().view()
    except UnusableInputError:  # a job of that name that is somebody else's
        return None
    return None if view.state == "absent" or view.by_hand else view


def require_slots(service: Service) -> None:
    """Raise `UnusableInputError` where the service runs as one job: slots would run it a second time."""
    project = service.spec.project
    if find_native(service) is not None:
        raise UnusableInputError(
            f"`{project}` runs as one job without slots, as `--native` releases it: slots would run it a second time",
            hint=f"`mlops-deploy release --native` goes on with that job, or end it first: `nomad job stop {project}`",
        )


def require_no_slots(service: Service) -> None:
    """Raise `UnusableInputError` where the service has a router or a slot: one job more would run it a second time."""
    project = service.spec.project
    if _has_slots(service):
        raise UnusableInputError(
            f"`{project}` has slots behind a router, beside which the one job of `--native` would run it a second time",
            hint="`mlops-deploy release` without `--native` goes on with them, or end them first: `mlops-deploy down`",
        )


def _has_slots(service: Service) -> bool:
    try:
        keeper = service.target.keeper()
        if keeper is None:
            return any(service.target.observe(slot).state != "absent" for slot in SLOTS)
    except UnusableInputError:  # a job of such a name that is somebody else's
        return False
    keeper.close()
    return True


def find_keeper(service: Service) -> Keeper | None:
    """A stream to the keeper, None where nothing runs; raise `UnreachableError` when the router alone is missing."""
    keeper = service.target.keeper()
    if keeper is not None:
        return keeper
    views = [service.target.observe(slot) for slot in SLOTS]
    if all(view.state == "absent" for view in views):
        return None
    raise UnreachableError(
        f"the router of `{service.spec.project}` does not run on target `{service.target_name}`",
        detail=[f"slot {view.slot} is {view.state}" for view in views],
        hint=how_it_starts(service.target_name),
    )


def how_it_starts(target: Target) -> str:
    """What brings a router back that is down."""
    if target == "nomad":
        return "Nomad starts it again by itself, `mlops-deploy router apply` waits for that, or starts one that is gone"
    return "`mlops-deploy router apply` starts it"


@contextmanager
def made_world(service: Service, before: Callable[[], object]) -> Iterator[World]:
    """The ports of a service, whose router is made where there is none: two first releases meet at its one name.

    `before` is called before a router is made, so that what cannot be released makes none. Raises `UnusableInputError`
    first of all where the service runs without slots.
    """
    require_slots(service)
    keeper = service.target.keeper()
    if keeper is None:
        before()
        service.target.make_router(service.router_config())
        keeper = service.target.keeper()
    if keeper is None:
        raise UnreachableError("the router was made and is gone", hint="`mlops-deploy logs --task router` may say why")
    with world_on(service, keeper) as world:
        yield world


@contextmanager
def world_on(service: Service, keeper: Keeper) -> Iterator[World]:
    """The ports of a service whose keeper is open; it is closed at the end."""
    try:
        yield World(target=service.target, keeper=keeper, clock=service.clock)
    finally:
        keeper.close()
