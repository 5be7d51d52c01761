"""`mlops-deploy rollback`: what was live before takes the traffic back."""

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
def rollback(file: Path, environment: str | None, target: str | None, output: str) -> None:
    """Give the traffic back to what was live before; hot when that still runs in its slot.

    Needs no version. A second rollback goes forward again.
    """
    from mlops_deploy.api import decisions
    from mlops_deploy.cli.result import show

    with release_story() as story:
        project, spec = require_project(file, environment)
        service = find_service(project, spec, target)
        report = decisions.rollback(service, story, story.witness)
    show(report, output, story)
