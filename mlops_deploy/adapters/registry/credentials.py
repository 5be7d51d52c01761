"""Credentials where `docker login` and `podman login` leave them.

The first of these that knows the registry is believed, in the order of podman and skopeo: `$REGISTRY_AUTH_FILE` (then
nothing else is read), `$XDG_RUNTIME_DIR/containers/auth.json` (without that variable `/run/containers/UID/auth.json`),
`$XDG_CONFIG_HOME/containers/auth.json`, then docker's: what `DOCKER_AUTH_CONFIG` itself holds, and
`$DOCKER_CONFIG/config.json` or `~/.docker/config.json`. Within a file, as docker does: `credHelpers`, `credsStore`,
`auths`; of the variable `auths` alone. A `.netrc` is not read.
"""

import binascii
import json
import os
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from mlops_deploy.adapters.registry.helpers import HelperError, ask_helper
from mlops_deploy.adapters.registry.hosts import credential_keys
from mlops_deploy.adapters.registry.identity import Identity, identity_of
from mlops_deploy.errors import UnusableInputError
from mlops_deploy.ports import Runner

_LARGEST: Final = 2**22
_VARIABLE: Final = "DOCKER_AUTH_CONFIG"


class Credentials:
    """Who we are at the registry that references call `registry`."""

    def __init__(self, registry: str, environ: Mapping[str, str], runner: Runner) -> None:
        self._registry = registry
        self._keys = credential_keys(registry)
        self._places = tuple(_places(environ))
        self._variable = environ.get(_VARIABLE, "").strip()
        self._runner = runner
        self._asked: dict[tuple[str, str], Identity | None] = {}
        self.trouble: list[str] = []
        """What went wrong with helpers; then we ask without a name, and say this when that is denied."""

    def find(self, repository: str) -> Identity | None:
        """Who we are towards the registry's `repository`; None for nobody.

        Raises `UnusableInputError` for a file that cannot be read, or is no JSON. A helper that fails counts as one
        that knows nothing, and is told of in `trouble`.
        """
        return next((found for place in self._places if (found := self._in(place, repository))), None)

    def _in(self, place: Path | None, repository: str) -> Identity | None:
        if place is None:
            return self._in_auths(_VARIABLE, _parsed(_VARIABLE, self._variable or "{}"), repository)
        document = _read(place)
        helpers, store = _map(document.get("credHelpers")), document.get("credsStore")
        for key in self._keys:
            if isinstance(name := helpers.get(key), str):
                return self._ask(name, key)
        found = self._ask(store, self._keys[0]) if store and isinstance(store, str) else None
        return found or self._in_auths(str(place), document, repository)

    def _in_auths(self, source: str, document: Mapping[str, Any], repository: str) -> Identity | None:
        """The entry of the longest part of the repository's name, else of the registry under any of its names."""
        auths = _map(document.get("auths"))
        parts = repository.split("/")
        names = [f"{self._registry}/{'/'.join(parts[:count])}" for count in range(len(parts), 0, -1)]
        hosts = {*self._keys, self._registry}
        legacy = [key for key in auths if _host_of(key) in hosts]
        for key in (*names, *self._keys, *legacy):
            if key in auths and (found := _entry(source, key, _map(auths[key]))):
                return found
        return None

    def _ask(self, name: str, server: str) -> Identity | None:
        if (name, server) not in self._asked:
            self._asked[name, server] = None
            try:
                self._asked[name, server] = ask_helper(name, server, self._runner)
            except HelperError as error:
                self.trouble.append(str(error))
        return self._asked[name, server]


def _places(environ: Mapping[str, str]) -> Iterator[Path | None]:
    """The files in their order, and None for the variable that is one itself."""
    if chosen := environ.get("REGISTRY_AUTH_FILE"):
        if not Path(chosen).exists():
            raise UnusableInputError(
                f"there is no `{chosen}`, which `REGISTRY_AUTH_FILE` names", hint="log in, or unset the variable"
            )
        yield Path(chosen)
        return
    home = Path(environ.get("HOME") or os.path.expanduser("~"))  # noqa: PTH111 - Path.home() reads the variable again
    runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/containers/{os.getuid()}"
    yield Path(runtime, "containers" if environ.get("XDG_RUNTIME_DIR") else "", "auth.json")
    yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config", "containers", "auth.json")
    yield None
    yield Path(environ.get("DOCKER_CONFIG") or home / ".docker", "config.json")


def _read(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            return _parsed(str(path), file.read(_LARGEST) or b"{}")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UnusableInputError(f"the credentials in `{path}` cannot be read: {error.strerror}") from None


def _parsed(source: str, text: bytes | str) -> Mapping[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        place = f" at line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UnusableInputError(f"`{source}` is no JSON{place}", hint=_way_out(source)) from None
    if not isinstance(document, dict):
        raise UnusableInputError(f"`{source}` holds no JSON object", hint=_way_out(source))
    return document


def _host_of(key: str) -> str | None:
    """The registry of a key of the old form `https://HOST/v1/`."""
    _, scheme, rest = key.rpartition("://")
    return rest.partition("/")[0] if scheme else None


def _entry(place: str, key: str, entry: Mapping[str, Any]) -> Identity | None:
    source = f"`{place}` for `{key}`"
    user, password = entry.get("username"), entry.get("password")
    if auth := entry.get("auth"):
        user, password = _decoded(auth, source)
    if isinstance(token := entry.get("identitytoken"), str) and token:
        return identity_of("<token>", token, source)
    if isinstance(user, str) and isinstance(password, str) and user and password:
        return identity_of(user, password, source)
    return None  # docker leaves an empty entry where a helper has the credentials


def _decoded(auth: object, source: str) -> tuple[str, str]:
    with suppress(binascii.Error, ValueError):
        user, colon, password = b64decode("".join(str(auth).split()), validate=True).decode().partition(":")
        if colon:
            return user, password.strip("\0")
    raise UnusableInputError(
        f"the entry `auth` in {source} is not the base64 of `USER:PASSWORD`", hint=_way_out(source)
    )


def _way_out(source: str) -> str:
    return "mend the variable, or unset it" if source.lstrip("`").startswith(_VARIABLE) else "mend it, or log in anew"


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
