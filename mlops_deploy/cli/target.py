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

WORKING: Final = ("docker", "process")
"""Where a release can run today."""

ENGINES: Final = ("DOCKER_HOST", "DOCKER_CONTEXT")
"""What names an engine: whoever sets one means that engine and no other."""


def target_option(command: Command) -> Command:
    """`--target T`: where the service runs."""
    return click.option(
        "--target",
        type=click.Choice(get_args(Target)),
        metavar="T",
        help="Where it runs: docker or process.  [default: as in mlops.yml, else docker where an engine answers]",
    )(command)


def choose_target(spec: DeploySpec, asked: str | None) -> Target:
    """The target that was asked for, else the configuration's, else `docker` when an engine answers, else `process`.

    Raises `UnreachableError` for an engine that is named by `DOCKER_HOST` or `DOCKER_CONTEXT` and does not answer.
    """
    chosen = asked or spec.target
    if chosen is None:
        return _where_an_engine_answers()
    if chosen not in WORKING:
        raise UnusableInputError(
            f"target `{chosen}` cannot be released to yet", hint="known: `--target docker`, `--target process`"
        )
    return "docker" if chosen == "docker" else "process"


def _where_an_engine_answers() -> Target:
    trouble = wiring.engine().trouble()
    if trouble is None:
        return "docker"
    if any(os.environ.get(name) for name in ENGINES):
        raise UnreachableError(
            trouble, hint="start it, unset `DOCKER_HOST` and `DOCKER_CONTEXT`, or say `--target process`"
        )
    return "process"


def find_service(project: "Project", spec: DeploySpec, asked: str | None) -> "Service":
    """The service of `spec` on the target that `--target`, the configuration, or an engine that answers, decides."""
    from mlops_deploy.api.holder import this_holder

    make = wiring.docker_service if choose_target(spec, asked) == "docker" else wiring.process_service
    return make(project, spec, wiring.clock(), this_holder(os.environ))
