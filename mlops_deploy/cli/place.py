"""Which service a command is about, as its user said it: `-f`, `-e`, `--target`, and the same for the next command."""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlops_deploy.cli import options
from mlops_deploy.cli.project import require_project
from mlops_deploy.cli.target import find_service, target_option
from mlops_deploy.errors import DeployError

if TYPE_CHECKING:
    from mlops_deploy.api.service import Service
    from mlops_deploy.cli.project import Project


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The options that name a service."""

    file: Path
    environment: str | None
    target: str | None

    def service(self, insecure: tuple[str, ...] = ()) -> "Service":
        """The service there, for who releases nothing from files; a usage error where there is no configuration."""
        return self._found(named=False, insecure=insecure)[1]

    def project_and_service(self, insecure: tuple[str, ...] = ()) -> "tuple[Project, Service]":
        """The service, and the folder that its models are built in; `insecure` registries may be asked."""
        return self._found(named=True, insecure=insecure)

    def _found(self, *, named: bool, insecure: tuple[str, ...] = ()) -> "tuple[Project, Service]":
        project, spec = require_project(self.file, self.environment, named=named)
        project = replace(project, insecure=insecure)
        return project, find_service(project, spec, self.target, self._naming(target=True))

    def command(self, words: str) -> str:
        """The command line of another command, such as `status -w`, for the same service."""
        return f"mlops-deploy {words}{options.naming(self.file, self.environment, self.target)}"

    def located(self, text: str) -> str:
        """`text` with the options of this service in every command of ours that it names and that takes them."""
        return _COMMAND.sub(lambda found: f"`{found[0][1:-1]}{self._naming(target=found['target'] is not None)}`", text)

    def _naming(self, *, target: bool) -> str:
        return options.naming(self.file, self.environment, self.target if target else None)


_COMMAND: Final = re.compile(
    r"`mlops-deploy (?:(?P<target>release|plan|rollback|advance|resume|abort|tend|freeze|unfreeze|router apply|down"
    r"|status|history|logs)|build-model|build-server|check)(?![\w-])[^`]*`"
)
"""A command line in back-ticks, as messages name the next step; `target` for those that take `--target`."""


def placed(command: Callable[..., object]) -> Callable[..., object]:
    """Give `command` the options that name a service, as its argument `place`."""

    @options.config_file
    @target_option
    @functools.wraps(command)
    def with_place(file: Path, environment: str | None, target: str | None, **rest: object) -> object:
        place = Place(file=file, environment=environment, target=target)
        try:
            return command(place=place, **rest)
        except DeployError as error:
            error.hint = error.hint and place.located(error.hint)
            raise

    return with_place
