"""How every template is read: a value that is missing is a mistake. Those of job files are laid out as YAML."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError, Undefined

from mlops_deploy.errors import DeployError
from mlops_deploy.render.scalar import Scalar, as_yaml


def environment(source: Path, finalize: Callable[..., str] | None = None) -> Environment:
    """The templates below `source`; each value passes `finalize`, which serialises it. Without: values were checked."""
    return Environment(  # noqa: S701 - what is written is not HTML
        loader=FileSystemLoader(source),
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )


def fill(source: Path, template: str, document: Mapping[str, object]) -> str:
    """The text of `source/template` with the values of `document`; raise `DeployError` for a fault of the template."""
    try:
        return _yaml(source).get_template(template).render(document)
    except TemplateError as wrong:
        raise DeployError(f"the template `{template}` cannot be filled: {wrong}") from wrong


@functools.cache
def _yaml(source: Path) -> Environment:
    return environment(source, _written)


def _written(value: Scalar | list[str] | Undefined) -> str:
    # A name that the document lacks raises when it is read: the environment is strict.
    return str(value) if isinstance(value, Undefined) else as_yaml(value)
