"""`mlops-deploy advance`: the decision that a release waits for."""

from pathlib import Path

import click

from mlops_deploy.cli import options
from mlops_deploy.cli.progress import release_story
from mlops_deploy.cli.project import require_project
from mlops_deploy.cli.target import find_service, target_option


@click.command()
@options.config_file
@target_option
@options.output
def advance(file: Path, environment: str | None, target: str | None, output: str) -> None:
    """Let the release that waits for a decision go on, as `release --until ready` left it."""
    from mlops_deploy.api import decisions
    from mlops_deploy.cli.result import show

    with release_story() as story:
        project, spec = require_project(file, environment)
        report = decisions.advance(find_service(project, spec, target), story.witness)
    show(report, output, story)
