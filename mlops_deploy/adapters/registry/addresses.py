"""Where a registry may send us.

What a registry names — a token server, the place of an upload, a redirect, the next page — is followed on these terms:
`https`, or `http` where the registry itself is asked by it; no user or password in the URL; and no address of this
machine or of its surroundings, however written, unless it is the registry's own host. A registry that is itself at a
private address may name others there: the token server and the blob store of an installation within a network.
"""

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Literal
from urllib.parse import urljoin

from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from mlops_deploy.adapters.registry.hosts import Origin, is_loopback, plain_host
from mlops_deploy.errors import UnusableInputError

Kind = Literal["public", "private", "own"]

_LONGEST: Final = 2**14
_WRITTEN: Final = re.compile(r"[!-\[\]-~]+")
"""Printable ASCII without the backslash, which some take for a slash."""
_NAME: Final = re.compile(r"[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?")
_NUMBER: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
"""What ends in a number is an address in some notation, never a name."""
_PRIVATE: Final[tuple[IPv4Network | IPv6Network, ...]] = tuple(
    ip_network(one) for one in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)
_METADATA: Final = frozenset(ip_address(one) for one in ("fd00:ec2::254", "100.100.100.200"))
"""Clouds' own, within the private networks; the others' are link-local."""
_TRANSLATED: Final = ip_network("64:ff9b::/96")
_TUNNELLED: Final = tuple(
    ip_network(one) for one in ("::ffff:0:0/96", "2002::/16", "2001::/32", "::/96", "64:ff9b:1::/48")
)
_RESERVED: Final = tuple(ip_network(one) for one in ("192.0.0.0/24", "fec0::/10"))
"""Not global, though the `ipaddress` of some Pythons says so; a cloud has its metadata in the first."""


def check_url(url: str, base: str, home: Origin, *, near: bool = False) -> str:
    """`url` as seen from `base`, absolute; raise `UnusableInputError` when it may not be followed.

    `home` is the registry's own origin, `near` whether that is at a private address. A URL of the registry's own host
    that has lost its port gets it back. Names are not resolved here: see `check_resolved`.
    """
    parsed = _parsed(url, base, home)
    if parsed.scheme not in {"http", "https"} or (parsed.scheme == "http" and home.scheme != "http"):
        raise refused(home, Origin.of_parsed(parsed), "only https is followed")
    if plain_host(parsed.host or "") != home.host:
        _check_host(parsed, home, near=near)
    elif parsed.port is None and parsed.scheme == home.scheme:
        parsed = parsed._replace(port=home.port)
    return parsed._replace(fragment=None).url


def check_resolved(addresses: Iterable[str], origin: Origin, home: Origin, *, near: bool) -> None:
    """Refuse a host, not the registry's own, that resolves to an address where nothing is to be asked of."""
    for address in addresses:
        if not _follows(kind(ip_address(address.partition("%")[0])), near=near):
            raise refused(home, origin, f"its address `{address}` is not public")


def kind(address: IPv4Address | IPv6Address) -> Kind:
    """`own` is what only this machine or its link knows, or what hides another address; never asked."""
    if isinstance(address, IPv6Address) and address in _TRANSLATED:
        return kind(IPv4Address(int(address) & 0xFFFFFFFF))
    if address in _METADATA or any(address in network for network in (*_TUNNELLED, *_RESERVED)):
        return "own"
    if any(address in network for network in _PRIVATE):
        return "private"
    return "public" if address.is_global and not address.is_multicast and not address.is_reserved else "own"


def refused(home: Origin, origin: Origin, reason: str) -> UnusableInputError:
    """The error of a URL that is not followed; it shows where to, never the URL's path and query."""
    return UnusableInputError(
        f"the registry `{home.host}` sends us to `{origin}`, where we do not go: {reason}",
        hint="ask whoever runs the registry; nothing was sent there",
    )


def _parsed(url: str, base: str, home: Origin) -> Url:
    if len(url) > _LONGEST or not _WRITTEN.fullmatch(url):
        raise UnusableInputError(f"the registry `{home.host}` sends us to what is no URL")
    try:
        parsed = parse_url(urljoin(base, url))
    except (LocationParseError, ValueError):
        raise UnusableInputError(f"the registry `{home.host}` sends us to what is no URL") from None
    if not parsed.host or parsed.auth is not None:
        raise UnusableInputError(f"the registry `{home.host}` sends us to a URL without host, or with a user in it")
    return parsed


def _check_host(parsed: Url, home: Origin, *, near: bool) -> None:
    origin = Origin.of_parsed(parsed)
    host = origin.host
    if host.startswith("[") or re.fullmatch(r"[0-9.]+", host):
        _check_literal(host.strip("[]"), origin, home, near=near)
    elif is_loopback(host) or _NUMBER.fullmatch(host) or not _NAME.fullmatch(host):
        raise refused(home, origin, "that is no name of a public host")


def _check_literal(text: str, origin: Origin, home: Origin, *, near: bool) -> None:
    try:
        address = ip_address(text)
    except ValueError:
        raise refused(home, origin, "that is no address as it is usually written") from None
    if not _follows(kind(address), near=near):
        raise refused(home, origin, "that address is not public")


def _follows(what: Kind, *, near: bool) -> bool:
    return what == "public" or (what == "private" and near)
