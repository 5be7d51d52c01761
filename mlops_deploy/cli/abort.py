"""`mlops-deploy abort`: the release that has not ended turns back."""

from pathlib import Path

import click

from mlops_deploy.cli import options
from mlops_deploy.cli.progress import release_story
from mlops_deploy.cli.project import require_project
from mlops_deploy.cli.target import find_service, target_option


@click.command()
@options.config_file
@target_option
@click.option("-m", "--message", type=options.SomeText(), metavar="TEXT", default="aborted", help="Why.")
@options.output
def abort(file: Path, environment: str | None, target: str | None, message: str, output: str) -> None:
    """Turn the open release back: traffic as it was before it, its candidate stopped.

    One that is promoted already can only be finished. A journal that cannot be read is closed, traffic left alone.
    """
    from mlops_deploy.api import decisions
    from mlops_deploy.cli.result import show

    with release_story() as story:
        project, spec = require_project(file, environment)
        service = find_service(project, spec, target)
        report = decisions.abort(service, message, story.witness)
    show(report, output, story)
