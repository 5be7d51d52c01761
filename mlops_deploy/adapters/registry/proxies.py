"""The proxies that the environment names: `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`, in either case."""

import ipaddress
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import unquote

from urllib3.exceptions import LocationParseError
from urllib3.util import Url, make_headers, parse_url

from mlops_deploy.adapters.registry.hosts import Origin, is_loopback
from mlops_deploy.errors import UnusableInputError


def proxy_for(origin: Origin, environ: Mapping[str, str]) -> tuple[str, dict[str, str]] | None:
    """The URL of the proxy for `origin`, and the headers that tell it who we are; None to go there directly.

    This machine itself is never asked through a proxy.
    """
    name = f"{origin.scheme}_proxy"
    if not (said := _variable(environ, name)) or is_loopback(origin.host) or _exempt(origin, environ):
        return None
    proxy = _parsed(said, name.upper())
    headers = make_headers(proxy_basic_auth=unquote(proxy.auth)) if proxy.auth else {}
    return proxy._replace(auth=None).url, dict(headers)


def _parsed(said: str, name: str) -> Url:
    with suppress(LocationParseError, ValueError):
        proxy = parse_url(said if "://" in said else f"http://{said}")
        if proxy.host and proxy.scheme in {"http", "https"}:
            return proxy
    raise UnusableInputError(f"`{name}` is no URL of an HTTP proxy", hint="expected `http://[USER:PASSWORD@]HOST:PORT`")


def _exempt(origin: Origin, environ: Mapping[str, str]) -> bool:
    listed = (one.strip().lower() for one in _variable(environ, "no_proxy").split(","))
    return any(_matches(origin, one) for one in listed if one)


def _matches(origin: Origin, rule: str) -> bool:
    """`*`, `example.com` with all below it, `.example.com`, an address or a network, each with or without `:PORT`."""
    host = origin.host.strip("[]")
    with suppress(ValueError):
        return ipaddress.ip_address(host) in ipaddress.ip_network(rule, strict=False)
    name, colon, port = rule.rpartition(":")
    if colon and port.isdigit():
        return int(port) == origin.port and _matches(origin, name.strip("[]"))
    bare = rule.removeprefix("*.").lstrip(".")
    return rule == "*" or host.endswith(f".{bare}") or (host == bare and not rule.startswith((".", "*.")))


def _variable(environ: Mapping[str, str], name: str) -> str:
    return (environ.get(name) or environ.get(name.upper()) or "").strip()
