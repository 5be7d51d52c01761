"""The options that name a service, in every command that a message names."""

import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mlops_deploy.cli import place as place_module
from mlops_deploy.cli import wiring
from mlops_deploy.cli.main import COMMANDS, app
from mlops_deploy.cli.place import Place, placed
from mlops_deploy.errors import DeployError

SOURCES = Path(place_module.__file__).parent.parent


def place(file="mlops.yml", environment=None, target=None):
    return Place(file=Path(file), environment=environment, target=target)


PROD = place(environment="prod", target="docker")


@pytest.mark.parametrize(
    ("where", "text", "expected"),
    [
        (place(), "`mlops-deploy status` shows it", "`mlops-deploy status` shows it"),
        (place("x.yml"), "`mlops-deploy status`", "`mlops-deploy status -f x.yml`"),
        (PROD, "`mlops-deploy status`", "`mlops-deploy status -e prod --target docker`"),
        (
            place("my services/it's.yml", "a b"),
            "`mlops-deploy down --force` ends it",
            "`mlops-deploy down --force -f 'my services/it'\"'\"'s.yml' -e 'a b'` ends it",
        ),
        (
            PROD,
            "`mlops-deploy advance`, `mlops-deploy abort`",
            "`mlops-deploy advance -e prod --target docker`, `mlops-deploy abort -e prod --target docker`",
        ),
        (place("x"), "`mlops-deploy router apply --replace`", "`mlops-deploy router apply --replace -f x`"),
        (PROD, "build one with `mlops-deploy build-model`", "build one with `mlops-deploy build-model -e prod`"),
        (PROD, "`mlops-deploy plan -o FILE` now", "`mlops-deploy plan -o FILE -e prod --target docker` now"),
        (PROD, "`mlops-deploy release-notes` is none, `mlops-deploy docs` takes none", None),
        (PROD, "`--strategy bluegreen`, mlops-deploy status", None),
        (place(r"\1.yml"), "`mlops-deploy logs`", r"`mlops-deploy logs -f '\1.yml'`"),
    ],
)  # fmt: skip
def test_every_command_of_a_hint_is_for_this_service(where, text, expected):
    assert where.located(text) == (text if expected is None else expected)


def test_the_command_line_of_another_command():
    assert place("a b.yml", "prod", "process").command("status -w") == (
        "mlops-deploy status -w -f 'a b.yml' -e prod --target process"
    )


def commands_in_messages():
    """Every command line in back-ticks in the product's own sources."""
    found = set()
    for path in SOURCES.rglob("*.py"):
        found |= set(re.findall(r"`mlops-deploy ([a-z-]+)[^`{]*`", path.read_text(encoding="utf-8")))
    return found


def test_every_command_that_a_message_names_is_there():
    found = commands_in_messages()
    assert {"resume", "abort", "build-model"} <= found
    assert found <= set(COMMANDS)


def options_of(name):
    command = app.get_command(None, name)
    command = command.commands["apply"] if name == "router" and hasattr(command, "commands") else command
    return {option for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_command_is_given_only_options_that_it_takes_and_all_that_a_service_needs(name):
    words = "router apply" if name == "router" else name
    given = place("x.yml", "prod", "docker").located(f"`mlops-deploy {words}`")
    takes = options_of(name)
    for option in ("-f", "-e", "--target"):
        assert f" {option} " not in given or option in takes, given
    if {"-f", "-e", "--target"} <= takes and name in commands_in_messages() - {"render"}:
        assert given.endswith("-f x.yml -e prod --target docker`")


@pytest.mark.parametrize("hint", [None, "`mlops-deploy unfreeze` lifts it"])
def test_an_error_of_a_command_names_the_next_one_for_the_same_service(hint):
    @click.command()
    @placed
    def failing(place):
        raise DeployError("no", hint=hint)

    arguments = ["-f", "a b.yml", "-e", "prod", "--target", "process"]
    error = CliRunner().invoke(failing, arguments).exception
    assert isinstance(error, DeployError)
    assert error.hint == (hint and "`mlops-deploy unfreeze -f 'a b.yml' -e prod --target process` lifts it")


def test_who_ends_a_command_by_a_second_signal_is_told_how_to_go_on_with_this_service(monkeypatch, tmp_path):
    (tmp_path / "m").touch()
    (tmp_path / "own.yml").write_text("service: digits\nmodel: {path: m}\n")
    (tmp_path / "own.live.yml").write_text("port: 9001\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(wiring, "clock", lambda naming: naming)
    monkeypatch.setattr(wiring, "process_service", lambda project, spec, clock, holder: clock)
    assert place("own.yml", "live", "process").service() == " -f own.yml -e live --target process"
