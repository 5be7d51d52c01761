"""Options that several commands share."""

import errno
import os
import re
import shlex
from collections.abc import Callable, Iterable
from os import PathLike
from pathlib import Path
from typing import TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., object])

CONFIG_FILE = "mlops.yml"


class SomeText(click.types.StringParamType):
    """A text; an empty one, as an unset variable gives, is refused instead of meaning that there is none."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Raise a usage error for the empty text."""
        return str(super().convert(value, param, ctx)) or self.fail("the value is empty", param, ctx)


class SomePath(click.Path):
    """A path; an empty one, as an unset variable gives, is refused instead of meaning the current folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: str | PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Raise a usage error for the empty path, and for one that no system call takes."""
        if not str(value):
            self.fail("the path is empty", param, ctx)
        try:
            os.lstat(value)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                self.fail(f"the path `{value}` is too long", param, ctx)
        return Path(value)


class SomePathOrUrl(click.ParamType):  # type: ignore[type-arg]  # older releases of click have no argument
    """A path, or a URL, which stays a text."""

    name = "path or URL"

    def convert(
        self, value: str | PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> Path | str:
        """Raise a usage error as `SomePath` does."""
        text = os.fspath(value)
        return text if "://" in text else SomePath().convert(value, param, ctx)


def config_file(command: Command) -> Command:
    """`-f FILE` and `-e ENV`: which configuration, and which overlay of it."""
    overlay = click.option(
        "-e", "--env", "environment", type=SomeText(), metavar="ENV", help="Lay mlops.ENV.yml over the file."
    )
    path = Path(CONFIG_FILE)
    file = click.option("-f", "--file", type=SomePath(), default=path, show_default=True, help="The configuration.")
    return file(overlay(command))


def naming(file: Path, environment: str | None, target: str | None = None) -> str:
    """The options that name the same service in another command, quoted for a shell; empty for the defaults."""
    chosen = (("-f", None if str(file) == CONFIG_FILE else str(file)), ("-e", environment), ("--target", target))
    return "".join(f" {option} {shlex.quote(value)}" for option, value in chosen if value)


def output(command: Command) -> Command:
    """`--output text|json`: what goes to stdout."""
    return click.option(
        "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Form of the result."
    )(command)


def image_ref(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Click callback: refuse what is no image reference before any work starts."""
    from mlops_deploy.spec.refs import ImageRef

    return None if value is None else str(ImageRef.parse(value))


def insecure_registries(command: Command) -> Command:
    """`--insecure-registry HOST`, any number of times: registries that `wiring.registries` may ask without trust."""
    return click.option(
        "--insecure-registry",
        "insecure_registries",
        multiple=True,
        metavar="HOST",
        callback=_hosts,
        help="Ask the registry HOST[:PORT] by any certificate or plain HTTP.",
    )(command)


def insecurely(hosts: Iterable[str]) -> str:
    """The options that `insecure_registries` reads, for another command."""
    return "".join(f" --insecure-registry {shlex.quote(host)}" for host in hosts)


def _hosts(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not re.fullmatch(r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?", value):
            raise click.BadParameter(f"`{value}` is not `HOST` or `HOST:PORT`", context, parameter)
    return values


def store_folder(command: Command) -> Command:
    """`--store DIR`: another store than `.mlops/store`."""
    return click.option("--store", type=SomePath(), metavar="DIR", help="The store, if not .mlops/store.")(command)
