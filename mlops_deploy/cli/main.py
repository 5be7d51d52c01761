"""The command group and the one boundary where errors become text and exit codes."""

import os
import signal
import sys
from importlib import import_module
from types import FrameType
from typing import Final, NoReturn

import click

from mlops_deploy import __version__
from mlops_deploy.cli.streams import LostResultError, colorful, drop_stdout, prepare_streams
from mlops_deploy.errors import DeployError, InterruptedByUserError, UnusableInputError

SECTIONS: Final = {
    "Build": {
        "build-model": "Build the carrier image of a model.",
        "build-server": "Build the prediction server image; it knows no model.",
        "copy": "Copy a carrier from a registry or the store to another, with all platforms and by the same digest.",
    },
    "Release": {
        "release": "Make the newest carrier of the model live, without a failed request and with a way back.",
        "plan": "Show what a release would do, and change nothing.",
        "rollback": "Give the traffic back to what was live before; hot when that still runs in its slot.",
        "advance": "Let the release that waits for a decision go on, as `release --until ready` left it.",
        "resume": "Go on with the release that has not ended, forward or back, from whatever machine.",
        "abort": "Turn the open release back: traffic as it was before it, its candidate stopped.",
        "tend": "Do what is due when nobody decided in time; for a timer, say every minute.",
        "freeze": "Let no release begin until unfreeze; who tries is told why (exit code 3).",
        "unfreeze": "Lift the freeze, so that releases may begin again.",
        "router": "Give the router the configuration of now: checked first, then reloaded without losing a connection.",
        "down": "End the service: close the router, stop both slots, remove everything but the volumes.",
    },
    "Run": {
        "pull": "Bring a model to DIR/v/<content id>, whole or not at all; the link DIR/<model name> names it.",
        "serve": "Serve one model on this machine, without a container engine.",
        "render": "Write the file that docker compose, nomad or kubectl runs.",
    },
    "Look": {
        "status": "Show what is live, the other slot, the router, and who is at work.",
        "history": "Show the releases so far, newest first: how each ended, and what the router counted meanwhile.",
        "logs": "Show what a task wrote, as it wrote it: by default the server of the live slot.",
        "inspect": "Show a carrier: model, files, layers, platforms, labels.",
        "verify": "Verify a carrier: recompute every digest, size and file hash; list all mismatches (exit code 12).",
        "compat": "Compare what a model needs with what a server image provides; exit code 9 when they do not fit.",
        "check": "Check the configuration and show every mistake in it.",
        "docs": "Describe every key of mlops.yml, or those of SECTION.",
    },
}
"""What works today, in the order of the work; each command is in the module of its name, loaded when it is called."""

COMMANDS: Final = {name: short for commands in SECTIONS.values() for name, short in commands.items()}


class LazyCommands(click.Group):
    """Shows help from the table alone, so that it stays quick however many commands there are."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Commands in reading order, not by alphabet."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """The command itself, from its module."""
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command = getattr(import_module(f"mlops_deploy.cli.{name}"), name)
        if not isinstance(command, click.Command):
            raise TypeError(f"mlops_deploy.cli.{name} has no command of its name")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, and with the command that was probably meant."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=1)
            ctx.fail(f"there is no command `{args[0][:80]}`" + (f"; did you mean `{near[0]}`?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        """Write one help section per group."""
        width = max(len(name) for name in COMMANDS)
        for section, commands in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name.ljust(width), short) for name, short in commands.items()])


@click.group(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mlops-deploy")
def app() -> None:
    """From a model file to a served, switchable, observable endpoint."""
    try:
        os.getcwd()  # noqa: PTH109 - asked for its error alone
    except FileNotFoundError as error:
        raise UnusableInputError("the working folder has been removed", hint="`cd` to one that is there") from error


def run() -> int:
    """Run the command line; an exit code of the published table."""
    try:
        prepare_streams()
        return _run()
    except (KeyboardInterrupt, click.Abort):
        return _ended(InterruptedByUserError("interrupted; nothing half-written was left"))


def _run() -> int:
    try:
        _hear_signals()
        code = app.main(standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as wrong:
        wrong.show()
        return wrong.exit_code
    except DeployError as error:
        return _ended(error)
    except BrokenPipeError:
        drop_stdout()
        return 1
    except (KeyboardInterrupt, click.Abort):
        raise
    except Exception as error:  # noqa: BLE001 - the boundary: no traceback reaches a user unasked
        return _unexpected(error)
    return code if isinstance(code, int) else 0


def _hear_signals() -> None:
    """From here on both ask us to end, and what is half-written can be removed; an ignored Ctrl-C stays ignored."""
    signal.signal(signal.SIGTERM, _as_interrupt)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _as_interrupt(signum: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - the signature of a handler
    raise KeyboardInterrupt


def _ended(error: DeployError) -> int:
    if isinstance(error, LostResultError):
        drop_stdout()
    _show(error)
    return error.exit_code


def _show(error: DeployError) -> None:
    from mlops_deploy.cli.console import harmless

    color = None if colorful() else False
    if text := str(error):
        click.echo(f"{click.style('error:', fg='red', bold=True)} {harmless(text)}", err=True, color=color)
    for line in error.detail:
        click.echo(harmless(line), err=True, color=color)
    if error.hint:
        click.echo(f"{click.style('hint:', fg='cyan')} {harmless(error.hint)}", err=True, color=color)


def _unexpected(error: Exception) -> int:
    if os.environ.get("MLOPS_DEPLOY_TRACEBACK"):
        raise error
    described = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    hint = "set MLOPS_DEPLOY_TRACEBACK=1 and run it again to see where; this is a fault of mlops-deploy if it persists"
    _show(DeployError(f"unexpected {described}", hint=hint))
    return DeployError.exit_code
