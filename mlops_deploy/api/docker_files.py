"""The files that a release on Docker uses, told from the configuration and the store alone."""

from typing import cast

from mlops_deploy.api.artefact import job_carrier, make_artefact
from mlops_deploy.api.pulled import in_registry
from mlops_deploy.api.router_config import router_config
from mlops_deploy.api.router_image import router_tag
from mlops_deploy.release.state import SLOTS, Artefact
from mlops_deploy.render.slots import ROUTER_PORT, router_text, slot_job, slot_text
from mlops_deploy.spec.deploy import DeploySpec, JsonValue
from mlops_deploy.spec.preset import Preset
from mlops_deploy.spec.rendered import JobImage, Rendered
from mlops_deploy.store.layout import Stored


def docker_artefact(
    spec: DeploySpec, carrier: Stored, preset: Preset, image: JobImage, server_id: str | None
) -> Artefact:
    """The model of `carrier` on the server `image`, which the job names by its id where that is known.

    Such a job means this one image, whatever its name comes to mean; the digest of one in a registry does so itself.
    """
    local = server_id is not None and in_registry(image.ref) is None
    pinned = JobImage(ref=server_id, local=True) if local and server_id else image
    job = cast("dict[str, JsonValue]", slot_job(spec, job_carrier(spec, carrier), pinned, preset))
    return make_artefact(spec, carrier, preset, server=image.ref, server_id=server_id or image.ref, job=job)


def docker_router(spec: DeploySpec, preset: Preset) -> str:
    """The configuration of the router in front of both slots, which it finds by the names that they have."""
    return router_config(
        spec,
        preset,
        listen=f"*:{ROUTER_PORT}",
        a=f"{spec.project}-a:{preset.ports.http}",
        b=f"{spec.project}-b:{preset.ports.http}",
        by_name=True,
    )


def render_files(spec: DeploySpec, carrier: Stored, image: JobImage, preset: Preset) -> dict[str, Rendered]:
    """The files by name, as `docker compose` reads them; no engine is asked."""
    owner, artefact = spec.owner, docker_artefact(spec, carrier, preset, image, None)
    text = router_text(owner, spec.port, JobImage(ref=str(router_tag()), local=True), docker_router(spec, preset))
    made = {"router": text}
    for slot in SLOTS:
        made[slot] = slot_text(owner, slot, artefact.job, content=artefact.content_id.hex, key=artefact.key)
    return {
        f"{part}.yml": Rendered(target="docker", project=f"{spec.project}-{part}", text=text)
        for part, text in made.items()
    }
