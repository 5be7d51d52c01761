"""What a release on Nomad registers, told from the configuration and the store alone."""

from collections.abc import Callable
from dataclasses import replace
from typing import cast

from mlops_deploy.api.artefact import job_carrier, make_artefact
from mlops_deploy.api.compat import engine_provides, preset_provides
from mlops_deploy.api.pulled import in_registry
from mlops_deploy.api.router_config import router_config
from mlops_deploy.api.router_image import nomad_router_image
from mlops_deploy.api.server_inputs import known_preset
from mlops_deploy.api.service import Forecaster
from mlops_deploy.compat.provides import Provides
from mlops_deploy.errors import UnreachableError
from mlops_deploy.ports import Engine
from mlops_deploy.release.forecast import Forecast
from mlops_deploy.release.state import Artefact, Slot
from mlops_deploy.render.nomad import release_warnings, slot_job
from mlops_deploy.spec.deploy import DeploySpec, JsonValue
from mlops_deploy.spec.preset import Preset
from mlops_deploy.spec.refs import ImageRef
from mlops_deploy.spec.rendered import JobImage
from mlops_deploy.store.layout import Stored


def nomad_artefact(
    spec: DeploySpec, carrier: Stored, preset: Preset, image: JobImage, server_id: str | None
) -> Artefact:
    """The model of `carrier` on the server `image`, as a job for any slot.

    The job names an image that is only in an engine by its id: a node that has it takes this one and asks no registry,
    whatever its name comes to mean. One that is named by a registry's digest keeps that name, so that every node can
    pull it.
    """
    local = server_id is not None and in_registry(image.ref) is None
    pinned = JobImage(ref=server_id, local=True) if local and server_id else image
    job = cast("dict[str, JsonValue]", slot_job(spec, job_carrier(spec, carrier), pinned, preset))
    return make_artefact(spec, carrier, preset, server=image.ref, server_id=server_id or image.ref, job=job)


def beware(spec: DeploySpec, artefact: Artefact, collects: Callable[[], str | None]) -> list[str]:
    """What a cluster may not do as the service says; `collects` is asked only of images that no registry has."""
    collected = collects() if _needs_engine(artefact) else None
    return [*release_warnings(spec), *([] if collected is None else [collected])]


def _needs_engine(artefact: Artefact) -> bool:
    """Whether an image of it is in no registry."""
    bootstrap = _is_local(artefact.puller) if artefact.puller else in_registry(artefact.carrier) is None
    return bootstrap or in_registry(artefact.server) is None


def _is_local(puller: str) -> bool:
    return ImageRef.parse(puller).host is None


def with_warnings(spec: DeploySpec, forecast: Forecaster, collects: Callable[[], str | None]) -> Forecaster:
    """What `forecast` tells, after what to beware of."""

    def told(slot: Slot, live: Slot | None, artefact: Artefact) -> Forecast:
        said = forecast(slot, live, artefact)
        alone = _router_alone(spec) if live is None and not _needs_engine(artefact) else []
        return replace(said, warnings=(*beware(spec, artefact, collects), *alone, *said.warnings))

    return told


def _router_alone(spec: DeploySpec) -> list[str]:
    """Told where nodes pull every other image of a first release."""
    image = nomad_router_image(spec.nomad)
    said = f"the router's image `{image.ref}` is built in the local engine, and only nodes that share it can run it"
    return [f"{said}: `nomad.router_image` names one in a registry"] if image.local else []


def nomad_provides(spec: DeploySpec, engine: Callable[[], Engine], artefact: Artefact) -> Provides | None:
    """What the server of `artefact` provides, by its label in the engine.

    Without an engine of one that a registry has, and does not show here, what every server of its preset provides.
    """
    try:
        return engine_provides(spec, engine, artefact)
    except UnreachableError:
        if in_registry(artefact.server) is None:
            raise
        return preset_provides(known_preset(spec.preset))


def nomad_router(spec: DeploySpec, preset: Preset) -> str:
    """The configuration of the router in front of both slots, which the cluster tells it the addresses of."""
    return router_config(spec, preset)
