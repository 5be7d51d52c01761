"""A service becomes a job file: the carrier is chosen, the file is written whole or not at all."""

from pathlib import Path
from shlex import quote

from mlops_deploy.api.artefact import job_carrier
from mlops_deploy.api.freshness import freshness
from mlops_deploy.api.registry_images import FindRegistries, look_up, registry_ref, remote_carrier
from mlops_deploy.api.server_inputs import check_inputs, configured, server_tag
from mlops_deploy.errors import DeployError, UnusableInputError
from mlops_deploy.ports import Story
from mlops_deploy.spec.deploy import DeploySpec
from mlops_deploy.spec.preset import Preset
from mlops_deploy.spec.rendered import JobImage, Rendered
from mlops_deploy.store.cache import DigestCache
from mlops_deploy.store.files import write_named
from mlops_deploy.store.layout import LayoutStore, Stored


def choose_carrier(spec: DeploySpec, store: LayoutStore, asked: str | None, registries: FindRegistries) -> Stored:
    """The carrier that `asked` names in the store, else in its registry; the newest of the service's model for None.

    Raises `UnusableInputError` when there is none, or when it carries another model than the service serves.
    """
    if asked is None:
        return _newest(spec, store)
    ref = registry_ref(asked)
    if ref is None or store.has_carrier(asked):
        stored = store.find(asked)
    else:
        stored = remote_carrier(look_up(ref, registries()))
    require_model(spec, stored, asked)
    return stored


def require_model(spec: DeploySpec, carrier: Stored, asked: str) -> None:
    """Raise `UnusableInputError` when `carrier`, which was asked for, carries another model than the service serves."""
    if carrier.name != spec.model.name:
        raise UnusableInputError(
            f"`{asked}` carries the model `{carrier.name}`; service `{spec.service}` serves `{spec.model.name}`",
            hint="name another carrier, or set `model.name`",
        )


def _newest(spec: DeploySpec, store: LayoutStore) -> Stored:
    stored = store.newest(spec.model.name)
    if stored is None:
        raise UnusableInputError(
            f"no carrier of model `{spec.model.name}` in the store `{store.path}`",
            hint="build one with `mlops-deploy build-model`",
        )
    return stored


def choose_server(spec: DeploySpec, preset: Preset, asked: str | None) -> JobImage:
    """The server image that was asked for, else the configuration's, else the preset's, else `build-server`'s."""
    named = asked or spec.server.image or preset.image
    if named is not None:
        return JobImage(ref=named, local=False)
    build = configured(preset, spec.server)
    check_inputs(build)
    return JobImage(ref=str(server_tag(build)), local=True)


def tell_choice(spec: DeploySpec, carrier: Stored, image: JobImage, story: Story) -> None:
    """Tell which model and which server a file names, and what a user may have left out."""
    built = f", built {carrier.time}" if carrier.time else ""
    story.say(
        f"model {carrier.name}@{carrier.content_id.short}: carrier `{job_carrier(spec, carrier).image.ref}`{built}"
    )
    story.say(f"server: `{image.ref}`")
    if spec.user is not None and int(spec.user.partition(":")[0]) == 0:
        story.warn("`user` says that the server runs as root")
    if not spec.ready.golden:
        story.say("golden requests: not checked; name a file of them at `ready.golden`")


def tell_changes(spec: DeploySpec, carrier: Stored, cache: DigestCache, story: Story) -> None:
    """Warn when the model on disk is not, or may not be, the one in the carrier."""
    match freshness(spec.model.path, carrier.content_id, cache):
        case "changed":
            story.warn(f"`{spec.model.path}` has changed since; `mlops-deploy build-model` builds a new carrier")
        case "touched":
            story.warn(f"`{spec.model.path}` may have changed since; `mlops-deploy build-model` builds a new carrier")
        case "same" | "absent":
            pass


def write(rendered: Rendered, path: Path) -> None:
    """Write the file under its name only when all of it is on disk; links are followed, pipes and devices written to.

    Raises `UnusableInputError` for a folder or a file in none, `DeployError` when the file cannot be written.
    """
    if path.is_dir():
        raise UnusableInputError(f"`{path}` is a folder; one file is written", hint=f"`-o {path / 'compose.yml'}`")
    if not path.resolve().parent.is_dir():
        folder = path.resolve().parent
        raise UnusableInputError(
            f"`{path}` cannot be written: there is no folder `{path.parent}`", hint=f"`mkdir -p {quote(str(folder))}`"
        )
    try:
        write_named(path, rendered.text.encode())
    except OSError as error:
        raise DeployError(
            f"`{path}` cannot be written: {(error.strerror or str(error)).lower()}", hint="name another place with `-o`"
        ) from error


def make_folder(path: Path) -> None:
    """Make the folder for the files of a release; raise `UnusableInputError` when it cannot be one."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnusableInputError(
            f"the folder `{path}` cannot be made: {(error.strerror or str(error)).lower()}",
            hint="name another place with `-o`",
        ) from error
