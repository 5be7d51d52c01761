"""The end of a command that changes a service: one line or one JSON object on stdout, the reckoning on stderr."""

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import click

from mlops_deploy.cli.course import legible
from mlops_deploy.cli.place import Place
from mlops_deploy.cli.progress import ReleaseStory, release_story
from mlops_deploy.errors import DeployError

if TYPE_CHECKING:
    from mlops_deploy.api.report import Report, Traffic
    from mlops_deploy.ports import Story
    from mlops_deploy.release.state import Counters

_NEXT: Final = {
    "released": "`mlops-deploy status` shows it, `mlops-deploy rollback` goes back",
    "nothing": "`mlops-deploy status` shows what is live",
    "aborted": "`mlops-deploy status` shows what is live, `mlops-deploy release` tries again",
}


class UnfinishedError(DeployError):
    """A release that did not end as it was asked for; the code is that of its outcome."""

    def __init__(self, report: "Report") -> None:
        super().__init__(legible(_failure(report)), hint=report.hint, detail=[legible(line) for line in report.lines])
        self.exit_code = report.code


def carry_out(place: Place, output: str, act: "Callable[[ReleaseStory], Report | None]") -> None:
    """Let `act` change the service of `place`, tell its story, and print how it ended; None is no end to print."""
    with release_story() as story:
        report = act(story)
    if report is not None:
        show(report, output, story, place)


def show(report: "Report", output: str, story: "Story", place: Place) -> None:
    """Print how the command ended; raise `UnfinishedError` when that is not what was asked for."""
    for line in reckoning(report):
        story.say(line)
    if output == "json":
        click.echo(json.dumps(as_json(report)))
    elif report.code == 0:
        click.echo(" ".join((report.live or "-", *([report.release] if report.release else []))))
    if report.code:
        raise UnfinishedError(report)
    story.say(f"next: {place.located(report.hint or _NEXT.get(report.result, _NEXT['nothing']))}")


def reckoning(report: "Report") -> Iterator[str]:
    """What people want to know at the end: what is live, what the router counted, how long it took."""
    if report.result == "nothing":
        yield f"nothing to do: {report.live or 'nothing'} is live"
        return
    if report.code == 0:
        where = f" in slot {report.slot}" if report.slot else ""
        yield f"{report.result}: {f'{report.live} is live{where}' if report.live else 'nothing is live'}"
    if report.traffic is not None:
        yield f"meanwhile the router counted {_traffic(report.traffic)}"
    elif report.uncounted is not None:
        yield f"requests could not be counted: {report.uncounted}"
    if report.result == "released" and report.switch is not None:
        yield f"the switch took {report.switch * 1000:.1f} ms, all of it {report.seconds or 0.0:.1f} s"


def as_json(report: "Report") -> dict[str, object]:
    """The result as one object; null where it is not known."""
    traffic = report.traffic
    return {
        "release": report.release,
        "result": report.result,
        "code": report.code,
        "reason": report.reason,
        "live": report.live,
        "slot": report.slot,
        "slots": {
            name: {"version": slot.version, "state": slot.state, "share": slot.share}
            for name, slot in (report.slots or {}).items()
        },
        "requests": traffic and traffic.entry.requests,
        "failed": traffic and traffic.entry.failed,
        "by_slot": traffic and {"a": _counts(traffic.a), "b": _counts(traffic.b)},
        "switch_seconds": report.switch,
        "seconds": report.seconds,
    }


def _counts(counters: "Counters") -> dict[str, int]:
    return {"requests": counters.requests, "failed": counters.failed}


def _traffic(traffic: "Traffic") -> str:
    entry = traffic.entry
    lanes = ", ".join(f"slot {name} {lane.requests:,}" for name, lane in (("a", traffic.a), ("b", traffic.b)))
    return f"{entry.requests:,} request{'' if entry.requests == 1 else 's'}, {entry.failed:,} failed ({lanes})"


def _failure(report: "Report") -> str:
    named = f"release `{report.release}` " if report.release else ""
    match report.result:
        case "reverted":
            where = f"; {report.live} is live" if report.live else "; nothing is live"
            return f"{named}turned back: {report.reason}{where}"
        case "interrupted":
            return f"{named}{report.reason}"
        case "unreachable" | "locked":
            return f"{named}stopped: {report.reason}; traffic stays as it was last committed"
        case _:
            return report.reason
