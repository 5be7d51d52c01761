"""ONNX: `ModelProto` of onnx.proto, its graph passed over. A runtime must know its IR and the sets of its operators."""

import re
from typing import Final

from mlops_deploy.compat.protobuf import Budget, fields, next_field
from mlops_deploy.compat.reader import Parser, Skip
from mlops_deploy.spec.requires import Sniffed

_IR_VERSION, _GRAPH, _OPSET_IMPORT = 1, 7, 8
_LARGEST_OPSET: Final = 1024
_OURS: Final = {"": "onnx-opset", "ai.onnx": "onnx-opset", "ai.onnx.ml": "onnx-ml-opset"}
"""Domains of operators that the ONNX standard itself has; each has a version of its own."""

_BEGINNING: Final = re.compile(rb"\x08[\x03-\x40][\x12\x1a\x22\x28\x32\x3a\x42]")


def begin(head: bytes) -> Parser | None:
    """The parser when `head` may begin a model; whether it is one is seen at its end."""
    return _parse() if _BEGINNING.match(head) else None


def _parse() -> Parser:
    ir, graph, budget = 0, False, Budget()
    opsets: dict[str, int] = {}
    while (field := (yield from next_field(budget))) is not None:
        if field.number == _IR_VERSION and not field.follows:
            ir = field.value
        elif field.number == _OPSET_IMPORT and field.follows and field.value <= _LARGEST_OPSET:
            domain, version = _opset((yield field.value))
            opsets[domain] = max(version, opsets.get(domain, 0))
        elif field.follows:
            graph = graph or field.number == _GRAPH
            yield Skip(field.value)
    if not (ir and graph and opsets):
        return Sniffed()
    sets = {name: version for domain, version in opsets.items() if (name := _OURS.get(domain)) is not None}
    return Sniffed(format="onnx", requires=(f"onnx-ir>={ir}", *(f"{name}>={sets[name]}" for name in sorted(sets))))


def _opset(data: bytes) -> tuple[str, int]:
    domain, version = "", 0
    for number, value in fields(data):
        match number, value:
            case 1, bytes():
                domain = value.decode()
            case 2, int():
                version = value
            case _:
                pass
    return domain, version
