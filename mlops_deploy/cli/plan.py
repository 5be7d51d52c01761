"""`mlops-deploy plan`: what a release would do."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeVar

import click

from mlops_deploy.cli import options, wiring
from mlops_deploy.cli.console import story
from mlops_deploy.cli.place import Place, placed
from mlops_deploy.cli.project import Project

if TYPE_CHECKING:
    from mlops_deploy.api.planning import Wish
    from mlops_deploy.api.service import Service
    from mlops_deploy.ports import Story
    from mlops_deploy.release.plan import Plan

Command = TypeVar("Command", bound=Callable[..., object])

CHANGES: Final = 10
"""The exit code of `--detailed-exitcode` when there is something to do."""


def candidate_options(command: Command) -> Command:
    """`--strategy`, `--model`, `--server`: what is to be released, and how."""
    strategy = click.option(
        "--strategy",
        type=options.SomeText(),
        metavar="S",
        help="bluegreen or recreate; rolling with --native.  [default: of mlops.yml]",
    )
    model = click.option(
        "--model",
        type=options.SomeText(),
        metavar="REF",
        help="A carrier in the store (NAME:TAG, a digest, or 12 hex digits of it) or REGISTRY/NAME:TAG.  "
        "[default: the newest of the store]",
    )
    server = click.option(
        "--server",
        type=options.SomeText(),
        metavar="REF",
        callback=options.image_ref,
        help="A server image, instead of the configured one; a registry's is named by its digest.",
    )
    native = click.option(
        "--native", is_flag=True, help="On Nomad: one job and its own canaries, without slots, router and hot rollback."
    )
    return strategy(model(server(native(options.insecure_registries(command)))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What `plan` and `release` are both asked for."""

    place: Place
    strategy: str | None
    model: str | None
    server: str | None
    native: bool
    insecure_registries: tuple[str, ...]
    output: Literal["text", "json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices(Asked):
    """The options of one call."""

    out: Path | None
    detailed_exitcode: bool


@click.command()
@placed
@candidate_options
@options.output
@click.option("-o", "out", type=options.SomePath(), metavar="FILE", help="Write the plan for `release --plan FILE`.")
@click.option("--detailed-exitcode", is_flag=True, help="End with 10 when there is something to do.")
def plan(**chosen: object) -> int:
    """Show what a release would do, and change nothing."""
    choices = Choices(**chosen)  # type: ignore[arg-type]  # click has checked the types
    if choices.native:
        return _native(choices)
    with story() as telling:
        made, project, service = _plan(choices, telling)
    if choices.out is not None:
        _save(made, choices.out, project)
    show_plan(service, made, choices.output)
    if made.steps:
        show_next(choices, _next(choices, made))
    return CHANGES if choices.detailed_exitcode and made.steps else 0


def _plan(choices: Choices, telling: "Story") -> "tuple[Plan, Project, Service]":
    from mlops_deploy.api.planning import Wish

    project, service = choices.place.project_and_service(choices.insecure_registries)
    wish = Wish(strategy=choices.strategy, model=choices.model, server=choices.server)
    return preview(service, project, wish, telling), project, service


def _next(choices: Choices, made: "Plan") -> str:
    """The command that carries out what was shown."""
    if made.base.freeze is not None:
        return "unfreeze"
    if choices.out is not None:
        return f"release --plan {shlex.quote(str(choices.out))}{options.insecurely(choices.insecure_registries)}"
    return releasing(choices)


def releasing(asked: Asked, *more: str) -> str:
    """The command that carries out what was shown; `more` are further options."""
    chosen = (("--strategy", asked.strategy), ("--model", asked.model), ("--server", asked.server))
    named = (f"{option} {shlex.quote(value)}" for option, value in chosen if value)
    parts = ("release", *(["--native"] if asked.native else []), *named)
    return " ".join((" ".join(parts) + options.insecurely(asked.insecure_registries), *more))


def show_next(asked: Asked, command: str) -> None:
    """Name the next command to people."""
    if asked.output == "text":
        click.echo(f"next: {asked.place.command(command)}", err=True)


def _native(choices: Choices) -> int:
    from mlops_deploy.api.planning import Wish
    from mlops_deploy.cli.rolling import preview_rolling, show_rolling

    if choices.out is not None:
        raise click.UsageError("a plan for `--native` is not kept: the index of the job refuses what is stale")
    project, service = choices.place.project_and_service(choices.insecure_registries)
    wish = Wish(strategy=choices.strategy, model=choices.model, server=choices.server)
    with story() as telling:
        made, forecast = preview_rolling(service, project, wish, telling)
    show_rolling(made, forecast, choices.output)
    if made.needed:
        show_next(choices, releasing(choices))
    return CHANGES if choices.detailed_exitcode and made.needed else 0


def preview(service: "Service", project: Project, wish: "Wish", telling: "Story") -> "Plan":
    """The plan of a release now."""
    from mlops_deploy.api.planning import preview as planned

    return planned(service, wiring.shelf(project), wish, telling)


def _save(made: "Plan", out: Path, project: Project) -> None:
    from mlops_deploy.api.planning import write_plan

    project.require_no_input(out, "the plan")
    write_plan(made, out)


def show_plan(service: "Service", made: "Plan", output: str) -> None:
    """Print a plan: JSON as `-o` writes it, or what people want to know of it, the target's own word included."""
    if output == "json":
        from mlops_deploy.release.plan import save

        click.echo(save(made), nl=False)
        return
    from mlops_deploy.api.planning import forecast
    from mlops_deploy.cli.plan_text import plan_lines

    for line in plan_lines(made, forecast(service, made)):
        click.echo(line)
