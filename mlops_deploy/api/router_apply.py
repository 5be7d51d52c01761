"""`router apply`: the router gets the configuration that it would be made with now, without losing a connection."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from mlops_deploy.api.drive import World, drive
from mlops_deploy.api.service import Service, existing_world
from mlops_deploy.errors import DeployError, UnusableInputError
from mlops_deploy.release import lease as leases
from mlops_deploy.release.state import SLOTS, Route

_STARTING: Final = 5.0
_POLL: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What was done: the router was down and is `started`, its configuration `changed`, it was `replaced` as a whole.

    `restored` is the route with which a state that was lost is laid out anew.

    `differs` says what a running router cannot change and is not as it would be made now, or that it is silent.
    """

    started: bool
    changed: bool
    replaced: bool
    differs: str | None
    restored: Route | None = None


def router_apply(service: Service, *, replace: bool) -> Applied:
    """Check the configuration, write it and reload; with `replace` make the router anew where that is not enough.

    Raises `LockedError` when another command is at work, `UnusableInputError` when nothing has been released yet,
    `DeployError` with the proxy's own words for a configuration that it does not take.
    """
    config = service.router_config()
    started, restored = _started(service, config, blind=replace)
    with existing_world(service) as world:
        lease, index = drive(leases.acquire(service.holder, None), world)
        try:
            changed = world.keeper.configure(config)
            differs = service.target.router_differs() or _silence(world)
            if differs and replace:
                # Until the new router answers, nobody can renew it: a router that ends waits for its last requests.
                lease, index = drive(leases.renew(lease, index), world)
                service.target.replace_router(config)
        finally:
            with suppress(DeployError):  # it expires by itself
                drive(leases.let_go(lease, index), world)
    replaced = bool(differs) and replace
    return Applied(started=started, changed=changed, replaced=replaced, differs=differs, restored=restored)


def _silence(world: World) -> str | None:
    """Why the proxy cannot be told anything; one that has just been started or reloaded is asked for some seconds."""
    until = world.clock.elapsed() + _STARTING
    while world.keeper.observed().applied is None:
        if world.clock.elapsed() >= until or world.clock.pause(_POLL) is not None:
            return "it does not answer its keeper"
    return None


def _started(service: Service, config: str, *, blind: bool) -> tuple[bool, Route | None]:
    """Lay a state out anew that was lost, and start a router that is down; whether it was, and the route anew."""
    target = service.target
    keeper = target.keeper()
    if keeper is not None:
        keeper.close()
        return False, target.restore_state(config, blind=blind)
    if all(target.observe(slot).state == "absent" for slot in SLOTS):
        raise UnusableInputError(
            f"`{service.spec.project}` has no router on target `{service.target_name}`, and nothing to route to",
            hint="`mlops-deploy release` makes both",
        )
    restored = target.restore_state(config, blind=blind)
    target.make_router(config)
    return True, restored
