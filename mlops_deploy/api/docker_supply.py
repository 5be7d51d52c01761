"""What containers run comes from an engine: the server is looked for there, the carrier is brought there."""

from collections.abc import Callable
from dataclasses import dataclass

from mlops_deploy.api.docker_files import docker_artefact
from mlops_deploy.api.loading import load_stored
from mlops_deploy.api.pulled import ensure_pulled, in_registry
from mlops_deploy.api.puller_image import find_or_build, puller_tag
from mlops_deploy.api.render import choose_server
from mlops_deploy.api.server_inputs import known_preset
from mlops_deploy.errors import UnusableInputError
from mlops_deploy.ports import Engine, ImageBuilder, Story
from mlops_deploy.release.state import Artefact
from mlops_deploy.spec.deploy import DeploySpec
from mlops_deploy.spec.preset import Preset
from mlops_deploy.spec.refs import ImageRef
from mlops_deploy.spec.rendered import JobImage
from mlops_deploy.store.layout import LayoutStore, Stored

Make = Callable[[DeploySpec, Stored, Preset, JobImage, str | None], Artefact]
"""Makes a target's artefact of a carrier, a preset, and a server image with its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerSupply:
    """Carriers of a store and images of an engine, for one service; see `api.service.Supply`."""

    spec: DeploySpec
    store: LayoutStore
    engine: Engine
    builder: ImageBuilder
    make: Make = docker_artefact

    def artefact(self, carrier: Stored, server: str | None) -> Artefact:
        """The model of `carrier` on the server image that is asked for, else configured, as the engine has it now.

        One that is named by its digest need not be there yet.
        """
        preset = known_preset(self.spec.preset)
        image = choose_server(self.spec, preset, server)
        if (pushed := in_registry(image.ref)) is not None:
            return self.make(self.spec, carrier, preset, image, str(pushed.digest))
        found = self.engine.image_id(image.ref)
        if found is None:
            hint = "`mlops-deploy build-server` makes it" if image.local else f"`docker pull {image.ref}` gets it"
            raise UnusableInputError(f"the server image `{image.ref}` is not in the engine", hint=hint)
        return self.make(self.spec, carrier, preset, image, str(found))

    def prepare(self, artefact: Artefact, story: Story) -> None:
        """Get both images unless the engine has them; raise `UnusableInputError` when a server of its own is gone."""
        if (server := in_registry(artefact.server)) is not None:
            self.have_pulled(server, story)
        elif self.engine.image_id(artefact.server_id) is None:
            raise UnusableInputError(
                f"the server image `{artefact.server}` ({artefact.server_id[:19]}) is not in the engine any more",
                hint="`mlops-deploy release` takes the one that is there now",
            )
        if artefact.puller is not None:
            self._have_puller(artefact.puller, story)
            return
        if (pinned := in_registry(artefact.carrier)) is not None:
            self.have_pulled(pinned, story)
            return
        load_stored(self.store, artefact.carrier_digest, artefact.carrier, self.engine, story)

    def have_pulled(self, ref: ImageRef, story: Story) -> None:
        """See to an image that a registry has."""
        ensure_pulled(self.engine, ref, story)

    def _have_puller(self, puller: str, story: Story) -> None:
        """See to the image that pulls; one in a registry is got by whoever runs it."""
        if puller == str(puller_tag()):
            find_or_build(self.engine, self.builder, story)
        elif ImageRef.parse(puller).host is None and self.engine.image_id(puller) is None:
            raise UnusableInputError(
                f"the image `{puller}`, which pulls the model, is not in the engine any more",
                hint="`mlops-deploy release` takes the one of this version",
            )
