"""`mlops-deploy router apply`: the router gets the configuration that it would be made with now."""

import click

from mlops_deploy.cli.place import Place, placed
from mlops_deploy.errors import UnusableInputError


@click.command("router")
@click.argument("action", type=click.Choice(["apply"]), metavar="apply")
@click.option("--replace", is_flag=True, help="Make the router anew where a reload is not enough.")
@placed
def router(action: str, replace: bool, place: Place) -> None:  # noqa: ARG001, FBT001 - the one action; click's flag
    """Give the router the configuration of now: checked first, then reloaded without losing a connection.

    Says whether anything changed, and what of it needs a new router. Where requests go stays as it is.
    """
    from mlops_deploy.api.router_apply import router_apply
    from mlops_deploy.release.steps import describe_route

    done = router_apply(place.service(), replace=replace)
    if done.started:
        click.echo("the router was down, and is started", err=True)
    if done.restored is not None:
        click.echo(
            f"warning: the state was gone, and is laid out anew: {describe_route(done.restored)}; "
            "the history, a freeze and the way back are not known any more",
            err=True,
        )
    click.echo(
        "the configuration is changed, and in force" if done.changed else "the configuration is in force already",
        err=True,
    )
    if done.replaced:
        click.echo(f"the router is made anew: {done.differs}", err=True)
    elif done.differs:
        raise UnusableInputError(
            f"a reload is not enough for this router: {done.differs}",
            hint=f"`{place.command('router apply --replace')}` makes it anew: clients get no answer for some seconds, "
            "and its counters begin anew",
        )
    closed = done.restored is not None and done.restored.closed
    click.echo(f"next: {place.command('release' if closed else 'status')}", err=True)
