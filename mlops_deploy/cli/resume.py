"""`mlops-deploy resume`: somebody else's release, or an interrupted one, is finished."""

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
def resume(file: Path, environment: str | None, target: str | None, output: str) -> None:
    """Go on with the release that has not ended, forward or back, from whatever machine.

    It looks at the slots and the router first, and repeats the step that was begun.
    """
    from mlops_deploy.api import decisions
    from mlops_deploy.cli.result import show

    with release_story() as story:
        project, spec = require_project(file, environment)
        report = decisions.resume(find_service(project, spec, target), story.witness)
    show(report, output, story)
