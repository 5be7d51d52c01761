"""What a table says for people and editors: reference text, JSON Schema, annotated example."""

from collections.abc import Iterator
from textwrap import wrap
from typing import Any

from mlops_deploy.config.fields import Field, Schema, Table


def reference(table: Table, title: str) -> str:
    """Every key of the table as Markdown that also reads well on a terminal."""
    plain = [one for one in table.fields if not isinstance(one.kind, Table)]
    sections = [one for one in table.fields if isinstance(one.kind, Table)]
    lines = [f"# {title}", "", table.doc, "", *(line for one in plain for line in _entry(one, ""))]
    return "\n".join(lines) + "\n" + "".join("\n" + section(one) for one in sections)


def section(field: Field[Any]) -> str:
    """One key, or one section with every key in it."""
    if not isinstance(field.kind, Table):
        return "\n".join(_entry(field, "")) + "\n"
    required = " (required)" if field.required else ""
    return "\n".join((f"## {field.key}{required}", "", field.doc, "", *_entries(field.kind, f"{field.key}."))) + "\n"


def json_schema(table: Table, title: str) -> Schema:
    """The table as a JSON Schema document, draft 2020-12."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, "description": table.doc}
    return head | table.schema()


def example(table: Table) -> str:
    """A complete file that loads as it is; optional keys are there as `#key: value`, ready to be switched on."""
    return "\n".join(_example(table, "", off=False)) + "\n"


def _entries(table: Table, prefix: str) -> Iterator[str]:
    """Every key; a map in the section is followed by its own keys, under their full names."""
    for one in table.fields:
        if isinstance(one.kind, Table):
            yield f"* `{prefix}{one.key}` (a map)"
            yield from _wrapped(one.doc, "  ")
            yield from _entries(one.kind, f"{prefix}{one.key}.")
        else:
            yield from _entry(one, prefix)


def _entry(field: Field[Any], prefix: str) -> Iterator[str]:
    default = "required" if field.required else f"default: {field.shown or 'none'}"
    yield f"* `{prefix}{field.key}` ({default})"
    yield from _wrapped(field.doc, "  ")
    yield from _wrapped(f"Must be {field.kind.expected}.", "  ")
    yield f"  Example: `{field.key}: {field.example}`"


def _example(table: Table, indent: str, *, off: bool) -> Iterator[str]:
    for one in table.fields:
        hidden = off or not one.required
        switch = "#" if hidden else ""
        yield from _wrapped(one.doc, f"{indent}# ")
        if isinstance(one.kind, Table):
            yield f"{indent}{switch}{one.key}:"
            yield from _example(one.kind, indent + "  ", off=hidden)
        else:
            yield f"{indent}{switch}{one.key}: {one.example}"
        if not indent:
            yield ""


def _wrapped(text: str, indent: str) -> list[str]:
    return wrap(text, 100, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
