"""The router of one service as a HAProxy configuration. Pure; every value is checked, so that none can say more."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from jinja2 import Environment

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.render.template import environment
from mlops_deploy.resources import JOBS
from mlops_deploy.spec.preset import Placeholder, Preset, fill

TEMPLATE: Final = "router/haproxy.cfg.j2"

LISTEN: Final = "ROUTER_ADDRESS"
"""The variable by which a router in a cluster knows where to listen."""

_SERVICE: Final = re.compile(r"[a-z](?:[a-z0-9-]{0,62}[a-z0-9])?")
_HOST: Final = r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])"
_PORT: Final = r"[1-9][0-9]{0,4}"
_LISTEN: Final = re.compile(rf"(?:\*|{_HOST}):({_PORT})")
_SERVER: Final = re.compile(rf"{_HOST}:({_PORT})")
_PORTS: Final = range(1, 65536)
_STATUS: Final = range(100, 600)
_ANSWER: Final = range(1, 86401)
_PATH: Final = re.compile(r"/[A-Za-z0-9._~!$&()*+,;=:@/%-]*")
_PATTERN: Final = re.compile(r"\{(id12|id)\}")
_DIGITS: Final = {"id12": "[0-9a-f]{12}", "id": "[0-9a-f]{64}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSettings:
    """What a router is made of. `listen` is `HOST:PORT` or `*:PORT`; `a` and `b` are the slots' servers, `HOST:PORT`.

    None for any of them: a cluster says it to the running router, and moves the servers as it likes. `by_name` resolves
    names by the engine's DNS and follows their addresses. `check_path` answers `check_status` once a model is loaded,
    whichever it is. `paths` pass, and nothing else: `{id12}` and `{id}` in them stand for 12 and 64 hex digits. An
    answer may take `answer` seconds.
    """

    service: str
    listen: str | None
    a: str | None
    b: str | None
    by_name: bool
    check_path: str
    paths: Sequence[str]
    check_status: int = 200
    answer: int = 600


def router_paths(preset: Preset, model: str) -> tuple[str, ...]:
    """What `preset` lets pass for the model of this name, whichever version is asked for: `RouterSettings.paths`."""
    kept: dict[Placeholder, str] = {"name": model, "id": "{id}", "id12": "{id12}"}
    return tuple(fill(path, kept) for path in preset.allow_paths)


def render_router(settings: RouterSettings) -> str:
    """The configuration, the same bytes for the same settings; raises `UnusableInputError` for a value it cannot hold.

    It names its sockets by the variable `RUN`, and the route map relative to the state folder.
    """
    _check(settings)
    return _environment().get_template(TEMPLATE).render(
        service=settings.service,
        listen=settings.listen or f'"${{{LISTEN}}}"',
        slots=[_slot("a", settings.a), _slot("b", settings.b)],
        found=" resolvers engine resolve-prefer ipv4 init-addr none" if settings.by_name else "",
        by_name=settings.by_name,
        check_path=settings.check_path,
        check_status=settings.check_status,
        paths=[_matching(path) for path in settings.paths],
        answer=settings.answer,
    )  # fmt: skip


def _check(settings: RouterSettings) -> None:
    _require(_SERVICE.fullmatch(settings.service), "service", settings.service, "a service's name")
    _require_address(_LISTEN, "listen", settings.listen)
    _require_address(_SERVER, "a", settings.a)
    _require_address(_SERVER, "b", settings.b)
    _require(_PATH.fullmatch(settings.check_path), "check path", settings.check_path, "a path such as `/v2/ready`")
    _require(settings.check_status in _STATUS, "check status", str(settings.check_status), "an HTTP status")
    _require(settings.answer in _ANSWER, "answer", str(settings.answer), "1 to 86400 seconds")
    _require(settings.paths, "paths", "", "at least one: a router without any lets nothing pass")


def _slot(name: str, address: str | None) -> dict[str, str]:
    """A slot's server; one without an address gets it, and whether it is served, from the keeper's own file."""
    variable = f"SLOT_{name.upper()}"
    if address is None:
        return {"name": name, "address": f'"${{{variable}}}"', "state": f' "${{{variable}_STATE}}"'}
    return {"name": name, "address": address, "state": ""}


def _matching(path: str) -> str:
    """What HAProxy compares the whole of a request's path with, byte by byte, as it was sent."""
    plain = _PATTERN.sub("", path)
    _require(_PATH.fullmatch(plain), "path", path, "a path such as `/v2/models/digits/infer`")
    if plain == path:
        return f"-m str '{path}'"
    parts = _PATTERN.split(path)
    pattern = "".join(_DIGITS[part] if index % 2 else re.escape(part) for index, part in enumerate(parts))
    return f"-m reg '^{pattern}$'"


def _require_address(pattern: re.Pattern[str], what: str, value: str | None) -> None:
    if value is not None:
        found = pattern.fullmatch(value)
        _require(found and int(found[1]) in _PORTS, what, value, "`HOST:PORT`")


def _require(good: object, what: str, value: str, expected: str) -> None:
    if not good:
        raise UnusableInputError(f"router: `{value[:80]}` cannot be `{what}`", hint=f"expected {expected}")


@functools.cache
def _environment() -> Environment:
    return environment(JOBS)
