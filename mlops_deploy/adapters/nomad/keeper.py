"""The keeper on Nomad: what is written goes into the ledger; what the router sees, and does, is asked in its task."""

from collections.abc import Callable
from dataclasses import replace

from mlops_deploy.adapters.keeper import KeeperClient, Stream
from mlops_deploy.adapters.nomad.ledger import Ledger
from mlops_deploy.adapters.nomad.pages import Variables
from mlops_deploy.adapters.nomad.writing import checked_config
from mlops_deploy.release.effects import Answered, Committed, Lines, Refused, Stored, Written
from mlops_deploy.release.state import Route, RouterView, Slot
from mlops_deploy.spec.deploy import JsonValue


class NomadKeeper:
    """See `ports.Keeper`. The ledger is that of the job `job_id`; `connect` opens a stream to the keeper in its task.

    The ledger answers also while no router runs; `observed`, `ask` and `configure` then raise `UnreachableError`.
    """

    def __init__(self, variables: Variables, job_id: str, connect: Callable[[], Stream]) -> None:
        self._ledger = Ledger(variables, job_id)
        self._router = KeeperClient(connect)

    def observed(self) -> RouterView:
        """See `ports.Keeper`. What is committed is the ledger's: the router may not have heard of it yet."""
        seen, committed = self._router.observed(), self._ledger.book().route
        route = Route(share_b=committed.share_b, closed=committed.closed)
        return replace(seen, route=route, generation=committed.generation, token=committed.token)

    def commit(self, route: Route, generation: int, token: int) -> Committed | Refused:
        """See `ports.Keeper`."""
        return self._ledger.commit(route, generation, token)

    def ask(self, slot: Slot | None, path: str, body: JsonValue, timeout: float) -> Answered:
        """See `ports.Keeper`."""
        return self._router.ask(slot, path, body, timeout)

    def get(self, key: str) -> Stored:
        """See `ports.Keeper`."""
        return self._ledger.get(key)

    def keys(self, prefix: str) -> tuple[str, ...]:
        """See `ports.Keeper`."""
        return self._ledger.keys(prefix)

    def put(self, key: str, value: JsonValue, index: int, token: int) -> Written | Refused:
        """See `ports.Keeper`."""
        return self._ledger.put(key, value, index, token)

    def append(self, journal: str, line: str, position: int, token: int) -> Written | Refused:
        """See `ports.Keeper`."""
        return self._ledger.append(journal, line, position, token)

    def journals(self) -> tuple[str, ...]:
        """See `ports.Keeper`."""
        return self._ledger.journals()

    def read(self, journal: str) -> Lines:
        """See `ports.Keeper`."""
        return self._ledger.read(journal)

    def configure(self, config: str) -> bool:
        """See `ports.Keeper`. First the router, which checks it; then the ledger, for when the router starts again."""
        checked = checked_config(config)
        self._router.observed()  # a write is sent once, so not over a stream whose program may never begin
        changed = self._router.configure(checked)
        return self._ledger.configure(config) or changed

    def close(self) -> None:
        """End the stream."""
        self._router.close()
