"""`mlops-deploy tend`: what a deadline says shall happen when nobody decided."""

import click

from mlops_deploy.cli.place import Place, placed


@click.command("tend")
@placed
def tend(place: Place) -> int:
    """Do what is due when nobody decided in time; for a timer, say every minute.

    Before the promotion, a release that nobody carries on turns back; a bake that is over, a promoted one, and one
    that was turning back are finished. Silent, with exit code 0, when nothing was due.
    """
    from mlops_deploy.api import tend as api
    from mlops_deploy.cli.progress import PlainRelease

    telling = PlainRelease()
    report = api.tend(place.service(), telling.witness)
    if report is None:
        return 0
    telling.say(f"release `{report.release}`: {report.result}: {report.reason}")
    for line in report.lines:
        telling.say(line)
    click.echo(f"next: {place.located(report.hint) if report.hint else place.command('status')}", err=True)
    return report.code
