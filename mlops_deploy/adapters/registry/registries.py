"""The registries that references name, each asked as this machine is told to."""

from collections.abc import Iterable, Mapping
from threading import Lock

from mlops_deploy.adapters.registry.access import HttpAccess
from mlops_deploy.adapters.registry.channel import Channel
from mlops_deploy.adapters.registry.credentials import Credentials
from mlops_deploy.adapters.registry.hosts import repository_path
from mlops_deploy.adapters.registry.modes import Modes
from mlops_deploy.adapters.registry.repository import HttpRepository
from mlops_deploy.adapters.registry.trust import Trust
from mlops_deploy.ports import Repository, Runner
from mlops_deploy.spec.refs import ImageRef


class HttpRegistries:
    """See `ports.Registries`. One channel for each registry, kept for all repositories there.

    `insecure` names the hosts that may be asked without trust, besides those that `MLOPS_DEPLOY_INSECURE_REGISTRIES`
    names, separated by commas.
    """

    def __init__(self, environ: Mapping[str, str], runner: Runner, insecure: Iterable[str] = ()) -> None:
        self._environ = environ
        self._runner = runner
        named = environ.get("MLOPS_DEPLOY_INSECURE_REGISTRIES", "").split(",")
        self._insecure = frozenset(one.strip() for one in (*named, *insecure) if one.strip())
        self._modes = Modes.of(environ)
        self._channels: dict[str, Channel] = {}
        self._lock = Lock()

    def repository(self, ref: ImageRef) -> Repository:
        """See `ports.Registries`."""
        registry, path = repository_path(ref)
        with self._lock:
            if registry not in self._channels:
                self._channels[registry] = Channel(registry, self._access(registry), modes=self._modes)
        return HttpRepository(self._channels[registry], ref.name, path)

    def _access(self, registry: str) -> HttpAccess:
        credentials = Credentials(registry, self._environ, self._runner)
        trust = Trust(registry, self._environ)
        return HttpAccess(registry, credentials, trust, self._environ, insecure=self._insecure)
