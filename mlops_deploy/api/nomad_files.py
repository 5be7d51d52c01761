"""What a release on Nomad registers, told from the configuration and the store alone."""

from collections.abc import Callable
from dataclasses import replace
from typing import cast

from mlops_deploy.api.artefact import job_carrier, make_artefact
from mlops_deploy.api.pulled import in_registry
from mlops_deploy.api.router_config import router_config
from mlops_deploy.api.service import Forecaster
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
    brings = _is_local(artefact.puller) if artefact.puller else in_registry(artefact.carrier) is None
    local = brings or in_registry(artefact.server) is None
    collected = collects() if local else None
    return [*release_warnings(spec), *([] if collected is None else [collected])]


def _is_local(puller: str) -> bool:
    return ImageRef.parse(puller).host is None


def with_warnings(spec: DeploySpec, forecast: Forecaster, collects: Callable[[], str | None]) -> Forecaster:
    """What `forecast` tells, after what to beware of."""

    def told(slot: Slot, live: Slot | None, artefact: Artefact) -> Forecast:
        said = forecast(slot, live, artefact)
        return replace(said, warnings=(*beware(spec, artefact, collects), *said.warnings))

    return told


def nomad_router(spec: DeploySpec, preset: Preset) -> str:
    """The configuration of the router in front of both slots, which the cluster tells it the addresses of."""
    return router_config(spec, preset)
