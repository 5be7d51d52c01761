"""The composition root: the only module that imports adapters, and only when a command needs them."""

from typing import TYPE_CHECKING

from mlops_deploy.ports import Clock, Engine, ImageBuilder, Launcher, Runner

if TYPE_CHECKING:
    from mlops_deploy.api.service import Service
    from mlops_deploy.cli.project import Project
    from mlops_deploy.release.lease import Holder
    from mlops_deploy.spec.deploy import DeploySpec


def runner() -> Runner:
    """Programs on this machine."""
    from mlops_deploy.adapters.process import LocalRunner

    return LocalRunner()


def launcher() -> Launcher:
    """Programs that run beside this one."""
    from mlops_deploy.adapters.process import LocalRunner

    return LocalRunner()


def engine() -> Engine:
    """The Docker Engine that `DOCKER_HOST` or the current docker context names."""
    from mlops_deploy.adapters.docker_engine import DockerEngine

    return DockerEngine()


def image_builder() -> ImageBuilder:
    """BuildKit in the same engine, through the docker program."""
    from mlops_deploy.adapters.buildx import BuildKit

    return BuildKit(runner())


def clock() -> Clock:
    """The clock of this machine."""
    from mlops_deploy.adapters.clock import SystemClock

    return SystemClock()


def docker_service(project: "Project", spec: "DeploySpec", clock: Clock, holder: "Holder") -> "Service":
    """The service on the Docker Engine that `DOCKER_HOST` or the current docker context names."""
    from mlops_deploy.adapters.compose import ComposeTarget
    from mlops_deploy.api.docker_files import docker_router, owner_of
    from mlops_deploy.api.prepare import DockerSupply
    from mlops_deploy.api.router_image import find_or_build, router_tag
    from mlops_deploy.api.server_inputs import known_preset
    from mlops_deploy.api.service import Service
    from mlops_deploy.cli.console import PlainStory
    from mlops_deploy.spec.rendered import JobImage

    images, router = engine(), JobImage(ref=str(router_tag()), local=True)

    def router_config() -> str:
        find_or_build(images, image_builder(), runner(), PlainStory())
        return docker_router(spec, known_preset(spec.preset))

    return Service(
        spec=spec,
        target_name="docker",
        target=ComposeTarget(owner_of(spec), spec.port, router, runner(), launcher()),
        supply=DockerSupply(spec=spec, store=project.store(), engine=images),
        router_config=router_config,
        clock=clock,
        holder=holder,
    )
