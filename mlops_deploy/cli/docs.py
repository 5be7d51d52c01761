"""`mlops-deploy docs`: the reference of the configuration."""

import json

import click

from mlops_deploy.errors import UnusableInputError


@click.command()
@click.argument("section", required=False)
@click.option("--schema", is_flag=True, help="Print the JSON Schema, for editors.")
@click.option("--example", is_flag=True, help="Print an annotated mlops.yml to start from.")
def docs(section: str | None, *, schema: bool, example: bool) -> None:
    """Describe every key of mlops.yml, or those of SECTION.

    The same table that describes the keys also reads them, so the text is never behind.
    """
    from mlops_deploy.config import reference
    from mlops_deploy.config.keys import TABLE, TITLE

    if (section is not None) + schema + example > 1:
        raise click.UsageError("SECTION, --schema and --example go each without the others")
    if schema:
        click.echo(json.dumps(reference.json_schema(TABLE, TITLE), indent=2, ensure_ascii=False))
    elif example:
        click.echo(reference.example(TABLE), nl=False)
    else:
        click.echo(reference.reference(TABLE, TITLE) if section is None else _section(section), nl=False)


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
