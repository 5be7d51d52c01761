"""The registries that references name, each asked as this machine is told to."""

from collections.abc import Mapping

from mlops_deploy.adapters.registry.channel import Channel
from mlops_deploy.adapters.registry.repository import HttpRepository
from mlops_deploy.ports import Repository
from mlops_deploy.spec.refs import ImageRef

_DEFAULT = "docker.io"


class HttpRegistries:
    """See `ports.Registries`. One channel for each host, kept for all repositories there."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._channels: dict[str, Channel] = {}

    def repository(self, ref: ImageRef) -> Repository:
        """See `ports.Registries`."""
        host = ref.host or _DEFAULT
        path = ref.name.removeprefix(f"{host}/")
        if host == _DEFAULT and "/" not in path:
            path = f"library/{path}"
        if host not in self._channels:
            self._channels[host] = Channel(host)
        return HttpRepository(self._channels[host], ref.name, path)
