"""Which model a command builds, under which name, and what is declared about it."""

import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_deploy.cli.project import Project
from mlops_deploy.errors import UnusableInputError

if TYPE_CHECKING:
    from mlops_deploy.api.build_model import ModelBuild
    from mlops_deploy.oci.metadata import ModelCard
    from mlops_deploy.ports import Story
    from mlops_deploy.spec.deploy import WebModel
    from mlops_deploy.spec.refs import ImageRef


def model_build(
    project: Project,
    telling: "Story",
    *,
    path: "Path | WebModel | None",
    name: str | None = None,
    tags: Sequence[str] = (),
    shells: Sequence[str] = (),
) -> "ModelBuild":
    """What is to be built: the model at `path`, by default the project's; nothing of it has been read yet."""
    from mlops_deploy.api.build_model import ModelBuild
    from mlops_deploy.api.shells import choose_shells
    from mlops_deploy.api.web_source import look_at
    from mlops_deploy.cli import wiring

    if path is None:
        path = project.model()
    names = tuple(_tag(text) for text in tags)
    place = path if isinstance(path, Path) else project.web_place(path)
    card = model_card(name, project, place)
    project.require_apart(place)
    web = None if isinstance(path, Path) else look_at(path, project.lock, wiring.web(), telling)
    found = choose_shells(
        shells, project.lock, telling, partial(wiring.registries, project.insecure), project.kept_shells
    )
    return ModelBuild(path=place, web=web, card=card, shells=found, tags=names)


def model_card(name: str | None, project: Project, path: Path) -> "ModelCard":
    """What is declared about the model at `path`: by the project, if it is the project's; `name` comes first."""
    from mlops_deploy.oci.metadata import ModelCard
    from mlops_deploy.spec.refs import is_model_name

    declared = project.spec.model if project.spec and _same(project.spec.model.path, path) else None
    name = name or (declared.name if declared else _name_from(path))
    if not name:
        raise UnusableInputError(f"the path `{path}` gives the model no name", hint="give one with `--name`")
    if not is_model_name(name):
        raise UnusableInputError(
            f"`{name}` cannot name a model",
            hint="a name has at most 63 lower-case letters, digits, `.`, `_` or `-`, and is not `v`; see `--name`",
        )
    if declared is None:
        return ModelCard(name=name)
    return ModelCard(name=name, requires=declared.requires, licence=declared.licence, signature=declared.signature)


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _name_from(path: Path) -> str:
    """`My Model.joblib` → `my-model`."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - a name that leads elsewhere is still the user's name
    # Unlike `Path.is_dir`, this is quiet about folders that may not be searched: the inventory names them.
    stem = absolute.name if os.path.isdir(absolute) else absolute.stem  # noqa: PTH112
    plain = re.sub(r"[^a-z0-9._-]+|[._-]{2,}", "-", stem.lower())
    return re.sub(r"[._-]{2,}", "-", plain).strip("._-")[:63].rstrip("._-")


def _tag(text: str) -> "ImageRef":
    from mlops_deploy.spec.refs import ImageRef

    ref = ImageRef.parse(text)
    if ref.tag is None or ref.digest is not None:
        raise UnusableInputError(f"`{text}` is not `NAME:TAG`", hint="a version is a tag, such as `digits:1.2.0`")
    ref.require_free_tag()
    return ref
