"""The composition root: the only module that imports adapters, and only when a command needs them."""

import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from mlops_deploy.ports import Clock, Engine, ImageBuilder, JobChecker, Launcher, Registries, Runner, Web

if TYPE_CHECKING:
    from mlops_deploy.api.planning import Shelf
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


def registries(insecure: Sequence[str] = ()) -> Registries:
    """The registries that references name; the hosts `insecure` may be asked by plain HTTP, see `options`."""
    from mlops_deploy.adapters.registry.registries import HttpRegistries

    return HttpRegistries(os.environ, runner(), insecure)


def shelf(project: "Project") -> "Shelf":
    """Where the carriers of a project are, with what is known of the model's files."""
    from mlops_deploy.api.planning import Shelf

    return Shelf(store=project.store(), cache=project.cache(), registries=partial(registries, project.insecure))


def web() -> Web:
    """Files behind `https://`."""
    from mlops_deploy.adapters.web import HttpWeb

    return HttpWeb()


def image_builder() -> ImageBuilder:
    """BuildKit in the same engine, through the docker program."""
    from mlops_deploy.adapters.buildx import BuildKit

    return BuildKit(runner())


def clock(naming: str = "") -> Clock:
    """The clock of this machine; `naming` are the options of the service whose release a signal may end."""
    from mlops_deploy.adapters.clock import SystemClock

    return SystemClock(naming)


def docker_service(project: "Project", spec: "DeploySpec", clock: Clock, holder: "Holder") -> "Service":
    """The service on the Docker Engine that `DOCKER_HOST` or the current docker context names."""
    from mlops_deploy.adapters.compose.target import ComposeTarget
    from mlops_deploy.api.compat import engine_provides
    from mlops_deploy.api.router_image import router_tag
    from mlops_deploy.api.service import Service, Supply
    from mlops_deploy.spec.rendered import JobImage

    images = engine()

    def supply() -> Supply:
        from mlops_deploy.api.docker_supply import DockerSupply

        return DockerSupply(spec=spec, store=project.store(), engine=images, builder=image_builder())

    def router_config() -> str:
        from mlops_deploy.api.docker_files import docker_router
        from mlops_deploy.api.router_image import find_or_build
        from mlops_deploy.api.server_inputs import known_preset
        from mlops_deploy.cli.console import PlainStory

        find_or_build(images, image_builder(), runner(), PlainStory())
        return docker_router(spec, known_preset(spec.preset))

    image = JobImage(ref=str(router_tag()), local=True)
    return Service(
        spec=spec,
        target_name="docker",
        target=ComposeTarget(spec.owner, spec.port, image, runner(), launcher()),
        supply=supply,
        router_config=router_config,
        clock=clock,
        provides=partial(engine_provides, spec, engine),
        holder=holder,
    )


def nomad_service(project: "Project", spec: "DeploySpec", clock: Clock, holder: "Holder") -> "Service":
    """The service on the Nomad cluster that `NOMAD_ADDR` and its like name."""
    from mlops_deploy.adapters.nomad.client import NomadClient
    from mlops_deploy.adapters.nomad.collecting import collects_images
    from mlops_deploy.adapters.nomad.rolling import NomadRolling
    from mlops_deploy.adapters.nomad.settings import Cluster
    from mlops_deploy.adapters.nomad.target import NomadTarget
    from mlops_deploy.api.nomad_files import nomad_provides, with_warnings
    from mlops_deploy.api.router_image import nomad_router_image
    from mlops_deploy.api.service import Service, Supply

    cluster = Cluster.from_environment(os.environ, namespace=spec.nomad.namespace, region=spec.nomad.region)
    client = NomadClient(cluster)
    image = nomad_router_image(spec.nomad)
    target = NomadTarget(spec.owner, spec.port, image, spec.nomad, client)
    collects = partial(collects_images, client)

    def supply() -> Supply:
        from mlops_deploy.api.nomad_supply import NomadSupply

        return NomadSupply(
            spec=spec, store=project.store(), engine=engine(), builder=image_builder(), collects=collects
        )

    def router_config() -> str:
        from mlops_deploy.api.nomad_files import nomad_router
        from mlops_deploy.api.nomad_supply import have_router
        from mlops_deploy.api.server_inputs import known_preset
        from mlops_deploy.cli.console import PlainStory

        have_router(image, engine(), image_builder(), runner(), PlainStory())
        return nomad_router(spec, known_preset(spec.preset))

    return Service(
        spec=spec,
        target_name="nomad",
        target=target,
        supply=supply,
        router_config=router_config,
        clock=clock,
        provides=partial(nomad_provides, spec, engine),
        holder=holder,
        forecast=with_warnings(spec, target.forecast, collects),
        rolling=lambda: NomadRolling(spec.owner, spec.nomad.count, client),
    )


def job_checker(spec: "DeploySpec") -> JobChecker:
    """The Nomad cluster that `NOMAD_ADDR` and its like name, asked about job files."""
    from mlops_deploy.adapters.nomad.checking import JobChecker
    from mlops_deploy.adapters.nomad.client import NomadClient
    from mlops_deploy.adapters.nomad.settings import Cluster

    cluster = Cluster.from_environment(os.environ, namespace=spec.nomad.namespace, region=spec.nomad.region)
    return JobChecker(NomadClient(cluster))


def process_service(project: "Project", spec: "DeploySpec", clock: Clock, holder: "Holder") -> "Service":
    """The service as processes of this machine, below `$XDG_STATE_HOME/mlops-deploy`."""
    from mlops_deploy.adapters.processes.target import ProcessTarget, state_home
    from mlops_deploy.api.compat import local_provides
    from mlops_deploy.api.service import Service, Supply
    from mlops_deploy.release.state import SLOTS

    target = ProcessTarget(spec.owner, spec.port, home=state_home(os.environ), environ=os.environ)

    def supply() -> Supply:
        from mlops_deploy.api.process_supply import ProcessSupply
        from mlops_deploy.api.server_env import server_cache
        from mlops_deploy.api.server_inputs import known_preset

        return ProcessSupply(
            spec=spec,
            preset=known_preset(spec.preset),
            store=project.store(),
            cache=server_cache(os.environ),
            environ=os.environ,
            launcher=launcher(),
            registries=partial(registries, project.insecure),
        )

    def local_router() -> str:
        from mlops_deploy.api.router_config import router_config
        from mlops_deploy.api.server_inputs import known_preset

        a, b = ("{}:{}".format(*target.address(slot)) for slot in SLOTS)
        return router_config(spec, known_preset(spec.preset), listen=f"127.0.0.1:{spec.port}", a=a, b=b, by_name=False)

    return Service(
        spec=spec,
        target_name="process",
        target=target,
        supply=supply,
        router_config=local_router,
        clock=clock,
        provides=lambda _: local_provides(spec),
        holder=holder,
    )
