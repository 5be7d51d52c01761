"""One registry host: every request goes through here."""

from collections.abc import Iterable
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse
from urllib3.util import Timeout

from mlops_deploy.errors import UnreachableError

_CONNECT, _READ = 10.0, 60.0

Body = bytes | Iterable[Any]


class Channel:
    """Requests to one registry, `host` as references name it."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.base = f"{'http' if _is_loopback(host) else 'https'}://{host}"
        self._pool = urllib3.PoolManager(num_pools=4, maxsize=8, retries=False, timeout=Timeout(_CONNECT, _READ))

    def request(
        self, method: str, url: str, *, headers: dict[str, str] | None = None, body: Body | None = None
    ) -> BaseHTTPResponse:
        """Send a request to `url`, absolute or below the host; the body of the answer has not been read yet."""
        try:
            return self._pool.request(
                method, self.absolute(url), headers=headers, body=body, redirect=False, preload_content=False
            )
        except HTTPError as error:
            raise UnreachableError(f"the registry `{self.host}` does not answer: {error}") from error

    def absolute(self, url: str) -> str:
        """`url` below this host, or as it is."""
        return url if "://" in url else f"{self.base}{url}"


def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] or host
    return name in {"localhost", "[::1]"} or name.startswith("127.")
