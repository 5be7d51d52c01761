"""The command group and the one boundary where errors become text and exit codes."""

import os
import signal
import sys
from types import FrameType
from typing import ClassVar, NoReturn

import click

from mlops_deploy import __version__
from mlops_deploy.cli.build_model import build_model
from mlops_deploy.cli.build_server import build_server
from mlops_deploy.cli.check import check
from mlops_deploy.cli.docs import docs
from mlops_deploy.cli.inspect import inspect
from mlops_deploy.cli.render import render
from mlops_deploy.cli.serve import serve
from mlops_deploy.cli.verify import verify
from mlops_deploy.errors import DeployError, InterruptedByUserError


class GroupedCommands(click.Group):
    """Lists commands in the order of the work, in groups; only what works today is registered."""

    sections: ClassVar[dict[str, tuple[str, ...]]] = {
        "Build": ("build-model", "build-server"),
        "Run": ("serve", "render"),
        "Look": ("inspect", "verify", "check", "docs"),
    }

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Commands in reading order, not by alphabet."""
        known = [name for names in self.sections.values() for name in names if name in self.commands]
        return known + [name for name in self.commands if name not in known]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        """Write one help section per group."""
        width = max(len(name) for name in self.commands)
        limit = formatter.width - 6 - width
        for section, names in self.sections.items():
            rows = [(name, self.commands[name].get_short_help_str(limit)) for name in names if name in self.commands]
            if rows:
                with formatter.section(section):
                    formatter.write_dl([(name.ljust(width), text) for name, text in rows])


@click.group(cls=GroupedCommands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mlops-deploy")
def app() -> None:
    """From a model file to a served, switchable, observable endpoint."""


for command in (build_model, build_server, check, docs, inspect, render, serve, verify):
    app.add_command(command)


def main() -> NoReturn:
    """Run the command line; the process ends with an exit code of the published table."""
    signal.signal(signal.SIGTERM, _as_interrupt)
    sys.exit(_run())


def _as_interrupt(signum: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - the signature of a handler
    raise KeyboardInterrupt


def _run() -> int:
    try:
        code = app.main(standalone_mode=False)
    except click.ClickException as wrong:
        wrong.show()
        return wrong.exit_code
    except DeployError as error:
        _show(error)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        _show(InterruptedByUserError("interrupted; nothing half-written was left"))
        return InterruptedByUserError.exit_code
    except BrokenPipeError:
        _drop_stdout()
        return 1
    except Exception as error:  # noqa: BLE001 - the boundary: no traceback reaches a user unasked
        return _unexpected(error)
    return code if isinstance(code, int) else 0


def _show(error: DeployError) -> None:
    if text := str(error):
        click.echo(f"{click.style('error:', fg='red', bold=True)} {text}", err=True)
    for line in error.detail:
        click.echo(line, err=True)
    if error.hint:
        click.echo(f"{click.style('hint:', fg='cyan')} {error.hint}", err=True)


def _unexpected(error: Exception) -> int:
    if os.environ.get("MLOPS_DEPLOY_TRACEBACK"):
        raise error
    described = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    hint = "set MLOPS_DEPLOY_TRACEBACK=1 and run it again to see where; this is a fault of mlops-deploy if it persists"
    _show(DeployError(f"unexpected {described}", hint=hint))
    return DeployError.exit_code


def _drop_stdout() -> None:
    # The reader has gone: flushing at exit would fail again, so what is left goes nowhere.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
