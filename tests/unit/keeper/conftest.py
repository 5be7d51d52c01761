"""A state folder without a proxy: what the keeper promises about its files holds whether or not HAProxy answers."""

import json
import os

import pytest

from mlops_deploy.adapters.keeper import KeeperStream
from tests.fakes.routers import keeper_argv


class State:
    def __init__(self, root):
        self.root = root
        self.env = {"PATH": os.environ["PATH"], "STATE": str(root), "RUN": "/nowhere"}
        self.opened = []
        for name in ("keys", "journals"):
            (root / name).mkdir(parents=True)
        route = {"share_b": 0, "closed": True, "generation": 0, "token": 0}
        (root / "route.json").write_text(json.dumps(route))

    def keeper(self, *before):
        self.opened.append(KeeperStream((*before, *keeper_argv("serve")), self.env))
        return self.opened[-1]

    def lease(self, token=1, ttl=600.0, holder="test"):
        keeper = self.opened[0] if self.opened else self.keeper()
        return keeper.put("lease", {"token": token, "holder": holder, "ttl": ttl}, keeper.get("lease").index, 0)

    def route(self):
        return json.loads((self.root / "route.json").read_text())


@pytest.fixture
def state(tmp_path):
    made = State(tmp_path / "state")
    yield made
    for keeper in made.opened:
        keeper.close()


@pytest.fixture
def keeper(state):
    return state.keeper()
