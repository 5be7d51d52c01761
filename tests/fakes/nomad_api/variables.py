"""Variables with check-and-set."""

from typing import Any

from tests.fakes.nomad_api.state import LIMIT, Refusal, State, now


def read(state: State, namespace: str, path: str) -> dict[str, Any]:
    found = state.variables.get((namespace, path))
    if found is None:
        raise Refusal(404, "variable not found")
    return found


def listed(state: State, namespace: str, prefix: str) -> list[dict[str, Any]]:
    found = [one for (where, path), one in state.variables.items() if where == namespace and path.startswith(prefix)]
    return [{name: value for name, value in one.items() if name != "Items"} for one in found]


def write(state: State, namespace: str, path: str, body: dict[str, Any], check: int | None) -> dict[str, Any]:
    items = body.get("Items") or {}
    if not items:
        raise Refusal(400, "variable missing required Items object")
    if sum(len(key.encode()) + len(value.encode()) for key, value in items.items()) > LIMIT:
        raise Refusal(500, "variables are limited to 64KiB in total size")
    before = state.variables.get((namespace, path))
    _compare(before, check)
    index = state.touch("variables")
    created = before or {"CreateIndex": index, "CreateTime": now()}
    state.variables[namespace, path] = {
        "CreateIndex": created["CreateIndex"],
        "CreateTime": created["CreateTime"],
        "Items": dict(items),
        "ModifyIndex": index,
        "ModifyTime": now(),
        "Namespace": namespace,
        "Path": path,
    }
    return state.variables[namespace, path]


def delete(state: State, namespace: str, path: str, check: int | None) -> None:
    _compare(state.variables.get((namespace, path)), check)
    state.variables.pop((namespace, path), None)
    state.touch("variables")


def _compare(before: dict[str, Any] | None, check: int | None) -> None:
    if check is not None and check != (before["ModifyIndex"] if before else 0):
        raise Refusal(409, before or {"ModifyIndex": 0})
