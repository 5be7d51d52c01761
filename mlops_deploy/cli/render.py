"""`mlops-deploy render`: a service becomes a job file."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Final, get_args

import click

from mlops_deploy.cli import options, wiring
from mlops_deploy.cli.console import story
from mlops_deploy.cli.project import require_project
from mlops_deploy.errors import UnusableInputError
from mlops_deploy.ports import Story
from mlops_deploy.spec.deploy import DeploySpec, Target

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlops_deploy.api.renderers import Renderer
    from mlops_deploy.spec.rendered import Rendered

TARGETS: Final = (*get_args(Target), "compose")
_STDOUT: Final = Path("-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Out:
    """Where files go: `folder` when there are several."""

    path: Path
    folder: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The options of one call."""

    file: Path
    environment: str | None
    target: str | None
    model: str | None
    server: str | None
    out: Out
    check: bool
    insecure_registries: tuple[str, ...]


def _out(_: click.Context, param: click.Parameter, value: str) -> Out:
    path = options.SomePath().convert(value, param, None)
    return Out(path=path, folder=value.endswith("/") or path.is_dir())


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
    help="A carrier in the store (NAME:TAG, a digest, or 12 hex digits of it) or REGISTRY/NAME:TAG.",
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
    callback=_out,
    metavar="FILE|DIR|-",
    default="-",
    show_default=True,
    help="Where the file goes, or into a folder (`DIR/`) the files of a release; never over what was read.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Have the cluster parse, validate and plan every job first; on Nomad. Nothing is registered.",
)
@options.insecure_registries
def render(**chosen: object) -> None:
    """Write the file that docker compose, nomad or kubectl runs.

    It names the newest carrier of the model in .mlops/store and the server image. No engine or cluster need answer:
    REGISTRY/NAME:TAG at `--model` asks that registry for its digest. The server's registry is asked for its digest, and
    it or an engine for what the server has, where they answer soon. Into a folder go three files: both slots, a and b,
    and the router, on Kubernetes the Service; a FILE.json is for the API of Nomad.
    """
    choices = Choices(**chosen)  # type: ignore[arg-type]  # click has checked the types
    with story() as telling:
        rendered, after = _render(choices, telling)
    _write(rendered, choices.out, after)


def _render(choices: Choices, telling: Story) -> "tuple[dict[Path, Rendered], str]":
    from mlops_deploy.api import render as api
    from mlops_deploy.api.compat import require_glance
    from mlops_deploy.api.glance import glance
    from mlops_deploy.api.registry_images import registry_ref
    from mlops_deploy.api.renderers import RENDERERS, choose_target
    from mlops_deploy.api.server_inputs import known_preset

    project, spec = require_project(choices.file, choices.environment)
    target = choose_target(spec, choices.target)
    out, renderer = choices.out, RENDERERS[target]
    for place in [out.path / name for name in renderer.files] if out.folder else [out.path]:
        if place != _STDOUT:
            project.require_no_input(place, "the job file")
    if choices.check and not renderer.checked:
        raise UnusableInputError(
            "`--check` is for `--target nomad`: there is nobody else to ask",
            hint="leave it out, or say `--target nomad`",
        )
    preset = known_preset(spec.preset)
    registries = partial(wiring.registries, choices.insecure_registries)
    carrier = api.choose_carrier(spec, project.store(), choices.model, registries)
    image = api.choose_server(spec, preset, choices.server)
    seen, remote = None, registry_ref(image.ref)
    if remote is not None or carrier.formats or carrier.requires:
        seen = glance(image.ref, wiring.engine, registries)
    require_glance(spec, carrier, image.ref, seen.labels if seen else None, telling)
    image = replace(image, ref=seen.ref) if seen else image
    if remote is not None and remote.digest is None and image.ref == str(remote):
        telling.warn(f"the server is named as `{image.ref}`, whatever that comes to mean: its registry tells no digest")
    if out.folder:
        rendered = {out.path / name: file for name, file in renderer.several(spec, carrier, image, preset).items()}
    else:
        rendered = {out.path: renderer.alone(spec, carrier, image, preset, out.path)}
    api.tell_choice(spec, carrier, image, telling)
    for warning in renderer.warnings(spec, carrier):
        telling.warn(warning)
    if choices.model is None:
        api.tell_changes(spec, carrier, project.cache(), telling)
    if choices.check:
        _check(spec, rendered.values(), telling)
    return rendered, _after(choices, renderer, None if target == spec.target else target)


def _after(choices: Choices, renderer: "Renderer", target: Target | None) -> str:
    """The command that makes what was written run; `target` where the configuration does not say it."""
    if not choices.out.folder:
        return renderer.run(choices.out.path)
    if renderer.go_on is not None:
        return renderer.go_on(choices.out.path)
    named = (("--model", choices.model), ("--server", choices.server))
    chosen = "".join(f" {option} {quote(value)}" for option, value in named if value)
    where = options.naming(choices.file, choices.environment, target)
    return f"mlops-deploy release{chosen}{options.insecurely(choices.insecure_registries)}{where}"


def _check(spec: DeploySpec, files: "Iterable[Rendered]", telling: Story) -> None:
    checker = wiring.job_checker(spec)
    for file in files:
        found = checker.check(file.text)
        telling.say(f"checked: the cluster would take the job `{file.project}`")
        for warning in found.warnings:
            telling.warn(f"job `{file.project}`: {warning}")
        for obstacle in found.obstacles:
            telling.warn(f"job `{file.project}` could not be placed now: {obstacle}")


def _write(rendered: "dict[Path, Rendered]", out: Out, after: str) -> None:
    if out.path == _STDOUT:
        click.echo(rendered[out.path].text, nl=False)
        return
    from mlops_deploy.api.render import make_folder, write

    if out.folder:
        make_folder(out.path)
    for path, file in rendered.items():
        write(file, path)
    click.echo(f"next: {after}", err=True)
