"""`mlops-deploy docs`: the reference of the configuration."""

import json

import click

from mlops_deploy.errors import UnusableInputError


@click.command()
@click.argument("section", required=False)
@click.option("--schema", "form", flag_value="schema", help="Print the JSON Schema, for editors.")
@click.option("--example", "form", flag_value="example", help="Print an annotated mlops.yml to start from.")
def docs(section: str | None, form: str | None) -> None:
    """Describe every key of mlops.yml, or those of SECTION.

    The same table that describes the keys also reads them, so the text is never behind.
    """
    from mlops_deploy.config import reference
    from mlops_deploy.config.keys import TABLE, TITLE

    if section and form:
        raise click.UsageError("SECTION goes without --schema and --example")
    match form:
        case "schema":
            click.echo(json.dumps(reference.json_schema(TABLE, TITLE), indent=2, ensure_ascii=False))
        case "example":
            click.echo(reference.example(TABLE), nl=False)
        case _:
            click.echo(_section(section) if section else reference.reference(TABLE, TITLE), nl=False)


def _section(name: str) -> str:
    from difflib import get_close_matches

    from mlops_deploy.config.keys import TABLE
    from mlops_deploy.config.reference import section

    fields = {one.key: one for one in TABLE.fields}
    top = name.partition(".")[0]
    if top not in fields:
        near = get_close_matches(top, fields, n=1)
        hint = f"did you mean `mlops-deploy docs {near[0]}`?" if near else f"there are {', '.join(fields)}"
        raise UnusableInputError(f"there is no section `{name[:80]}`", hint=hint)
    return section(fields[top])
