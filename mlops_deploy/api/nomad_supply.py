"""What Nomad runs: images of registries, which each node pulls, and those of an engine that its clients share."""

from collections.abc import Callable
from dataclasses import dataclass, field

from mlops_deploy.api.docker_supply import DockerSupply, Make
from mlops_deploy.api.nomad_files import beware, nomad_artefact
from mlops_deploy.api.router_image import find_or_build
from mlops_deploy.errors import UnreachableError
from mlops_deploy.ports import Engine, ImageBuilder, Runner, Story
from mlops_deploy.release.state import Artefact
from mlops_deploy.spec.refs import ImageRef
from mlops_deploy.spec.rendered import JobImage


@dataclass(frozen=True, slots=True, kw_only=True)
class NomadSupply(DockerSupply):
    """As `DockerSupply`; `collects` says what clients do with images that they did not pull, None for nothing.

    The engine is asked of images alone that no registry has: for the others there need not be one.
    """

    make: Make = field(default=nomad_artefact)
    collects: Callable[[], str | None]

    def prepare(self, artefact: Artefact, story: Story) -> None:
        """See `DockerSupply`; warns of what a cluster does otherwise than the service says."""
        DockerSupply.prepare(self, artefact, story)
        for line in beware(self.spec, artefact, self.collects):
            story.warn(line)

    def have_pulled(self, ref: ImageRef, story: Story) -> None:
        """Nothing: each node that runs it pulls it by its digest."""


def have_router(image: JobImage, engine: Engine, builder: ImageBuilder, runner: Runner, story: Story) -> None:
    """See to the router's image; one in a registry is pulled by the node that runs it.

    Raises `UnreachableError`, with both ways out, where a local one is to be built and no engine answers.
    """
    if not image.local:
        return
    try:
        find_or_build(engine, builder, runner, story)
    except UnreachableError as error:
        hint = "; or ".join(filter(None, ("name one in a registry at `nomad.router_image`", error.hint)))
        message = f"the router's image cannot be made here: {error.message}"
        raise UnreachableError(message, hint=hint, detail=error.detail) from error
