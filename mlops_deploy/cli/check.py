"""`mlops-deploy check`: every mistake of a configuration, with its place."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlops_deploy.cli import options
from mlops_deploy.errors import ConfigError

if TYPE_CHECKING:
    from mlops_deploy.config.issues import Issue
    from mlops_deploy.config.load import Examined


@click.command()
@options.config_file
@options.output
def check(file: Path, environment: str | None, output: str) -> None:
    """Check the configuration and show every mistake in it.

    Reads mlops.yml, its overlay and its golden requests, and nothing else. Prints one line when they are right.
    """
    from mlops_deploy.config.issues import as_error, pointer
    from mlops_deploy.config.keys import SECTIONS
    from mlops_deploy.config.load import examine

    try:
        seen = examine(file, environment)
    except ConfigError as error:
        if output == "json":
            click.echo(json.dumps(_unreadable(file, error), indent=2))
        raise
    if output == "json":
        click.echo(json.dumps(_as_json(seen), indent=2))
    warnings = [issue for issue in seen.issues if issue.severity == "warning"]
    for issue in warnings:
        click.echo("\n".join((f"warning: {issue.message}", *pointer(issue), "")), err=True)
    if errors := [issue for issue in seen.issues if issue.severity == "error"]:
        raise as_error(errors, SECTIONS)
    if output == "text":
        click.echo(_summary(seen))


def _summary(seen: "Examined") -> str:
    spec = seen.spec
    if spec is None:
        raise AssertionError("no spec although nothing was reported")
    parts = (
        f"model `{spec.model.name}`",
        f"preset `{spec.preset}`",
        f"target `{spec.target}`" if spec.target else "target chosen when it runs",
    )
    return f"`{spec.project}` is right: {', '.join(parts)}; read {', '.join(f'`{path}`' for path in seen.files)}"


def _as_json(seen: "Examined") -> dict[str, Any]:
    spec = seen.spec
    about = {} if spec is None else {"service": spec.service, "model": spec.model.name, "preset": spec.preset}
    target = {} if spec is None else {"environment": spec.environment, "target": spec.target}
    files = [str(path) for path in seen.files]
    return {"ok": spec is not None, **about, **target, "files": files, "issues": [_issue(one) for one in seen.issues]}


def _issue(issue: "Issue") -> dict[str, Any]:
    return {
        "severity": issue.severity,
        "file": issue.mark.source.name,
        "line": issue.mark.line,
        "column": issue.mark.column,
        "path": issue.key,
        "message": issue.message,
        "hint": issue.hint,
    }


def _unreadable(file: Path, error: ConfigError) -> dict[str, Any]:
    issue = {"severity": "error", "file": str(file), "line": None, "column": None, "path": ""}
    return {"ok": False, "files": [], "issues": [{**issue, "message": error.message, "hint": error.hint}]}
