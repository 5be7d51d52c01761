"""`mlops-deploy render`: a service becomes a job file."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

import click

from mlops_deploy.cli import options
from mlops_deploy.cli.console import story
from mlops_deploy.cli.project import require_project
from mlops_deploy.ports import Story
from mlops_deploy.spec.deploy import Target

if TYPE_CHECKING:
    from mlops_deploy.spec.rendered import Rendered

TARGETS: Final = (*get_args(Target), "compose")
_STDOUT: Final = Path("-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The options of one call."""

    file: Path
    environment: str | None
    target: str | None
    model: str | None
    server: str | None
    out: Path


@click.command("render")
@options.config_file
@click.option(
    "--target",
    type=click.Choice(TARGETS),
    metavar="T",
    help="Where it will run; by default as in mlops.yml, else docker.",
)
@click.option(
    "--model",
    type=options.SomeText(),
    metavar="REF",
    help="A carrier in the store: NAME:TAG, a digest, or 12 hex digits of it.",
)
@click.option(
    "--server",
    type=options.SomeText(),
    metavar="REF",
    callback=options.image_ref,
    help="A server image, instead of the configured one.",
)
@click.option(
    "-o",
    "out",
    type=options.SomePath(),
    metavar="FILE|-",
    default="-",
    show_default=True,
    help="Where the file goes; never over what was read.",
)
def render(**chosen: object) -> None:
    """Write the one file that docker compose up --wait runs.

    It names the newest carrier of the model in .mlops/store and the server image. No engine is asked.
    """
    choices = Choices(**chosen)  # type: ignore[arg-type]  # click has checked the types
    with story() as telling:
        rendered = _render(choices, telling)
    _write(rendered, choices.out)


def _render(choices: Choices, telling: Story) -> "Rendered":
    from mlops_deploy.api import render as api
    from mlops_deploy.api.server_inputs import known_preset

    project, spec = require_project(choices.file, choices.environment)
    if choices.out != _STDOUT:
        project.require_no_input(choices.out, "the job file")
    api.choose_target(spec, choices.target)
    preset = known_preset(spec.preset)
    carrier = api.choose_carrier(spec, project.store(), choices.model)
    image = api.choose_server(spec, preset, choices.server)
    rendered = api.render(spec, carrier, image, preset, telling)
    if choices.model is None:
        api.tell_changes(spec, carrier, project.cache(), telling)
    return rendered


def _write(rendered: "Rendered", out: Path) -> None:
    if out == _STDOUT:
        click.echo(rendered.text, nl=False)
        return
    from mlops_deploy.api.render import write

    write(rendered, out)
    click.echo(f"next: docker compose -f {shlex.quote(str(out))} up --wait", err=True)
