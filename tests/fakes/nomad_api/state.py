"""What a cluster knows: tables under one lock, whose every change has the next index."""

import fnmatch
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

LIMIT = 65536
"""Bytes of the keys and values of one Variable."""


class Refusal(Exception):  # noqa: N818  # an answer, not a mistake
    """An answer that is not 200."""

    def __init__(self, status: int, body: Any = "") -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body


@dataclass(frozen=True)
class Grant:
    """What a token may do in the namespaces `namespace` (a pattern): capabilities, and those on paths of Variables."""

    namespace: str = "default"
    capabilities: frozenset[str] = frozenset()
    variables: dict[str, frozenset[str]] = field(default_factory=dict)

    def allows(self, namespace: str, capability: str | None) -> bool:
        """Whether the token may do this; None for anything at all."""
        here = fnmatch.fnmatchcase(namespace, self.namespace)
        return here and (
            bool(self.capabilities or self.variables) if capability is None else capability in self.capabilities
        )

    def allows_variable(self, namespace: str, path: str, capability: str) -> bool:
        """The same for a Variable; who may read one may list it."""
        here = fnmatch.fnmatchcase(namespace, self.namespace)
        enough = {capability, "read"} if capability == "list" else {capability}
        return here and any(fnmatch.fnmatchcase(path, one) and enough & may for one, may in self.variables.items())


class State:
    """Tables of a cluster. `tokens` is None where it asks for none; "" are the rights of who has none."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.index = 10
        self.touched: dict[tuple[str, ...], int] = {}
        self.namespaces = {"default"}
        self.tokens: dict[str, tuple[Grant, ...]] | None = None
        self.version = "2.0.5"
        self.jobs: dict[tuple[str, str], dict[str, Any]] = {}
        self.allocations: dict[str, dict[str, Any]] = {}
        self.evaluations: dict[str, dict[str, Any]] = {}
        self.deployments: dict[str, dict[str, Any]] = {}
        self.variables: dict[tuple[str, str], dict[str, Any]] = {}
        self.services: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self.logs: dict[tuple[str, str, str], bytes] = {}

    def touch(self, *tables: str) -> int:
        """A change of `tables`: its index, which ends blocking queries on them."""
        self.index += 1
        self.touched.update({(one,): self.index for one in tables})
        self.changed.notify_all()
        return self.index

    def index_of(self, table: str) -> int:
        """The index of the last change of a table."""
        return self.touched.get((table,), 1)

    def wait(self, table: str, after: int, seconds: float) -> None:
        """Until the table has changed since `after`, or the time is over; the lock is held."""
        self.changed.wait_for(lambda: self.index_of(table) > after, seconds)


def new_id() -> str:
    """An id as Nomad writes it."""
    return str(uuid.uuid4())


def now() -> int:
    """Nanoseconds since 1970."""
    return time.time_ns()
