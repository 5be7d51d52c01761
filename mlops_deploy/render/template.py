"""The templates of job files: every value is laid out as YAML, and one that is missing is a mistake."""

import functools
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError, Undefined

from mlops_deploy.errors import DeployError
from mlops_deploy.render.scalar import Scalar, as_yaml


def fill(source: Path, template: str, document: Mapping[str, object]) -> str:
    """The text of `source/template` with the values of `document`; raise `DeployError` for a fault of the template."""
    try:
        return _environment(source).get_template(template).render(document)
    except TemplateError as wrong:
        raise DeployError(f"the template `{template}` cannot be filled: {wrong}") from wrong


@functools.cache
def _environment(source: Path) -> Environment:
    return Environment(  # noqa: S701 - what is written is YAML; `finalize` serialises every value
        loader=FileSystemLoader(source),
        undefined=StrictUndefined,
        finalize=_written,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )


def _written(value: Scalar | list[str] | Undefined) -> str:
    # A name that the document lacks raises when it is read: the environment is strict.
    return str(value) if isinstance(value, Undefined) else as_yaml(value)
