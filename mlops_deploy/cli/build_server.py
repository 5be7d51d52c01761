"""`mlops-deploy build-server`: the prediction server becomes an image."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from mlops_deploy.cli import options, wiring
from mlops_deploy.cli.console import story
from mlops_deploy.cli.project import find_project
from mlops_deploy.errors import UnusableInputError

if TYPE_CHECKING:
    from mlops_deploy.api.build_server import BuiltServer
    from mlops_deploy.api.server_inputs import ServerBuild
    from mlops_deploy.spec.deploy import DeploySpec

DEFAULT_PRESET = "kserve-sklearn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The options of one call."""

    tag: str | None
    base: str | None
    hook: Path | None
    constraints: Path | None
    index_url: str | None
    ca_bundle: Path | None
    file: Path
    environment: str | None
    output: Literal["text", "json"]


_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("build-server")
@click.option(
    "-t", "--tag", type=options.SomeText(), metavar="NAME:TAG", callback=options.image_ref, help="A name for the image."
)
@click.option(
    "--base", type=options.SomeText(), metavar="IMAGE", callback=options.image_ref, help="The image to start from."
)
@click.option("--hook", type=_FILE, metavar="FILE", help="Python module with `preprocess`, `predict` or `postprocess`.")
@click.option("--constraints", type=_FILE, metavar="FILE", help="The exact packages, instead of the server's own.")
@click.option(
    "--index-url",
    metavar="URL",
    envvar="PIP_INDEX_URL",
    show_envvar=True,
    help="Where packages come from; kept secret.",
)
@click.option(
    "--ca-bundle",
    type=_FILE,
    metavar="FILE",
    envvar="PIP_CERT",
    show_envvar=True,
    help="Certificates that the index is checked with.",
)
@options.config_file
@options.output
def build_server(**chosen: object) -> None:
    """Build the prediction server image; it knows no model.

    What is not given comes from mlops.yml, if there is one. Unchanged inputs are not built again. An engine that does
    not answer is given up after 10 s, a build after an hour; what was done until then is kept for the next build.
    """
    choices = Choices(**chosen)  # type: ignore[arg-type]  # click has checked the types
    spec = find_project(choices.file, choices.environment).spec
    build = _build(choices, spec)
    from mlops_deploy.api import build_server as api

    with story() as telling:
        built = api.build_server(build, wiring.image_builder(), telling)
    _report(built, choices, spec)


def _build(choices: Choices, spec: "DeploySpec | None") -> "ServerBuild":
    from mlops_deploy.api.server_inputs import configured, known_preset
    from mlops_deploy.spec.deploy import ServerSpec
    from mlops_deploy.spec.refs import ImageRef
    from mlops_deploy.spec.secret import Secret

    server = spec.server if spec else ServerSpec()
    if server.image:
        raise UnusableInputError(
            f"`server.image` names the ready image `{server.image}`: there is nothing to build",
            hint="remove `server.image` to use an image of `build-server`",
        )
    build = configured(known_preset(spec.preset if spec else DEFAULT_PRESET), server)
    return replace(
        build,
        base=choices.base or build.base,
        hook=choices.hook or build.hook,
        constraints=choices.constraints or build.constraints,
        tag=ImageRef.parse(choices.tag) if choices.tag else None,
        index_url=Secret(choices.index_url) if choices.index_url else None,
        ca_bundle=choices.ca_bundle,
    )


def _report(built: "BuiltServer", choices: Choices, spec: "DeploySpec | None") -> None:
    if choices.output == "json":
        result = {
            "tag": str(built.tag),
            "id": str(built.facts.id),
            "preset": spec.preset if spec else DEFAULT_PRESET,
            "base": built.base,
            "built": built.built,
            "size": built.facts.size,
            "seconds": round(built.seconds, 3),
            "provides": built.provides,
        }
        click.echo(json.dumps(result))
        return
    done = f"built in {built.seconds:.1f} s" if built.built else "nothing has changed"
    click.echo(f"server image: {built.facts.size / 1e6:,.0f} MB on `{built.base}`, {done}", err=True)
    click.echo(str(built.tag))
    if spec is not None:
        click.echo(f"next: mlops-deploy release{options.naming(choices.file, choices.environment)}", err=True)
