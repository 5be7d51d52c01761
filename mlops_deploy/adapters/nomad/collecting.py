"""Whether clients remove images that they have not pulled themselves, which nobody brings back."""

from collections.abc import Mapping
from typing import Any, Final

from mlops_deploy.adapters.nomad.client import NomadClient
from mlops_deploy.errors import DeployError

_OFF: Final = 'write `gc { image = false }` in `plugin "docker" { config { … } }` of its configuration'
_LOST: Final = "removes the image a few minutes after its last task has ended, and nobody can pull it again"


def collects_images(client: NomadClient) -> str | None:
    """What to beware of with an image that is only in an engine, None where its client is known to keep it.

    An agent knows only of itself: what is known of the one that answers is taken for all.
    """
    try:
        config = client.raw("GET", "agent/self").body["config"]
    except DeployError:
        config = {}
    if not (config.get("Client") or {}).get("Enabled"):
        return f"it is not known whether the cluster's clients keep images that they did not pull; if not, {_OFF}"
    return None if _keeps(config) else f"the client {_LOST}: {_OFF}"


def _keeps(config: Mapping[str, Any]) -> bool:
    plugins = config.get("Plugins") or ()
    settings = next((one.get("Config") or {} for one in plugins if one.get("Name") == "docker"), {})
    return (settings.get("gc") or {}).get("image") is False
