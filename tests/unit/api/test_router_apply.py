"""`router apply`: what it changes, and that nobody else begins meanwhile."""

import pytest

from mlops_deploy.api.router_apply import Applied, router_apply
from mlops_deploy.errors import DeployError, LockedError
from mlops_deploy.release import lease as leases
from tests.simulation.service import story_of

OTHER_PORT = "it listens on port 1, not 2"


class Configured:
    """A service whose router takes `reload` seconds for a configuration and `anew` to be made anew."""

    def __init__(self, *, reload=1.0, anew=1.0, differs=OTHER_PORT):
        self.sim, self.reload, self.anew, self.calls, self.ages = story_of("next"), reload, anew, [], []
        ports = self.sim.ports
        ports.configure, ports.router_differs, ports.replace_router = self.configure, lambda: differs, self.replace

    def configure(self, config):
        self.takes("configure", self.reload)
        return True

    def replace(self, config):
        self.takes("replace", self.anew)

    def takes(self, what, seconds):
        world = self.sim.world
        world.advance(world.now + seconds)
        lease, _, at = world.keys[leases.KEY]
        self.calls.append(what)
        self.ages.append(world.now - at)
        assert lease["holder"]["name"] == "anna@build7"

    def apply(self, *, replace):
        return router_apply(self.sim.service, replace=replace)

    @property
    def held(self):
        return self.sim.world.keys[leases.KEY][0]["holder"] is not None


@pytest.mark.parametrize(
    ("differs", "replace", "calls"),
    [
        (OTHER_PORT, True, ["configure", "replace"]),
        (OTHER_PORT, False, ["configure"]),
        (None, True, ["configure"]),
    ],
)
def test_a_router_is_made_anew_where_that_is_asked_for_and_nothing_else_will_do(differs, replace, calls):
    service = Configured(differs=differs)
    done = service.apply(replace=replace)
    assert done == Applied(started=False, changed=True, replaced="replace" in calls, differs=differs)
    assert service.calls == calls
    assert not service.held


def test_the_lease_is_renewed_before_the_router_is_made_anew():
    service = Configured(reload=30.0, anew=leases.TTL - 1.0)
    assert service.apply(replace=True).replaced
    assert max(service.ages) < leases.TTL
    assert not service.held


def test_who_lost_the_lease_to_a_slow_reload_makes_nothing_anew():
    service = Configured(reload=leases.TTL + 1.0)
    reload = service.sim.ports.configure

    def slow(config):
        changed = reload(config)
        lease, index, _ = service.sim.world.keys[leases.KEY]
        eve = lease | {"token": lease["token"] + 1, "holder": {"name": "eve@x", "nonce": "z", "url": None}}
        service.sim.world.keys[leases.KEY] = (eve, index + 1, service.sim.world.now)
        return changed

    service.sim.ports.configure = slow
    with pytest.raises(LockedError, match="the lease was lost to `eve@x`"):
        service.apply(replace=True)
    assert service.calls == ["configure"]
    assert service.held, "it is another's"


def test_a_router_that_refuses_frees_the_lease():
    service = Configured()

    def refuse(config):
        raise DeployError("HAProxy refuses the configuration")

    service.sim.ports.configure = refuse
    with pytest.raises(DeployError, match="refuses"):
        service.apply(replace=True)
    assert not service.held
