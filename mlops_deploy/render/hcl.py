"""A Nomad job as HCL for people: laid out by templates, read back, and never anything but the document it was given."""

import functools
import re
import unicodedata
from typing import Final

from jinja2 import Environment, TemplateError, Undefined

from mlops_deploy.errors import DeployError, UnusableInputError
from mlops_deploy.render.hcl_reader import REFERENCE, read_job
from mlops_deploy.render.layout import Document, canonical, refuse_unspeakable
from mlops_deploy.render.template import environment
from mlops_deploy.resources import JOBS
from mlops_deploy.spec.units import show_duration

TEMPLATE: Final = "nomad/job.hcl.j2"

_SECOND: Final = 1_000_000_000
_MILLI: Final = 1_000_000
_BARE: Final = re.compile(r"[A-Z_][A-Z0-9_]*")
_OPENS: Final = re.compile(r"[$%]\{")
_ATTRIBUTE: Final = re.compile(r'([A-Za-z_][\w-]*|"(?:[^"\\]|\\.)*") = (.*[^{])')

# What ends a text or cannot stand in it, and what nobody who reads it could see.
_SPECIAL: Final = re.compile(r"[\"\\\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
_ESCAPES: Final = {'"': r"\"", "\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t"}


class _Written(str):
    """Text that is HCL already."""

    __slots__ = ()


def hcl(job: Document) -> str:
    """Lay out `job`, a complete job in the form of the API, as `nomad fmt` would format it.

    Raises `UnusableInputError` for a text that HCL cannot say, `DeployError` for a job that the templates do not know.
    """
    refuse_unspeakable(job, ())
    text = lay_out(job)
    if canonical(read_job(text)) != canonical(job):
        raise DeployError(f"the template `{TEMPLATE}` does not say what it was given", hint="nothing was written")
    return text


def lay_out(job: Document) -> str:
    """The text alone, unproven."""
    try:
        filled = _environment().get_template(TEMPLATE).render(job)
    except TemplateError as wrong:
        raise DeployError(f"the template `{TEMPLATE}` cannot be filled: {wrong}") from wrong
    return _formatted(filled)


@functools.cache
def _environment() -> Environment:
    ours = environment(JOBS, _written)
    ours.filters |= {"time": _time, "attribute": _attribute, "key": _key}
    return ours


def _written(value: bool | int | str | list[str] | Undefined) -> str:  # noqa: FBT001 - a value
    match value:
        case _Written():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str():
            return _quoted(value)
        case list():
            return f"[{', '.join(_quoted(item) for item in value)}]"
        case _:
            return str(value)


def _quoted(text: str) -> str:
    if not unicodedata.is_normalized("NFC", text):
        raise UnusableInputError(
            f"`{text[:80]}` holds characters that are put together of several, which HCL would change",
            hint="`-o FILE.json` writes the form of the API, which takes them",
        )
    escaped = _SPECIAL.sub(lambda found: _ESCAPES.get(found[0]) or f"\\u{ord(found[0]):04x}", text)
    return f'"{_OPENS.sub(lambda found: found[0][0] + found[0], escaped)}"'


def _time(nanoseconds: int) -> _Written:
    """A duration as people write it, where that is exact."""
    if nanoseconds % _MILLI:
        return _Written(nanoseconds)
    return _Written(f'"{show_duration(nanoseconds / _SECOND)}"')


def _attribute(text: str) -> _Written:
    """What a node is asked for: a reference that Nomad looks up, as it is usually written."""
    return _Written(f'"{text}"' if REFERENCE.fullmatch(text) else _quoted(text))


def _key(name: str) -> _Written:
    return _Written(name if _BARE.fullmatch(name) else _quoted(name))


def _formatted(text: str) -> str:
    """Indent by braces; align what is assigned in neighbouring lines."""
    lines: list[tuple[str, str | None]] = []
    depth = 0
    for bare in map(str.strip, text.splitlines()):
        depth -= bare == "}"
        found = _ATTRIBUTE.fullmatch(bare)
        lines.append((f"{'  ' * depth}{found[1] if found else bare}".rstrip(), found and found[2]))
        depth += bare.endswith("{")
    return "".join(f"{line}\n" for line in _aligned(lines))


def _aligned(lines: list[tuple[str, str | None]]) -> list[str]:
    widths = [0] * len(lines)
    for index, (name, value) in enumerate(lines):
        if value is not None:
            widths[index] = max(len(name), widths[index - 1] if index else 0)
    for index in range(len(lines) - 2, -1, -1):
        if widths[index] and widths[index + 1]:
            widths[index] = widths[index + 1]
    return [
        name if value is None else f"{name:<{width}} = {value}"
        for (name, value), width in zip(lines, widths, strict=True)
    ]
