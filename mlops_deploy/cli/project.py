"""The folder that a command works in: where `mlops.yml` is, or would be, with `.mlops/` and `mlops.lock` beside it."""

import os
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlops_deploy.cli.options import CONFIG_FILE
from mlops_deploy.errors import UnusableInputError

if TYPE_CHECKING:
    from mlops_deploy.spec.deploy import DeploySpec, WebModel
    from mlops_deploy.store.cache import DigestCache
    from mlops_deploy.store.layout import LayoutStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """`spec` is None where there is no configuration and none was asked for; `files` are what it was read from.

    `insecure` are the registries that may be asked without trust.
    """

    root: Path
    spec: "DeploySpec | None"
    files: tuple[Path, ...] = ()
    insecure: tuple[str, ...] = ()

    @property
    def lock(self) -> Path | None:
        """The lock file; only a project with a configuration has one."""
        return self.root / "mlops.lock" if self.spec else None

    def model(self) -> "Path | WebModel":
        """The model that the configuration names; a usage error where there is none."""
        if self.spec is None:
            raise click.UsageError("name a model: there is no `mlops.yml` here that names one")
        return self.spec.model.web or self.spec.model.path

    def web_place(self, model: "WebModel") -> Path:
        """Where a model on the web would be, if it were kept."""
        return self.root / ".mlops" / "web" / model.file

    def inputs(self) -> tuple[Path, ...]:
        """The files of the configuration with every overlay, what they name, the model, and the lock."""
        if self.spec is None or self.lock is None:
            return ()
        server = (path for path in (self.spec.server.hook, self.spec.server.constraints) if path is not None)
        return (*self.files, *_overlays(self.files), self.lock, *server, self.spec.model.path)

    def require_no_input(self, target: Path, what: str, *others: Path) -> None:
        """Raise `UnusableInputError` when writing `what` to `target` would change an input, `others`, or the store."""
        from mlops_deploy.oci.inventory import OWN_FOLDER

        place, store = Path(os.path.realpath(target)), Path(os.path.realpath(self._store))
        if store in place.parents:
            message = f"{what} `{target}` lies inside the store `{self._store}`"
            raise UnusableInputError(message, hint="name a place outside of it")
        for source in (*others, *self.inputs()):
            root = Path(os.path.realpath(source))
            if not os.path.isdir(root):  # noqa: PTH112 - it takes names that no file can have
                if place != root:
                    continue
                message = f"{what} `{target}` would overwrite `{source}`, which is needed"
                raise UnusableInputError(message, hint="name another file")
            if place.is_relative_to(root) and not place.is_relative_to(root / OWN_FOLDER):
                message = f"{what} `{target}` lies inside the model `{source}`"
                raise UnusableInputError(message, hint="name a place outside of it")

    def require_apart(self, model: Path) -> None:
        """Raise `UnusableInputError` when the folder that this product writes to would travel as a part of `model`."""
        place = Path(os.path.realpath(model))
        if not self.root.is_relative_to(place) or (self.spec is None and self.root == place):
            return
        if self.spec is None:
            raise UnusableInputError(
                f"the model folder `{model}` holds the folder that this command runs in, and would hold its cache",
                hint="run it from outside of the model, or from its top",
            )
        raise UnusableInputError(
            f"the model folder `{model}` holds the configuration `{self.files[0]}`, which is no part of a model",
            hint="put the model into a folder of its own, such as `model`, and name that at `model.path`",
        )

    @property
    def _store(self) -> Path:
        return self.root / ".mlops" / "store"

    def store(self, path: Path | None = None) -> "LayoutStore":
        """The store at `path`, by default `.mlops/store`."""
        from mlops_deploy.store.layout import LayoutStore

        return LayoutStore(path or self._store)

    @property
    def kept_shells(self) -> Path | None:
        """Where shells are kept that were taken out of images, for a project that has a lock to find them by."""
        return self.root / ".mlops" / "cache" / "shells" if self.spec else None

    def cache(self) -> "DigestCache":
        """What earlier builds learned of files here."""
        from mlops_deploy.store.cache import DigestCache

        return DigestCache(self.root / ".mlops" / "cache" / "digests.sqlite")


def find_project(file: Path, environment: str | None, *, named: bool = True) -> Project:
    """The project of `-f` and `-e`; without either, a folder without a configuration will do.

    Without `named` the files that the configuration names are not looked at.
    """
    if file == Path(CONFIG_FILE) and environment is None and not file.exists():
        return Project(root=Path.cwd(), spec=None)
    from mlops_deploy.config.load import load_with_files

    spec, files = load_with_files(file, environment, named=named)
    return Project(root=spec.root, spec=spec, files=files)


def require_project(file: Path, environment: str | None, *, named: bool = True) -> tuple[Project, "DeploySpec"]:
    """The project of a command that cannot work without a configuration; see `find_project`."""
    project = find_project(file, environment, named=named)
    if project.spec is None:
        raise click.UsageError(f"there is no `{file}` here; `mlops-deploy docs --example` prints one to begin with")
    return project, project.spec


def _overlays(files: tuple[Path, ...]) -> tuple[Path, ...]:
    """Every overlay of a configuration, whether it was chosen or not."""
    return tuple(files[0].parent.glob(f"{escape(files[0].stem)}.*{escape(files[0].suffix)}")) if files else ()
