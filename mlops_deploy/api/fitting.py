"""Which models fit which servers: those that are named, or all that are at hand."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from mlops_deploy.api.carriers import find_carrier, inspect_carrier
from mlops_deploy.api.compat import PROVIDES, require_no_carrier, server_provides
from mlops_deploy.api.registry_images import FindRegistries, image_labels, look_up, registry_ref
from mlops_deploy.api.server_inputs import known_preset
from mlops_deploy.compat.provides import Provides
from mlops_deploy.compat.verdict import Level, Verdict, compare, overall
from mlops_deploy.errors import UnreachableError, UnusableInputError
from mlops_deploy.ports import Engine
from mlops_deploy.spec.deploy import DeploySpec
from mlops_deploy.spec.owner import LABEL
from mlops_deploy.store.layout import LayoutStore

PRESET: Final = f"{LABEL}preset"
"""The label of `build-server` that says what a server is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A carrier's model, as people call it, and what it is and needs."""

    ref: str
    formats: tuple[str, ...]
    requires: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server image, and what it provides, as far as anything says so; `labelled` when the image itself does."""

    ref: str
    labelled: bool = True
    provides: Provides | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """One model on one server."""

    model: Model
    server: Server
    verdicts: tuple[Verdict, ...]

    @property
    def level(self) -> Level:
        """The worst that is said of it."""
        return overall(self.verdicts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where models and servers are looked for."""

    spec: DeploySpec | None
    store: LayoutStore
    engine: Engine
    registries: FindRegistries


def fits(models: Iterable[Model], servers: Iterable[Server]) -> Iterator[Fit]:
    """Each model on each server."""
    known = tuple(servers)
    for model in models:
        for server in known:
            verdicts = compare(model.formats, model.requires, server.provides)
            yield Fit(model=model, server=server, verdicts=verdicts)


def named_model(text: str, places: Places) -> Model:
    """The model of the carrier that `text` names, in a file, the store or a registry."""
    view = inspect_carrier(find_carrier(text, places.store, places.registries))
    card = view.listing.card
    return Model(ref=f"{card.name}@{view.listing.content_id.short}", formats=card.formats, requires=card.requires)


def newest_models(places: Places) -> tuple[Model, ...]:
    """The newest carrier of each model in the store, by name."""
    names = sorted({stored.name for stored in places.store.builds()})
    found = (places.store.newest(name) for name in names)
    return tuple(
        Model(ref=f"{one.name}@{one.content_id.short}", formats=one.formats, requires=one.requires)
        for one in found
        if one is not None
    )


def named_server(text: str, places: Places) -> Server:
    """The server image that `text` names, in the engine or else in its registry.

    Raises `UnusableInputError` where neither has it, or it is a carrier.
    """
    ref, found = registry_ref(text), None
    try:
        found = places.engine.labels(text)
    except UnreachableError:
        if ref is None:
            raise
    if found is None and ref is not None:
        found = image_labels(look_up(ref, places.registries()))
    if found is None:
        raise UnusableInputError(
            f"the engine has no image `{text}`", hint="`mlops-deploy build-server` makes one; `docker images` lists all"
        )
    require_no_carrier(text, found)
    return _server(text, found, places)


def servers_at_hand(places: Places) -> tuple[Server, ...]:
    """The images of the engine that say what they provide, then the configured one, where it is known."""
    listed = places.engine.labelled(PROVIDES) if places.engine.ping() else {}
    servers = [_server(name, labels, places) for name, labels in sorted(listed.items())]
    configured = places.spec.server.image if places.spec else None
    if configured is not None and configured not in listed:
        with suppress(UnusableInputError, UnreachableError):
            servers.append(named_server(configured, places))
    return tuple(servers)


def _server(ref: str, labels: Mapping[str, str], places: Places) -> Server:
    """Its preset is the one it was built from; of an image of others, the one that is configured for it."""
    configured = places.spec.preset if places.spec and places.spec.server.image == ref else None
    name = labels.get(PRESET, configured)
    preset = None
    with suppress(UnusableInputError):
        preset = known_preset(name) if name else None
    return Server(ref=ref, labelled=PROVIDES in labels, provides=server_provides(labels, preset))
