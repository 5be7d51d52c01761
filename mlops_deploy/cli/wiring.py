"""The composition root: the only module that imports adapters, and only when a command needs them."""

from mlops_deploy.ports import Clock, Engine, ImageBuilder, Launcher, Runner


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
