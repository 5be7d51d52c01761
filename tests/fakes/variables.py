"""Variables with faults: those of a cluster, or ones in memory with Nomad's limits and a clock that is set by hand."""

from mlops_deploy.adapters.nomad.client import NomadClient, Variable
from mlops_deploy.errors import DeployError, UnreachableError

LIMIT = 64 << 10
SECOND = 1_000_000_000


class Faults:
    """What happens to writes: `before_put` comes first, then what `lost` says of the next one.

    None: it is answered; True: it is done and the answer lost; False: it never arrives.
    """

    before_put = staticmethod(lambda path: None)
    lost = ()

    def put_variable(self, path, items, index):
        self.before_put(path)
        fate, *self.lost = self.lost or (None,)
        if fate is False:
            raise UnreachableError("the request was lost")
        done = super().put_variable(path, items, index)
        if fate:
            raise UnreachableError("the answer was lost")
        return done


class ClusterVariables(Faults, NomadClient):
    """Those of a cluster."""


class _Memory:
    def __init__(self):
        self.now = 1_800_000_000 * SECOND
        self.index = 1
        self.kept = {}
        self.reads = 0
        self.largest = 0

    def pass_time(self, seconds):
        self.now += int(seconds * SECOND)

    def variable(self, path):
        self.reads += 1
        if path not in self.kept:
            return None
        items, index, modified = self.kept[path]
        return Variable(items=dict(items), index=index, age=(self.now - modified) / SECOND, modified=modified)

    def put_variable(self, path, items, index):
        assert len(path) <= 128
        size = sum(len(name.encode()) + len(text.encode()) for name, text in items.items())
        if size > LIMIT:
            raise DeployError("variables are limited to 64KiB in total size")
        self.largest = max(size, self.largest)
        if (self.kept[path][1] if path in self.kept else 0) != index:
            return None
        self.index += 1
        self.now += 1
        self.kept[path] = (dict(items), self.index, self.now)
        return self.index

    def variables(self, prefix):
        return sorted(path for path in self.kept if path.startswith(prefix))

    def delete_variable(self, path):
        self.kept.pop(path, None)


class MemoryVariables(Faults, _Memory):
    """Those in memory."""
