"""The composition root: the only module that imports adapters, and only when a command needs them."""

from mlops_deploy.ports import Engine, Runner


def runner() -> Runner:
    """Programs on this machine."""
    from mlops_deploy.adapters.process import LocalRunner

    return LocalRunner()


def engine() -> Engine:
    """The Docker Engine that `DOCKER_HOST` or the current docker context names."""
    from mlops_deploy.adapters.docker_engine import DockerEngine

    return DockerEngine()
