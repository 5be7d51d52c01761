"""The documentation is written from the commands and the table of keys, and compared with them to the byte."""

from collections.abc import Callable
from inspect import cleandoc
from pathlib import Path

import click
import pytest

from mlops_deploy.cli.main import COMMANDS, app
from mlops_deploy.config.keys import TABLE, TITLE
from mlops_deploy.config.reference import reference

ROOT = Path(__file__).parent.parent
CONTEXT = click.Context(app)


def command_reference() -> str:
    """`docs/cli.md`: every command, in the order of the work, laid out by us: click's layout differs by version."""
    parts = ["# Commands\n"]
    for name in COMMANDS:
        command = loaded(name)
        arguments = [argument_reference(one) for one in command.params if isinstance(one, click.Argument)]
        parts.append(f"\n## {name}\n\n`mlops-deploy {name}{''.join(arguments)}`\n\n{cleandoc(str(command.help))}\n\n")
        parts += [option_reference(one) for one in command.params if isinstance(one, click.Option)]
    return "".join(parts)


def loaded(name: str) -> click.Command:
    command = app.get_command(CONTEXT, name)
    assert command is not None
    return command


def argument_reference(argument: click.Argument) -> str:
    name = str(argument.name).upper()
    return f" {argument.metavar or (name if argument.required else f'[{name}]')}"


def option_reference(option: click.Option) -> str:
    choices = "|".join(option.type.choices) if isinstance(option.type, click.Choice) else ""
    value = "" if option.is_flag else f" {option.metavar or choices or option.type.name.upper()}"
    default = f" Default: `{option.default}`." if option.show_default else ""
    return f"* `{', '.join(option.opts)}{value}` {option.help}{default}\n"


def configuration_reference() -> str:
    """`docs/configuration.md`: every key of `mlops.yml`."""
    return reference(TABLE, TITLE)


@pytest.mark.parametrize(
    ("name", "write"),
    [("cli.md", command_reference), ("configuration.md", configuration_reference)],
    ids=["cli", "keys"],
)
def test_the_written_reference_is_up_to_date(
    request: pytest.FixtureRequest, name: str, write: Callable[[], str]
) -> None:
    path = ROOT / "docs" / name
    if request.config.getoption("--update-golden"):
        path.write_text(write(), encoding="utf-8")
    assert path.read_text(encoding="utf-8") == write(), f"run pytest --update-golden tests/test_docs.py and read {path}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_says_what_it_does(name: str) -> None:
    command = loaded(name)
    assert command.name == name
    assert command.get_short_help_str(1000) == COMMANDS[name]
    assert COMMANDS[name].endswith(".")
    undescribed = [one.name for one in command.params if isinstance(one, click.Option) and not one.help]
    assert undescribed == []


def test_every_module_with_a_command_is_listed() -> None:
    modules = {path.stem.replace("_", "-") for path in (ROOT / "mlops_deploy" / "cli").glob("*.py")}
    commands = {name for name in modules if f'command("{name}")' in source(name) or "@click.command()" in source(name)}
    assert commands == set(COMMANDS)


def source(name: str) -> str:
    return (ROOT / "mlops_deploy" / "cli" / f"{name.replace('-', '_')}.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_reference(name: str) -> None:
    assert f"\n## {name}\n" in (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", list(TABLE.paths()))
def test_every_key_is_in_the_reference(path: str) -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert f"* `{path}` (" in text or f"\n## {path}" in text
