"""One HTTP session with the cluster: what every request carries, and how every failure reads.

Also python-nomad asks through it, so what that library leaves out or sets otherwise is put right here: the namespace,
the region, TLS, the time a request may take, and its errors.
"""

import base64
import ipaddress
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies

from mlops_deploy.adapters.nomad.errors import absent, document, refusal, silence, strange
from mlops_deploy.adapters.nomad.settings import Cluster
from mlops_deploy.adapters.nomad.unix import UnixAdapter
from mlops_deploy.errors import ConflictError

if TYPE_CHECKING:
    from requests.adapters import _HostParams

PATIENCE: Final = 10.0
"""Seconds for an answer, where the caller does not say otherwise."""

_OURS: Final = {"headers": None, "cert": None, "verify": True, "allow_redirects": False}
"""What python-nomad may not say for one request: it asks the environment of this process, also where a test or a
service has chosen otherwise."""

_LEFT_TO_CALLERS: Final = {404, 409}


class Session(requests.Session):
    """Asks one cluster; whatever is not the answer that was wanted is raised as our own error."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self._cluster = cluster
        self.trust_env = False  # a .netrc knows nothing of Nomad, and authorities of other programs are not ours
        self.proxies.update(_proxies(cluster))
        self.headers.update(headers(cluster))
        if cluster.user is not None:
            self.headers["Authorization"] = f"Basic {base64.b64encode(cluster.user.reveal().encode()).decode()}"
        self._mount()

    def ask(self, method: str, url: str, **options: object) -> requests.Response:
        """One request and its whole answer, which is 2xx, 404 or 409."""
        settled = {**options, **_OURS, "params": self._parameters(options.get("params"))}
        settled["timeout"] = options.get("timeout") or PATIENCE
        try:
            answer = super().request(method, url, **settled)  # type: ignore[arg-type]  # what requests knows, passed on
        except requests.RequestException as error:
            raise silence(self._cluster, error) from error
        _check(self._cluster, answer)
        return answer

    def request(self, method: str, url: str, **options: object) -> requests.Response:  # type: ignore[override]  # of them, some
        """The same for python-nomad, which then gets 2xx alone: `AbsentError` for a 404, `ConflictError` for a 409."""
        answer = self.ask(method, url, **options)
        if answer.status_code == requests.codes.not_found:
            raise absent(answer)
        if answer.status_code == requests.codes.conflict:
            raise ConflictError("somebody else was there before", detail=(answer.text[:300],), hint="run this again")
        if not _is_text(answer) and answer.status_code != requests.codes.no_content:
            document(self._cluster, answer)
        return answer

    def _parameters(self, given: object) -> dict[str, str]:
        more = given if isinstance(given, Mapping) else {}
        whole = {"namespace": self._cluster.namespace, **more, "region": self._cluster.region}
        return {name: _written(value) for name, value in whole.items() if value is not None}

    def _mount(self) -> None:
        for adapter in self.adapters.values():
            adapter.close()
        self.adapters.clear()
        if self._cluster.socket:
            self.mount("http://", UnixAdapter(self._cluster.socket))
        elif self._cluster.address.startswith("https://"):
            self.mount("https://", _Tls(self._cluster))
        else:
            self.mount("http://", HTTPAdapter())


class _Tls(HTTPAdapter):
    """TLS by one context, the cluster's; what requests would choose is left aside."""

    def __init__(self, cluster: Cluster) -> None:
        self._with: dict[str, Any] = {"ssl_context": cluster.tls()}
        if cluster.server_name:
            self._with["server_hostname"] = cluster.server_name
        if cluster.skip_verify:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # the user has asked for it
        super().__init__()

    def build_connection_pool_key_attributes(
        self,
        request: requests.PreparedRequest,
        verify: "bool | str",
        cert: str | tuple[str, str] | None = None,
    ) -> "tuple[_HostParams, Any]":
        """Where to, and our own context."""
        host, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, dict(self._with)

    def cert_verify(self, conn: object, url: object, verify: object, cert: object) -> None:
        """Nothing: the context verifies."""


def _check(cluster: Cluster, answer: requests.Response) -> None:
    kind = answer.headers.get("Content-Type", "")
    answer.encoding = "utf-8"
    if "html" in kind or 300 <= answer.status_code < 400:  # noqa: PLR2004  # redirections
        raise strange(cluster, answer)
    if answer.status_code >= 400 and answer.status_code not in _LEFT_TO_CALLERS:  # noqa: PLR2004  # errors
        raise refusal(cluster, answer)


def _is_text(answer: requests.Response) -> bool:
    return "/client/fs/" in (answer.request.url or "")


def headers(cluster: Cluster) -> dict[str, str]:
    """What every request says of itself and of who asks."""
    always = {"User-Agent": "mlops-deploy"}
    return always if cluster.token is None else always | {"X-Nomad-Token": cluster.token.reveal()}


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _proxies(cluster: Cluster) -> dict[str, str]:
    """The proxies of the environment, never one to this machine itself."""
    host = urlsplit(cluster.address).hostname or ""
    return {} if cluster.socket or is_loopback(host) else dict(get_environ_proxies(cluster.address))


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine by its name."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
