"""How this server listens: read from the environment. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

MAX_REQUEST_BYTES: Final = 16 << 20
_LARGEST: Final = (1 << 31) - 1  # what gRPC can be told
_LONGEST: Final = 12  # digits


class SettingsError(Exception):
    """An environment variable does not say what it must, or a port is taken."""

    exit_code = 78


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Address, ports (`grpc_port` 0 is off), the path of the hook file, if there is one, and the largest request."""

    host: str
    port: int
    grpc_port: int
    hook: str | None
    max_request_bytes: int


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Take `HOST`, `PORT`, `GRPC_PORT`, `HOOK` and `MAX_REQUEST_BYTES`; raise `SettingsError` for what is no number."""
    return Settings(
        host=environ.get("HOST") or "0.0.0.0",  # noqa: S104 - a container is reached from outside
        port=_port(environ, "PORT", 8080),
        grpc_port=_port(environ, "GRPC_PORT", 8081) if environ.get("GRPC_PORT", "8081") else 0,
        hook=environ.get("HOOK") or None,
        max_request_bytes=_size(environ, "MAX_REQUEST_BYTES", MAX_REQUEST_BYTES),
    )


def _port(environ: Mapping[str, str], name: str, default: int) -> int:
    number = _whole(environ, name, default)
    if number is None or number >= 1 << 16:
        raise SettingsError(f"`{name}` is `{environ[name]}`: expected a port")
    return number


def _size(environ: Mapping[str, str], name: str, default: int) -> int:
    number = _whole(environ, name, default)
    if not number or number > _LARGEST:
        raise SettingsError(f"`{name}` is `{environ[name]}`: expected a number of bytes, at most {_LARGEST}")
    return number


def _whole(environ: Mapping[str, str], name: str, default: int) -> int | None:
    text = environ.get(name) or str(default)
    return int(text) if text.isdecimal() and len(text) <= _LONGEST else None
