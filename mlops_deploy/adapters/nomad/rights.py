"""Which right of a token each request needs: capabilities as the policies of Nomad name them."""

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """What a request does, the right it needs, and the line of a policy that gives it."""

    deed: str
    text: str
    policy: str


_NAMESPACE: Final = (
    ("GET", r"jobs|job/.*|allocations?(/.*)?|evaluations?(/.*)?|deployments?(/.*)?|services?(/.*)?", "read-job"),
    ("POST", r"jobs/parse", "parse-job"),
    ("POST|PUT|DELETE", r"jobs|job/.*|deployment/.*|validate/job", "submit-job"),
    ("GET", r"client/fs/logs/.*", "read-logs"),
    ("GET", r"client/allocation/.*/exec", "alloc-exec"),
    ("POST|PUT", r"client/allocation/.*", "alloc-lifecycle"),
    ("DELETE", r"service/.*", "submit-job"),
    ("POST|PUT", r"volume/host/create", "host-volume-create"),
    ("POST|PUT", r"volume/host/register", "host-volume-register"),
    ("DELETE", r"volume/host/.*", "host-volume-delete"),
    ("GET", r"volumes?(/.*)?", "host-volume-read"),
    ("GET", r"namespace/.*", "read-job"),
)
_WHOLE: Final = (
    ("GET", r"agent/.*", "agent", "read"),
    ("GET", r"nodes?(/.*)?", "node", "read"),
    ("GET", r"operator/.*", "operator", "read"),
)
_DEEDS: Final = (
    ("GET", r"client/fs/logs/.*", "read logs"),
    ("GET", r"client/allocation/.*/exec", "run a program in an allocation"),
    ("POST|PUT|DELETE", r"client/allocation/.*", "restart or signal an allocation"),
    ("POST|PUT", r"job/[^/]+/plan", "plan the job"),
    ("POST", r"jobs/parse", "parse a job"),
    ("POST|PUT", r"validate/job", "validate the job"),
    ("POST|PUT", r"jobs|job/.*", "register the job"),
    ("DELETE", r"job/.*", "stop the job"),
    ("POST|PUT", r"deployment/promote/.*", "promote the deployment"),
    ("POST|PUT", r"deployment/fail/.*", "fail the deployment"),
    ("POST|PUT", r"volume/host/.*", "create the volume"),
    ("DELETE", r"volume/host/.*", "delete the volume"),
    ("GET", r"vars", "list variables"),
    ("GET", r"var/.*", "read the variable `{thing}`"),
    ("PUT|POST", r"var/.*", "write the variable `{thing}`"),
    ("DELETE", r"var/.*", "delete the variable `{thing}`"),
)
_VARIABLE: Final = {"GET": "read", "PUT": "write", "POST": "write", "DELETE": "destroy"}


def needed_right(method: str, path: str, namespace: str) -> Right:
    """What `method` on `path` (without `/v1/`) needs in `namespace`."""
    fitting = (deed for methods, paths, deed in _DEEDS if _fits(methods, paths, method, path))
    deed = next(fitting, f"show `{path}`").replace("{thing}", path.removeprefix("var/"))
    if path == "vars" or path.startswith("var/"):
        return _variable_right(deed, "list" if path == "vars" else _VARIABLE[method], path, namespace)
    for methods, paths, capability in _NAMESPACE:
        if _fits(methods, paths, method, path):
            policy = f'namespace "{namespace}" {{ capabilities = ["{capability}"] }}'
            return Right(deed=deed, text=f"`{capability}` in namespace `{namespace}`", policy=policy)
    for methods, paths, kind, level in _WHOLE:
        if _fits(methods, paths, method, path):
            return Right(deed=deed, text=f"`{kind}:{level}`", policy=f'{kind} {{ policy = "{level}" }}')
    return Right(deed=deed, text=f"a right in namespace `{namespace}`", policy=f'namespace "{namespace}" {{ … }}')


def _variable_right(deed: str, capability: str, path: str, namespace: str) -> Right:
    # The state of a service is one variable and what it names: a policy gives the right to all of it.
    where = f"{path.removeprefix('var/').partition('/pages/')[0]}*" if path != "vars" else "nomad/jobs/*"
    inner = f'variables {{ path "{where}" {{ capabilities = ["{capability}"] }} }}'
    return Right(
        deed=deed,
        text=f"`{capability}` on variables `{where}` in namespace `{namespace}`",
        policy=f'namespace "{namespace}" {{ {inner} }}',
    )


def _fits(methods: str, paths: str, method: str, path: str) -> bool:
    return method.upper() in methods.split("|") and re.fullmatch(paths, path) is not None
