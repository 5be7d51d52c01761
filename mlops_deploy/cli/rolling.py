"""A plan without slots, as people and programs read it."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from mlops_deploy.cli import wiring
from mlops_deploy.cli.plan_text import forecast_lines
from mlops_deploy.cli.project import Project
from mlops_deploy.release.forecast import Forecast
from mlops_deploy.release.rolling import LOST, RollingPlan

if TYPE_CHECKING:
    from mlops_deploy.api.planning import Wish
    from mlops_deploy.api.service import Service
    from mlops_deploy.ports import Story


def preview_rolling(
    service: "Service", project: Project, wish: "Wish", telling: "Story"
) -> tuple[RollingPlan, Forecast]:
    """The plan of a rolling release now, with what the cluster says of it."""
    from mlops_deploy.api import rolling as api

    made = api.preview(service, wiring.shelf(project), wish, telling)
    return made, api.forecast(service, wish, made)


def show_rolling(made: RollingPlan, forecast: Forecast, output: str) -> None:
    """Print the plan: JSON, or what people want to know of it."""
    if output == "json":
        from mlops_deploy.release.codec import encode

        said = {"plan": encode(made), "steps": made.steps, "lost": LOST, "forecast": encode(forecast)}
        click.echo(json.dumps(said))
        return
    for line in rolling_lines(made, forecast):
        click.echo(line)


def rolling_lines(made: RollingPlan, forecast: Forecast) -> Iterator[str]:
    """The lines of the plan; what is lost against a release on slots is always said."""
    now, then = made.before, made.candidate
    if not made.needed:
        yield f"{made.project} on {made.target}: nothing to do, {then.version} runs as version {now.version} of the job"
        return
    yield f"{made.project} on {made.target}: rolling (native), {made.count} server{'' if made.count == 1 else 's'}"
    old = f"{then.model}@{now.content[:12]} -> " if now.content and now.state != "absent" else ""
    yield f"  model     {old}{then.version}{'' if old else ' (new)'}"
    yield f"  server    {then.server}"
    for name, lines in (("steps", [f"{i}. {step}" for i, step in enumerate(made.steps, 1)]), ("lost", list(LOST))):
        for number, line in enumerate(lines):
            yield f"{f'  {name}' if number == 0 else '':<11} {line}"
    yield from forecast_lines(forecast)
    yield f"  rollback  {'cold: another deployment of what runs now' if old else 'none: nothing is live now'}"
