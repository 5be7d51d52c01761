"""Which service a command is about, as its user said it: `-f`, `-e`, `--target`, and the same for the next command."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_deploy.cli import options
from mlops_deploy.cli.project import require_project
from mlops_deploy.cli.target import find_service, target_option

if TYPE_CHECKING:
    from mlops_deploy.api.service import Service


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The options that name a service."""

    file: Path
    environment: str | None
    target: str | None

    def service(self) -> "Service":
        """The service there; a usage error where there is no configuration."""
        project, spec = require_project(self.file, self.environment)
        return find_service(project, spec, self.target)

    def command(self, words: str) -> str:
        """The command line of another command, such as `status -w`, for the same service."""
        return f"mlops-deploy {words}{options.naming(self.file, self.environment, self.target)}"


def placed(command: Callable[..., object]) -> Callable[..., object]:
    """Give `command` the options that name a service, as its argument `place`."""

    @options.config_file
    @target_option
    @functools.wraps(command)
    def with_place(file: Path, environment: str | None, target: str | None, **rest: object) -> object:
        return command(place=Place(file=file, environment=environment, target=target), **rest)

    return with_place
