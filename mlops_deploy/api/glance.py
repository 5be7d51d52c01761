"""A look at a server image for who needs none: what answers soon is believed, what does not is done without."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Thread
from typing import Final

from mlops_deploy.api.registry_images import FindRegistries, image_labels, look_up, registry_ref
from mlops_deploy.errors import DeployError
from mlops_deploy.ports import Engine

_ENGINE: Final = 1.0
_REGISTRY: Final = 5.0
"""Seconds that each may take."""

Labels = Mapping[str, str]


def glance(text: str, engine: Callable[[], Engine], registries: FindRegistries) -> Labels | None:
    """The labels of the image that `text` names: in its registry, where it names one, else in the engine.

    None where neither shows it within a few seconds; nothing is raised.
    """
    ref = registry_ref(text)
    if ref is not None:
        found = _soon(lambda: image_labels(look_up(ref, registries())), _REGISTRY)
        if found is not None:
            return found
    with suppress(DeployError):
        there = engine()
        return _soon(lambda: there.labels(text), _ENGINE)
    return None


def _soon(look: Callable[[], Labels | None], seconds: float) -> Labels | None:
    """What `look` finds within `seconds`; who waits longer is left behind, and ends with the program."""
    found: list[Labels | None] = []

    def work() -> None:
        with suppress(DeployError):
            found.append(look())

    thread = Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else None
