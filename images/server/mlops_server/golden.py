"""Whether an answer is the expected one. Standard library only, pure."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

Outputs = Sequence[Mapping[str, Any]]


def difference(expect: Outputs, outputs: Outputs, tolerance: float) -> str | None:
    """The first difference between the `outputs` of an answer and what was expected, None when there is none.

    Outputs are found by name; `shape` and `datatype` count where the expectation has them; numbers may differ by
    `tolerance` (absolute); NaN and null equal themselves.
    """
    found = {output.get("name"): output for output in outputs}
    for wanted in expect:
        name = wanted.get("name")
        output = found.get(name)
        if output is None:
            return f"there is no output `{name}`"
        for key in ("shape", "datatype"):
            if key in wanted and wanted[key] != output.get(key):
                return f"`{name}` has {key} {output.get(key)}, expected {wanted[key]}"
        if problem := _values(_flat(wanted.get("data")), _flat(output.get("data")), tolerance):
            return f"`{name}` {problem}"
    return None


def _values(expect: list[Any], got: list[Any], tolerance: float) -> str | None:
    if len(expect) != len(got):
        return f"has {len(got)} values, expected {len(expect)}"
    for index, (wanted, value) in enumerate(zip(expect, got, strict=True)):
        if not _same(wanted, value, tolerance):
            return f"[{index}] is {value!r}, expected {wanted!r} within {tolerance:g}"
    return None


def _same(wanted: object, value: object, tolerance: float) -> bool:
    if _is_number(wanted) and _is_number(value):
        return wanted == value or abs(wanted - value) <= tolerance or (math.isnan(wanted) and math.isnan(value))
    return type(wanted) is type(value) and wanted == value


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _flat(data: Any) -> list[Any]:  # noqa: ANN401 - JSON
    if not isinstance(data, list):
        return [data]
    return [value for item in data for value in _flat(item)] if any(isinstance(i, list) for i in data) else data
