"""Which task's lines are meant when `logs` is asked for them."""

from collections.abc import Iterable
from dataclasses import dataclass

from mlops_deploy.api.drive import drive
from mlops_deploy.api.service import Service, find_keeper, find_native, unreleased, world_on
from mlops_deploy.api.status import looking
from mlops_deploy.errors import UnusableInputError
from mlops_deploy.ports import Task
from mlops_deploy.release.exchange import router_view
from mlops_deploy.release.state import SLOTS, Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One task; the router is in no slot, nor is a server that was released with `--native`."""

    task: Task
    slot: Slot | None

    @property
    def name(self) -> str:
        """As people call it."""
        return self.task if self.slot is None else f"{self.task} of slot {self.slot}"


def find_source(service: Service, task: Task, slot: Slot | None) -> Source:
    """The task that was asked for: without a slot the live one's, else the only one's that holds anything.

    Of a service that was released with `--native` it is the newest server's.

    Raises `UnusableInputError` when that leaves it open.
    """
    if task == "router":
        if slot is not None:
            raise UnusableInputError("the router is in no slot", hint="leave `--slot` out")
        return Source(task=task, slot=None)
    return Source(task=task, slot=slot or _default_slot(service))


def read_logs(service: Service, source: Source, tail: int, *, follow: bool) -> Iterable[str]:
    """The last `tail` lines, then, with `follow`, every new one, for ever."""
    if source.slot is None and source.task != "router" and service.rolling is not None:
        return service.rolling().logs(source.task, tail, follow=follow)
    return service.target.logs(source.task, source.slot, tail, follow=follow)


def _default_slot(service: Service) -> Slot | None:
    keeper = find_keeper(service)
    if keeper is None:
        if find_native(service) is None:
            raise unreleased(service)
        return None
    with world_on(service, keeper) as world:
        view = drive(router_view(), looking(service, world.keeper))
    held = [slot for slot in SLOTS if service.target.observe(slot).state != "absent"]
    if view.route.live in held:
        return view.route.live
    if len(held) == 1:
        return held[0]
    what = "both slots hold something" if held else "both slots are empty"
    raise UnusableInputError(f"nothing is live, and {what}", hint="name one: `--slot a` or `--slot b`")
