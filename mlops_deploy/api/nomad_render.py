"""The files of a service on Nomad: HCL for people, or JSON as the API takes it; no cluster is asked."""

import json
from pathlib import Path
from typing import Final

from mlops_deploy.api.artefact import job_carrier
from mlops_deploy.api.nomad_files import nomad_artefact
from mlops_deploy.api.router_image import nomad_router_image
from mlops_deploy.release.state import SLOTS
from mlops_deploy.render.hcl import hcl
from mlops_deploy.render.nomad import document, slot_document
from mlops_deploy.render.nomad import warnings as what_to_expect
from mlops_deploy.render.nomad_router import router_document
from mlops_deploy.spec.deploy import DeploySpec
from mlops_deploy.spec.preset import Preset
from mlops_deploy.spec.rendered import JobImage, Rendered
from mlops_deploy.store.layout import Stored

FILES: Final = ("a.nomad.hcl", "b.nomad.hcl", "router.nomad.hcl")
"""Both slots and the router."""


def is_json(path: Path) -> bool:
    """Whether a file of that name is in the form of the API."""
    return path.suffix == ".json"


def warnings(spec: DeploySpec, carrier: Stored) -> list[str]:
    """See `render.nomad`; also told when nobody knows how much room the model takes."""
    volume, told = spec.nomad.volume, what_to_expect(spec)
    if volume.kind == "alloc" and (volume.size or carrier.size) is None:
        told.append("no `nomad.volume.size`: nodes are chosen that have 300 MiB left, however big the model is")
    return told


def render_alone(spec: DeploySpec, carrier: Stored, image: JobImage, preset: Preset, path: Path) -> Rendered:
    """The service as one job that needs nothing beside itself; its form is that of the file `path`."""
    job = document(spec, job_carrier(spec, carrier), image, preset)
    text = json.dumps({"Job": job}, indent=2, ensure_ascii=False) + "\n" if is_json(path) else hcl(job)
    return Rendered(target="nomad", project=spec.project, text=text)


def render_files(spec: DeploySpec, carrier: Stored, image: JobImage, preset: Preset) -> dict[str, Rendered]:
    """What a release registers, by file name; the router's Variable is made by the release itself."""
    owner, artefact = spec.owner, nomad_artefact(spec, carrier, preset, image, None)
    content, key = artefact.content_id.hex, artefact.key
    jobs = {slot: slot_document(owner, slot, artefact.job, content=content, key=key) for slot in map(str, SLOTS)}
    jobs["router"] = router_document(owner, spec.port, nomad_router_image(spec.nomad), spec.nomad)
    return {
        f"{part}.nomad.hcl": Rendered(target="nomad", project=f"{spec.project}-{part}", text=hcl(job))
        for part, job in jobs.items()
    }
