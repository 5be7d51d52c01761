"""Which target a command works on, and the service there."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar, get_args

import click

from mlops_deploy.cli import wiring
from mlops_deploy.errors import UnreachableError, UnusableInputError
from mlops_deploy.spec.deploy import DeploySpec, Target

if TYPE_CHECKING:
    from mlops_deploy.api.service import Service
    from mlops_deploy.cli.project import Project

Command = TypeVar("Command", bound=Callable[..., object])

WORKING: Final[tuple[Target, ...]] = ("docker", "nomad", "process")
"""Where a release can run today."""

CLUSTER: Final = "NOMAD_ADDR"
"""What names a cluster."""

ENGINES: Final = ("DOCKER_HOST", "DOCKER_CONTEXT")
"""What names an engine: whoever sets one means that engine and no other."""


def target_option(command: Command) -> Command:
    """`--target T`: where the service runs."""
    return click.option(
        "--target",
        type=click.Choice(get_args(Target)),
        metavar="T",
        help="Where it runs: docker, nomad or process.  [default: as in mlops.yml, else nomad where NOMAD_ADDR is "
        "set, else docker where an engine answers]",
    )(command)


def choose_target(spec: DeploySpec, asked: str | None) -> Target:
    """The target that was asked for, else the configuration's, else the one that is there.

    That is `nomad` when `NOMAD_ADDR` is set, else `docker` when an engine answers, else `process`.

    Raises `UnreachableError` for an engine that is named by `DOCKER_HOST` or `DOCKER_CONTEXT` and does not answer.
    """
    chosen = asked or spec.target
    if chosen is None:
        return "nomad" if os.environ.get(CLUSTER) else _where_an_engine_answers()
    for working in WORKING:
        if chosen == working:
            return working
    known = ", ".join(f"`--target {working}`" for working in WORKING)
    hint = f"known: {known}; `render` writes files"
    raise UnusableInputError(f"target `{chosen}` cannot be released to yet", hint=hint)


def _where_an_engine_answers() -> Target:
    trouble = wiring.engine().trouble()
    if trouble is None:
        return "docker"
    if any(os.environ.get(name) for name in ENGINES):
        raise UnreachableError(
            trouble, hint="start it, unset `DOCKER_HOST` and `DOCKER_CONTEXT`, or say `--target process`"
        )
    return "process"


def find_service(project: "Project", spec: DeploySpec, asked: str | None, naming: str) -> "Service":
    """The service of `spec` on the target that `--target`, the configuration, or what is there, decides.

    `naming` are the options that name it in another command.
    """
    from mlops_deploy.api.holder import this_holder

    make = {"docker": wiring.docker_service, "nomad": wiring.nomad_service, "process": wiring.process_service}
    return make[choose_target(spec, asked)](project, spec, wiring.clock(naming), this_holder(os.environ))
