"""TensorFlow's `saved_model.pb`: `SavedModel` of saved_model.proto, of which the first lines of a graph are read."""

from typing import Final

from mlops_deploy.compat.protobuf import Budget, fields, next_field
from mlops_deploy.compat.reader import MOST, Parser
from mlops_deploy.compat.versions import at_least
from mlops_deploy.spec.requires import Sniffed

_BEGINNING: Final = b"\x08\x01\x12"
_META_GRAPH: Final = 2
_META_INFO: Final = 1
_TENSORFLOW_VERSION: Final = 5


def begin(head: bytes) -> Parser | None:
    """The parser when `head` may begin one."""
    return _parse() if head.startswith(_BEGINNING) else None


def _parse() -> Parser:
    budget = Budget()
    yield len(_BEGINNING) - 1
    graph = yield from next_field(budget)
    info = yield from next_field(budget)
    if graph is None or graph.number != _META_GRAPH or info is None or info.number != _META_INFO:
        return Sniffed()
    if not info.follows or info.value > min(graph.value, MOST):
        return Sniffed()
    for number, value in fields((yield info.value)):
        if number == _TENSORFLOW_VERSION and isinstance(value, bytes):
            return Sniffed(format="savedmodel", requires=at_least("tensorflow", value.decode()))
    return Sniffed()
