"""How this server listens: read from the environment. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass


class SettingsError(Exception):
    """An environment variable does not say what it must, or a port is taken."""

    exit_code = 78


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Address, ports (`grpc_port` 0 is off) and the path of the hook file, if there is one."""

    host: str
    port: int
    grpc_port: int
    hook: str | None


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Take `HOST`, `PORT`, `GRPC_PORT` and `HOOK`; raise `SettingsError` for what is no port."""
    return Settings(
        host=environ.get("HOST") or "0.0.0.0",  # noqa: S104 - a container is reached from outside
        port=_port(environ, "PORT", 8080),
        grpc_port=_port(environ, "GRPC_PORT", 8081) if environ.get("GRPC_PORT", "8081") else 0,
        hook=environ.get("HOOK") or None,
    )


def _port(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isdecimal() or int(text) >= 1 << 16:
        raise SettingsError(f"`{name}` is `{text}`: expected a port")
    return int(text)
