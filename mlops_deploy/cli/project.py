"""The folder that a command works in: where `mlops.yml` is, or would be, with `.mlops/` and `mlops.lock` beside it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlops_deploy.cli.options import CONFIG_FILE

if TYPE_CHECKING:
    from mlops_deploy.spec.deploy import DeploySpec
    from mlops_deploy.store.cache import DigestCache
    from mlops_deploy.store.layout import LayoutStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """`spec` is None where there is no configuration and none was asked for."""

    root: Path
    spec: "DeploySpec | None"

    @property
    def lock(self) -> Path | None:
        """The lock file; only a project with a configuration has one."""
        return self.root / "mlops.lock" if self.spec else None

    def store(self, path: Path | None = None) -> "LayoutStore":
        """The store at `path`, by default `.mlops/store`."""
        from mlops_deploy.store.layout import LayoutStore

        return LayoutStore(path or self.root / ".mlops" / "store")

    def cache(self) -> "DigestCache":
        """What earlier builds learned of files here."""
        from mlops_deploy.store.cache import DigestCache

        return DigestCache(self.root / ".mlops" / "cache" / "digests.sqlite")


def find_project(file: Path, environment: str | None) -> Project:
    """The project of `-f` and `-e`; without either, a folder without a configuration will do."""
    if file == Path(CONFIG_FILE) and environment is None and not file.exists():
        return Project(root=Path.cwd(), spec=None)
    from mlops_deploy.config.load import load

    spec = load(file, environment)
    return Project(root=spec.root, spec=spec)


def require_project(file: Path, environment: str | None) -> tuple[Project, "DeploySpec"]:
    """The project of a command that cannot work without a configuration."""
    project = find_project(file, environment)
    if project.spec is None:
        raise click.UsageError(f"there is no `{file}` here; `mlops-deploy docs --example` prints one to begin with")
    return project, project.spec
