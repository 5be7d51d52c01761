"""A look at a server image for who needs none: what answers soon is believed, what does not is done without."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import Final, TypeVar

from mlops_deploy.api.registry_images import FindRegistries, image_labels, look_up, registry_ref
from mlops_deploy.errors import DeployError
from mlops_deploy.ports import Engine, Registries
from mlops_deploy.spec.refs import ImageRef

_ENGINE: Final = 1.0
_REGISTRY: Final = 5.0
"""Seconds that each may take."""

Labels = Mapping[str, str]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """What an image says of itself; `ref` names it for ever where its registry has told its digest."""

    ref: str
    labels: Labels


def glance(text: str, engine: Callable[[], Engine], registries: FindRegistries) -> Glance | None:
    """The image that `text` names: in its registry, where it names one, else in the engine.

    None where neither shows it within a few seconds; nothing is raised.
    """
    ref = registry_ref(text)
    if ref is not None and (found := _soon(lambda: _in_registry(ref, registries()), _REGISTRY)) is not None:
        return found
    with suppress(DeployError):
        there = engine()
        labels = _soon(lambda: there.labels(text), _ENGINE)
        return None if labels is None else Glance(ref=text, labels=labels)
    return None


def _in_registry(ref: ImageRef, registries: Registries) -> Glance:
    found = look_up(ref, registries)
    pinned = ref if ref.digest else ImageRef(name=ref.name, digest=found.digest)
    return Glance(ref=str(pinned), labels=image_labels(found))


def _soon(look: Callable[[], _T | None], seconds: float) -> _T | None:
    """What `look` finds within `seconds`; who waits longer is left behind, and ends with the program."""
    found: list[_T | None] = []

    def work() -> None:
        with suppress(DeployError):
            found.append(look())

    thread = Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else None
