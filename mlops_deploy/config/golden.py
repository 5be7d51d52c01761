"""Golden requests: JSON lines, each a request whose answer is known."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlops_deploy.config.fields import At, Field, Table
from mlops_deploy.config.issues import Issue, Issues, Mark, Source
from mlops_deploy.config.kinds import JsonMap, ListOf, Number
from mlops_deploy.config.marks import Node, parse
from mlops_deploy.config.read import read
from mlops_deploy.spec.deploy import GoldenRequest, JsonValue

MAX_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class _Body(JsonMap):
    """An infer request: an object with `inputs`."""

    def decode(self, node: Node, at: At) -> dict[str, JsonValue] | None:
        """The object."""
        body = JsonMap.decode(self, node, at)
        if body is not None and not (isinstance(body.get("inputs"), list) and body["inputs"]):
            at.expected(node, "an infer request", "it has no list `inputs` with something in it")
            return None
        return body


REQUEST: Final[Field[Mapping[str, JsonValue]]] = Field(
    "request",
    _Body(),
    doc="The body of `/v2/models/<name>/infer`.",
    default={},
    example='{"inputs": […]}',
    required=True,
)
EXPECT: Final[Field[tuple[JsonValue, ...]]] = Field(
    "expect", ListOf(JsonMap(), least=1), doc="Its `outputs`.", default=(), example="[…]", required=True
)
TOLERANCE: Final = Field("tolerance", Number(0, 1e300), doc="Allowed difference, absolute.", default=0.0)
TABLE: Final = Table((REQUEST, EXPECT, TOLERANCE), doc="One golden request.")


def read_golden(path: Path, issues: Issues) -> tuple[GoldenRequest, ...]:
    """The requests of `path`; whatever is wrong with its lines goes to `issues`."""
    source = read(path, issues, limit=MAX_BYTES)
    if source is None:
        return ()
    lines = [number for number, line in enumerate(source.lines, 1) if line.strip()]
    if not lines:
        hint = 'write `{"request": …, "expect": …}` on one line'
        issues.add(Issue(mark=Mark(source), path=(), message=f"`{path.name}` holds no request", hint=hint))
    found = (_request(source, number, issues) for number in lines)
    return tuple(request for request in found if request is not None)


def _request(source: Source, number: int, issues: Issues) -> GoldenRequest | None:
    text = source.lines[number - 1]
    try:
        json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        column = getattr(error, "colno", 1)
        reason = getattr(error, "msg", None) or str(error)
        mark = Mark(source, number, min(column, len(text)))
        issues.add(Issue(mark=mark, path=(), message="this line is not JSON", hint=reason[:1].lower() + reason[1:]))
        return None
    node = parse(source, issues, line=number)
    values = None if node is None else TABLE.decode(node, At(issues, Path()))
    if values is None:
        return None
    return GoldenRequest(request=values[REQUEST], expect=values[EXPECT], tolerance=values[TOLERANCE])


def _no_constant(word: str) -> None:
    raise ValueError(f"`{word}` is not a JSON number")
