"""`mlops-deploy release`: a model takes over, with a way back."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import click

from mlops_deploy.cli import options, wiring
from mlops_deploy.cli.place import placed
from mlops_deploy.cli.plan import Asked, candidate_options, preview, releasing, show_next, show_plan
from mlops_deploy.cli.result import carry_out
from mlops_deploy.errors import UnusableInputError

if TYPE_CHECKING:
    from mlops_deploy.api.report import Report
    from mlops_deploy.api.service import Service
    from mlops_deploy.cli.progress import ReleaseStory
    from mlops_deploy.cli.project import Project
    from mlops_deploy.release.plan import Plan

_MOST: Final = 64 << 20
_ANOTHER: Final = "`mlops-deploy plan -o FILE` writes one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices(Asked):
    """The options of one call."""

    dry_run: bool
    plan: Path | None
    until: Literal["ready"] | None


@click.command()
@placed
@candidate_options
@click.option("--dry-run", is_flag=True, help="Print the plan and change nothing.")
@click.option(
    "--plan", type=options.SomePath(), metavar="FILE", help="Carry out exactly this plan; refused when it is stale."
)
@click.option(
    "--until",
    type=click.Choice(["ready"]),
    help="Stop once the candidate is ready, without any traffic; `advance` goes on.",
)
@options.output
def release(**chosen: object) -> None:
    """Make the newest carrier of the model live, without a failed request and with a way back.

    The candidate starts in the free slot, proves itself, and takes all traffic in one write; what was live stays
    parked. Prints what is live and the id of the release.
    """
    choices = Choices(**chosen)  # type: ignore[arg-type]  # click has checked the types
    _refuse_contradiction(choices)
    carry_out(choices.place, choices.output, lambda story: _release(choices, story))


def _refuse_contradiction(choices: Choices) -> None:
    given = {"--strategy": choices.strategy, "--model": choices.model, "--server": choices.server}
    given |= {"--until": choices.until}
    if choices.native and (choices.plan or choices.until):
        raise click.UsageError("`--native` takes neither `--plan` nor `--until`: the job's own index and deployment do")
    if choices.plan and (both := next((name for name, value in given.items() if value is not None), None)):
        raise click.UsageError(f"a plan says all of it: `{both}` cannot be given together with `--plan`")


def _release(choices: Choices, story: "ReleaseStory") -> "Report | None":
    from mlops_deploy.api import release as api
    from mlops_deploy.api.planning import Wish, load_plan, look
    from mlops_deploy.release.plan import require_fresh

    project, service = choices.place.project_and_service(choices.insecure_registries)
    if choices.native:
        return _native(choices, project, service, story)
    if choices.plan is not None:
        planned = load_plan(service, _text(choices.plan), str(choices.plan))
        if choices.dry_run:
            _shown(choices, service, require_fresh(planned, look(service)))
            return None
        return api.apply(service, planned, story, story.witness)
    wish = Wish(strategy=choices.strategy, model=choices.model, server=choices.server, hold=choices.until is not None)
    if choices.dry_run:
        _shown(choices, service, preview(service, project, wish, story))
        return None
    return api.release(service, wiring.shelf(project), wish, story, story.witness)


def _shown(choices: Choices, service: "Service", made: "Plan") -> None:
    show_plan(service, made, choices.output)
    if made.base.freeze is not None:
        show_next(choices, "unfreeze")
    elif made.steps:
        plan = [] if choices.plan is None else ["--plan", shlex.quote(str(choices.plan))]
        until = [] if choices.until is None else ["--until", choices.until]
        show_next(choices, releasing(choices, *plan, *until))


def _native(choices: Choices, project: "Project", service: "Service", story: "ReleaseStory") -> "Report | None":
    from mlops_deploy.api import rolling as api
    from mlops_deploy.api.planning import Wish
    from mlops_deploy.cli.rolling import preview_rolling, show_rolling

    wish = Wish(strategy=choices.strategy, model=choices.model, server=choices.server)
    if choices.dry_run:
        made, forecast = preview_rolling(service, project, wish, story)
        show_rolling(made, forecast, choices.output)
        if made.needed:
            show_next(choices, releasing(choices))
        return None
    return api.release(service, wiring.shelf(project), wish, story)


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MOST + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = (getattr(error, "strerror", None) or "it is not text").lower()
        raise UnusableInputError(f"the plan `{path}` cannot be read: {reason}", hint=_ANOTHER) from error
    if len(text) > _MOST:
        raise UnusableInputError(f"`{path}` is too large to be a plan", hint=_ANOTHER)
    return text
