"""How a service is written for each target: the one table that `render` looks into."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Final

from mlops_deploy.api import nomad_render
from mlops_deploy.api.artefact import job_carrier
from mlops_deploy.api.docker_files import render_files
from mlops_deploy.api.puller_image import puller_image
from mlops_deploy.errors import UnusableInputError
from mlops_deploy.render.compose import render_compose
from mlops_deploy.render.kubernetes import render_kubernetes, render_slots
from mlops_deploy.spec.deploy import DeploySpec, Target
from mlops_deploy.spec.preset import Preset
from mlops_deploy.spec.rendered import JobImage, Rendered
from mlops_deploy.store.layout import Stored

Alone = Callable[[DeploySpec, Stored, JobImage, Preset, Path], Rendered]
"""One stand-alone file; the path that it goes to may choose its form."""

Several = Callable[[DeploySpec, Stored, JobImage, Preset], dict[str, Rendered]]
"""What a release uses, by file name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Renderer:
    """A target that has job files.

    `files` are the names of what `several` gives; `run` is how a file is run, `go_on` what comes after a folder, where
    that is not a release; `warnings` are what the target makes of a service that its user may not expect. Files are
    `checked` where there is a cluster to ask about them.
    """

    alone: Alone
    several: Several
    files: tuple[str, ...]
    run: Callable[[Path], str]
    go_on: Callable[[Path], str] | None = None
    warnings: Callable[[DeploySpec, Stored], list[str]]
    checked: bool = False


def _beware(spec: DeploySpec, _: Stored) -> list[str]:
    said = "no memory limit: the server may take all of the machine's memory; set `resources.memory`"
    return [*([said] if spec.resources.memory is None else []), *_not_everywhere(spec)]


def _on_nomad(spec: DeploySpec, carrier: Stored) -> list[str]:
    return [*nomad_render.warnings(spec, carrier), *_not_everywhere(spec)]


def _not_everywhere(spec: DeploySpec) -> list[str]:
    """Told where a file names an image that no registry has and no build command makes."""
    image = puller_image(spec.registry) if spec.bootstrap == "pull" else None
    if image is None or not image.local:
        return []
    said = f"`{image.ref}`, which pulls the model, is only in engines in which `mlops-deploy release` has built it"
    return [f"{said}; `registry.puller` names one in a registry"]


def _compose(spec: DeploySpec, carrier: Stored, image: JobImage, preset: Preset, _: Path) -> Rendered:
    return render_compose(spec, job_carrier(spec, carrier), image, preset)


def _kubernetes(spec: DeploySpec, carrier: Stored, image: JobImage, preset: Preset, _: Path) -> Rendered:
    return render_kubernetes(spec, job_carrier(spec, carrier), image, preset)


def _slots(spec: DeploySpec, carrier: Stored, image: JobImage, preset: Preset) -> dict[str, Rendered]:
    return render_slots(spec, job_carrier(spec, carrier), image, preset)


def _run(path: Path) -> str:
    return f"nomad job run {'-json ' if nomad_render.is_json(path) else ''}{quote(str(path))}"


def _apply(path: Path) -> str:
    # What was applied is not kept in an annotation this way, which golden requests could be too long for.
    return f"kubectl apply --server-side -f {quote(str(path))}"


RENDERERS: Final[Mapping[Target, Renderer]] = {
    "docker": Renderer(
        alone=_compose,
        several=render_files,
        files=("a.yml", "b.yml", "router.yml"),
        run=lambda path: f"docker compose -f {quote(str(path))} up --wait",
        warnings=_beware,
    ),
    "nomad": Renderer(
        alone=nomad_render.render_alone,
        several=nomad_render.render_files,
        files=nomad_render.FILES,
        run=_run,
        warnings=_on_nomad,
        checked=True,
    ),
    "kubernetes": Renderer(
        alone=_kubernetes,
        several=_slots,
        files=("a.yml", "b.yml", "service.yml"),
        run=_apply,
        go_on=_apply,
        warnings=_beware,
    ),
}


def choose_target(spec: DeploySpec, asked: str | None) -> Target:
    """The target that was asked for, else the configuration's, else `docker`; refuse one that has no job file."""
    target = asked or spec.target or "docker"
    for known in RENDERERS:
        if target == known or (target, known) == ("compose", "docker"):
            return known
    written = ", ".join(f"`--target {known}`" for known in RENDERERS)
    raise UnusableInputError(f"target `{target}` cannot be rendered", hint=f"there are {written}")
