"""The connections to a registry and to the hosts that it sends us to, one pool for each origin.

A connection to another host than the registry's goes to the very address that was looked at, not to what its name
means a moment later. Through a proxy only names and written addresses are looked at: the proxy resolves.
"""

import socket
import ssl
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from threading import Lock
from typing import Any, Final

import urllib3
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, InsecureRequestWarning, NameResolutionError, NewConnectionError
from urllib3.util.connection import create_connection

from mlops_deploy.adapters.registry.addresses import check_resolved, kind
from mlops_deploy.adapters.registry.connections import PlainConnection, PlainPool, TlsConnection, TlsPool
from mlops_deploy.adapters.registry.hosts import Origin
from mlops_deploy.adapters.registry.proxies import proxy_for

_AT_ONCE: Final = 8

Gate = Callable[[list[str]], None]
"""Gets the addresses of a host before one of them is connected to; raises when that must not be."""


class Pools:
    """All pools of one registry. Threads may share it."""

    def __init__(self, environ: Mapping[str, str], context: Callable[[Origin], ssl.SSLContext]) -> None:
        self._environ = environ
        self._context = context
        self._managers: dict[Origin, urllib3.PoolManager] = {}
        self._seen: set[str] = set()
        self._lock = Lock()

    @property
    def near(self) -> bool:
        """Whether the registry has been at private addresses alone, as far as we have connected to it."""
        return _is_near(self._seen)

    def of(self, origin: Origin, home: Origin) -> urllib3.PoolManager:
        """The pool that asks `origin`; the registry's own is `home`."""
        with self._lock:
            if origin not in self._managers:
                self._managers[origin] = self._made(origin, home)
            return self._managers[origin]

    def _made(self, origin: Origin, home: Origin) -> urllib3.PoolManager:
        settings: dict[str, Any] = {"num_pools": 1, "maxsize": _AT_ONCE, "retries": False}
        if origin.scheme == "https":
            settings["ssl_context"] = context = self._context(origin)
            if context.verify_mode == ssl.CERT_NONE:
                urllib3.disable_warnings(InsecureRequestWarning)
        if proxy := proxy_for(origin, self._environ):
            url, headers = proxy
            made: urllib3.PoolManager = urllib3.ProxyManager(url, proxy_headers=headers, **settings)
            made.pool_classes_by_scheme = {"http": PlainPool, "https": TlsPool}
            return made
        return _GatedManager(self._gate(origin, home), **settings)

    def _gate(self, origin: Origin, home: Origin) -> Gate:
        seen = self._seen  # not `self`: a connection that knew its pool would never be collected

        def note(addresses: list[str]) -> None:
            seen.update(kind(ip_address(address.partition("%")[0])) for address in addresses)

        def check(addresses: list[str]) -> None:
            check_resolved(addresses, origin, home, near=_is_near(seen))

        return note if origin.host == home.host else check


def _is_near(seen: set[str]) -> bool:
    return seen == {"private"}


class _GatedManager(urllib3.PoolManager):
    """Its connections pass a gate."""

    def __init__(self, gate: Gate, **settings: Any) -> None:  # noqa: ANN401 - urllib3's own settings
        super().__init__(**settings)
        self._gate = gate
        self.pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}

    def _new_pool(
        self, scheme: str, host: str, port: int, request_context: dict[str, Any] | None = None
    ) -> urllib3.HTTPConnectionPool:
        pool = super()._new_pool(scheme, host, port, request_context)
        assert isinstance(pool, _GatedPool)  # noqa: S101 - for the type checker: both classes above are
        pool.gate = self._gate
        return pool


class _Gated(HTTPConnection):
    gate: Gate

    def _new_conn(self) -> socket.socket:
        try:
            found = socket.getaddrinfo(self._dns_host.strip("[]"), self.port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except UnicodeError as error:
            raise NewConnectionError(self, "that is no name of a host") from error
        addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        self.gate(addresses)
        return self._connected(addresses)

    def _connected(self, addresses: list[str]) -> socket.socket:
        failed: OSError | None = None
        for address in addresses:
            try:
                return create_connection((address, self.port), self.timeout, socket_options=self.socket_options)
            except OSError as error:
                failed = error
        if isinstance(failed, TimeoutError):
            raise ConnectTimeoutError(self, "it takes too long") from failed
        raise NewConnectionError(self, str(failed and failed.strerror)) from failed


class _GatedPlain(_Gated, PlainConnection):
    pass


class _GatedTls(_Gated, TlsConnection):
    pass


class _GatedPool(urllib3.HTTPConnectionPool):
    gate: Gate

    def _new_conn(self) -> Any:  # noqa: ANN401 - as in urllib3, where its type is not public
        made: Any = super()._new_conn()
        made.gate = self.gate
        return made


class _PlainPool(_GatedPool, PlainPool):
    ConnectionCls = _GatedPlain


class _TlsPool(_GatedPool, TlsPool):
    ConnectionCls = _GatedTls
