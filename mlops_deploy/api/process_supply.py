"""What processes run comes from the store: the carrier is brought there, the server is made on this machine."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from mlops_deploy.api.artefact import make_artefact
from mlops_deploy.api.into_store import bring_into_store
from mlops_deploy.api.process_job import LocalServer, process_job
from mlops_deploy.api.pulled import in_registry
from mlops_deploy.api.registry_images import FindRegistries
from mlops_deploy.api.server_inputs import check_inputs, configured, inputs_digest, server_tag
from mlops_deploy.errors import UnusableInputError
from mlops_deploy.ports import Launcher, Story
from mlops_deploy.release.codec import decode, encode
from mlops_deploy.release.state import Artefact
from mlops_deploy.spec.deploy import DeploySpec, JsonValue
from mlops_deploy.spec.preset import Preset
from mlops_deploy.spec.process_job import ProcessJob
from mlops_deploy.store.layout import LayoutStore, Stored


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSupply:
    """What target `process` runs of one service, see `service.Supply`; `cache` keeps environments of servers."""

    spec: DeploySpec
    preset: Preset
    store: LayoutStore
    cache: Path
    environ: Mapping[str, str]
    launcher: Launcher
    registries: FindRegistries

    def artefact(self, carrier: Stored, server: str | None) -> Artefact:
        """See `service.Supply`; the one server is that of the configured preset, made here when it is needed."""
        if server is not None:
            raise UnusableInputError(
                f"server `{server}` is an image, which target `process` cannot run",
                hint=f"leave it out: preset `{self.preset.name}` runs as a process; or use `--target docker`",
            )
        local = self._server()
        check_inputs(local.build)
        job = process_job(self.spec, carrier, self.store.path, local)
        return make_artefact(
            self.spec,
            carrier,
            self.preset,
            server=str(server_tag(local.build)),
            server_id=inputs_digest(local.build),
            job=cast("dict[str, JsonValue]", encode(job)),
        )

    def prepare(self, artefact: Artefact, story: Story) -> None:
        """See `service.Supply`. Raises `UnusableInputError` for an earlier server that is no longer on this machine."""
        if self.spec.server.image:
            story.warn(f"`server.image` needs a container engine and is not used: `{self.spec.preset}` runs instead")
        limits = self.spec.resources.cpu or self.spec.resources.memory
        for what in (*(("resources",) if limits else ()), *(("user",) if self.spec.user else ())):
            story.warn(f"`{what}` needs a container engine and is not used: a process runs as you, without limits")
        pinned = in_registry(artefact.carrier)
        if pinned is not None and self.spec.bootstrap == "copy":
            bring_into_store(pinned, self.store, self.registries, story)
        local = self._server()
        if artefact.server_id == inputs_digest(local.build):
            local.make(self.environ, self.launcher, story)
        elif not _programs(artefact).is_dir():
            raise UnusableInputError(
                f"the server `{artefact.server}` is not on this machine any more: `{_programs(artefact)}` is gone",
                hint="configure that server again, and `mlops-deploy release` makes it",
            )

    def _server(self) -> LocalServer:
        return LocalServer(build=configured(self.preset, self.spec.server), cache=self.cache)


def _programs(artefact: Artefact) -> Path:
    job = decode(ProcessJob, dict(artefact.job), "job")
    return Path(job.server.env["PATH"].partition(os.pathsep)[0])
