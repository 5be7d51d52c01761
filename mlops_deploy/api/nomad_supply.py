"""What Nomad runs comes from the same engine, as long as that is the one of the cluster's clients."""

from collections.abc import Callable
from dataclasses import dataclass, field

from mlops_deploy.api.nomad_files import beware, nomad_artefact
from mlops_deploy.api.prepare import DockerSupply, Make
from mlops_deploy.ports import Story
from mlops_deploy.release.state import Artefact


@dataclass(frozen=True, slots=True, kw_only=True)
class NomadSupply(DockerSupply):
    """As `DockerSupply`; `collects` says what clients do with images that they did not pull, None for nothing."""

    make: Make = field(default=nomad_artefact)
    collects: Callable[[], str | None]

    def prepare(self, artefact: Artefact, story: Story) -> None:
        """See `DockerSupply`; warns of what a cluster does otherwise than the service says."""
        DockerSupply.prepare(self, artefact, story)
        for line in beware(self.spec, artefact, self.collects):
            story.warn(line)
