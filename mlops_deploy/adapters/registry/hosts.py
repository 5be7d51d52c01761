"""Which host a reference means, and under which names its credentials and certificates are kept."""

import ipaddress
from dataclasses import dataclass
from typing import Final

from urllib3.util import Url, parse_url

from mlops_deploy.spec.refs import ImageRef

DOCKER_HUB: Final = "docker.io"
_HUB_NAMES: Final = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})
_HUB_HOST: Final = "registry-1.docker.io"
_HUB_KEYS: Final = ("https://index.docker.io/v1/", "index.docker.io", DOCKER_HUB)
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Scheme, host and port: what a credential is bound to."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "Origin":
        """The origin of an absolute URL, with the scheme's own port where it names none."""
        return cls.of_parsed(parse_url(url))

    @classmethod
    def of_parsed(cls, url: Url) -> "Origin":
        """The same of a URL that has been taken apart."""
        scheme = url.scheme or ""
        return cls(scheme=scheme, host=plain_host(url.host or ""), port=url.port or _PORTS.get(scheme, 0))

    def __str__(self) -> str:
        port = "" if self.port == _PORTS.get(self.scheme) else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"


def registry_host(name: str) -> str:
    """Where the registry answers that references call `name`: Docker Hub's is another than its name."""
    return _HUB_HOST if name in _HUB_NAMES else name


def credential_keys(name: str) -> tuple[str, ...]:
    """Under which names credential files and helpers know the registry `name`, docker's own first."""
    return _HUB_KEYS if name in _HUB_NAMES else (name,)


def repository_path(ref: ImageRef) -> tuple[str, str]:
    """The registry that `ref` names, and the repository there: `docker.io` and `library/…` where it names none."""
    host = ref.host or DOCKER_HUB
    path = ref.name.removeprefix(f"{host}/")
    return host, f"library/{path}" if host in _HUB_NAMES and "/" not in path else path


def plain_host(host: str) -> str:
    """A host for comparing: lower case, without the dot that ends a full name."""
    return host.lower().rstrip(".")


def host_and_port(name: str) -> tuple[str, int | None]:
    """Take `registry.example.com:5000` or `[::1]:5000` apart."""
    parsed = parse_url(f"//{name}")
    return plain_host(parsed.host or ""), parsed.port


def is_loopback(host: str) -> bool:
    """Whether a host, without port, is this machine by its very name."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
