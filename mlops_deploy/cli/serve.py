"""`mlops-deploy serve`: one model on this machine, without a container engine."""

import json
import os
import shlex
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import click

from mlops_deploy.cli import options, wiring
from mlops_deploy.cli.build_server import DEFAULT_PRESET
from mlops_deploy.cli.console import PlainStory, story
from mlops_deploy.cli.project import Project, find_project
from mlops_deploy.errors import UnusableInputError

if TYPE_CHECKING:
    from mlops_deploy.api.serve import Served, Serving
    from mlops_deploy.api.server_env import Packages
    from mlops_deploy.api.server_inputs import ServerBuild
    from mlops_deploy.ports import Running, Story
    from mlops_deploy.store.layout import Stored

_PORT: Final = 8080
_LONGEST_EXAMPLE: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The options of one call."""

    model: str | None
    port: int | None
    hook: Path | None
    file: Path
    environment: str | None
    insecure_registries: tuple[str, ...]
    output: Literal["text", "json"]


@click.command()
@click.argument("model", type=options.SomeText(), required=False, metavar="[PATH|REF]")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="N",
    help="Port; 0 takes a free one.  [default: of mlops.yml, else 8080]",
)
@click.option(
    "--hook",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Steps around the model.",
)
@options.insecure_registries
@options.config_file
@options.output
def serve(**chosen: object) -> None:
    """Serve one model on this machine, without a container engine.

    A PATH is built into .mlops/store first, a REF is taken from there, REGISTRY/NAME:TAG is copied there; the default
    is the model of mlops.yml. The server's environment is made once and kept. Prints the address when the model
    answers; Ctrl-C ends it (exit 0).
    """
    choices = Choices(**chosen)  # type: ignore[arg-type]  # click has checked the types
    project = replace(find_project(choices.file, choices.environment), insecure=choices.insecure_registries)
    with story() as telling:
        serving = _prepare(choices, project, telling)
    serving.run(PlainStory().say, lambda process, verdict: _report(choices.output, serving.served, process, verdict))


def _prepare(choices: Choices, project: Project, telling: "Story") -> "Serving":
    from mlops_deploy.api.bootstrap import place_model
    from mlops_deploy.api.serve import Served, Serving, choose_port, environment
    from mlops_deploy.api.server_env import find_or_make, server_cache
    from mlops_deploy.spec.deploy import Ready

    spec = project.spec
    build = _server(choices, project, telling)
    asked = choices.port if choices.port is not None else (spec.port if spec else _PORT)
    choose_port(asked)
    stored = _carrier(choices.model, project, telling)
    path = place_model(project.store(), stored, project.root / ".mlops" / "serve", wiring.runner(), telling)
    programs = find_or_make(_packages(build), server_cache(os.environ), os.environ, wiring.launcher(), telling)
    ready = spec.ready if spec else Ready()
    served = Served(
        model=stored.name,
        content_id=stored.content_id,
        path=path,
        port=choose_port(asked),
        deadline=ready.deadline,
        hook=build.hook,
        golden=ready.golden if spec and spec.model.name == stored.name else (),
        env=spec.env if spec else {},
    )
    env = environment(served, build.preset, programs, os.environ)
    telling.say(f"starting the server on port {served.port}")
    return Serving(served=served, preset=build.preset, env=env, launcher=wiring.launcher(), runner=wiring.runner())


def _server(choices: Choices, project: Project, telling: "Story") -> "ServerBuild":
    from mlops_deploy.api.serve import check_preset
    from mlops_deploy.api.server_inputs import check_inputs, configured, known_preset
    from mlops_deploy.spec.deploy import ServerSpec

    spec = project.spec
    build = configured(known_preset(spec.preset if spec else DEFAULT_PRESET), spec.server if spec else ServerSpec())
    if choices.hook is not None:
        build = replace(build, hook=choices.hook)
    check_preset(build.preset)
    check_inputs(build)
    if spec and spec.server.image:
        telling.warn(f"`server.image` needs an engine and is not used: preset `{spec.preset}` runs as a process")
    return build


def _packages(build: "ServerBuild") -> "Packages":
    from mlops_deploy.api.server_env import Packages

    constraints = build.constraints or build.recipe / "constraints.txt"
    return Packages(requirements=build.recipe / "requirements.txt", constraints=constraints)


def _carrier(model: str | None, project: Project, telling: "Story") -> "Stored":
    """A path is built, else a reference is found; without either it is the configured model that is built."""
    from mlops_deploy.api.into_store import bring_into_store
    from mlops_deploy.api.registry_images import registry_ref

    if model is None:
        return _built(None, project, telling)
    if Path(model).exists():
        return _built(Path(model), project, telling)
    ref, store = registry_ref(model), project.store()
    if ref is not None and not store.has_carrier(model):
        return bring_into_store(ref, store, partial(wiring.registries, project.insecure), telling)
    try:
        return store.find(model)
    except UnusableInputError as absent:
        message = f"`{model}` is neither a file or folder here nor a carrier in the store"
        raise UnusableInputError(message, hint=absent.hint) from absent


def _built(path: Path | None, project: Project, telling: "Story") -> "Stored":
    from mlops_deploy.api.build_model import build_model
    from mlops_deploy.cli.destinations import store_destination
    from mlops_deploy.cli.model import model_build

    build = model_build(project, telling, path=path)
    built = build_model(build, [store_destination(project, build, telling)], project.cache(), telling)
    return project.store().find(built.carrier.digest.hex)


def _report(output: str, served: "Served", process: "Running", verdict: str) -> None:
    click.echo(verdict, err=True)
    click.echo(f"try: {_example(served)}", err=True)
    click.echo("Ctrl-C ends it", err=True)
    if output == "text":
        click.echo(served.url)
        return
    result = {
        "url": served.url,
        "model": served.model,
        "content_id": str(served.content_id),
        "pid": process.pid,
    }
    click.echo(json.dumps(result))


def _example(served: "Served") -> str:
    """A prediction where a golden request is short enough to be shown, else a look at the model."""
    for golden in served.golden:
        body = shlex.quote(json.dumps(golden.request, ensure_ascii=False))
        if len(body) <= _LONGEST_EXAMPLE:
            return f"curl -s {served.url}/infer -d {body}"
    return f"curl -s {served.url}"
