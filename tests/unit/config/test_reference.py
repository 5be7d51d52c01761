"""One table, four uses: decoder, reference text, JSON Schema and example agree."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from mlops_deploy.cli.docs import docs
from mlops_deploy.config.fields import Field, Table
from mlops_deploy.config.keys import SYNONYMS, TABLE, TITLE
from mlops_deploy.config.load import Examined, examine
from mlops_deploy.config.reference import example, json_schema, reference
from tests.unit.config.test_load import GOLDEN, LEAST, MOST
from tests.unit.config.test_messages import BASE, ONE_MISTAKE, QUOTE, WHOLE_FILES

Look = Callable[..., Examined]
SCHEMA = json_schema(TABLE, TITLE)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

# What JSON Schema cannot see: text before it is data, units as numbers, two keys that depend on each other.
BEYOND_SCHEMA = (
    "given twice", "alias", "tag", "a tab", "cannot start", "a `:`", "quotes", "expected", "not closed", "no `key",
    "second document", "a key must be", "deeper", "cannot name the model", "from 6Mi", "720h", "`env.A` must be one",
    "model.signature.a", "the key `1`", "no preset", "`8080`",
)  # fmt: skip


class EditorLoader(yaml.SafeLoader):
    """YAML 1.2, as editors read it: only JSON's numbers and truth values are more than text."""

    yaml_implicit_resolvers: ClassVar = {}


EditorLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|false)$"), list("tf"))
EditorLoader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(~|null|)$"), ["~", "n", ""])
EditorLoader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^-?(0|[1-9][0-9]*)$"), list("-0123456789"))
EditorLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^-?(0|[1-9][0-9]*)\.[0-9]+$"), list("-0123456789")
)


def accepts(text: str) -> bool:
    return VALIDATOR.is_valid(yaml.load(text, Loader=EditorLoader))  # noqa: S506 - a SafeLoader


def refused(examined: Examined) -> bool:
    return any(one.severity == "error" for one in examined.issues)


def all_fields(table: Table = TABLE) -> list[Field]:
    inner = [one for field in table.fields if isinstance(field.kind, Table) for one in all_fields(field.kind)]
    return [*table.fields, *inner]


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


GOOD = [
    LEAST, "x-any: {thing: [1]}\n" + LEAST, LEAST + "target: compose\n", LEAST + "user: 1000\n",
    LEAST + "env: {A: 1, B: true, C: 1.5, D: x}\n", LEAST + "resources: {cpu: 2, memory: 2GiB}\n",
    LEAST + "ready: {deadline: 1h30m}\nrelease: {bake: 0s, strategy: ab}\n",
    LEAST + "resources: {}\nrelease: {x-a: 1}\n",
    LEAST + "server: {image: 'localhost:5000/a/b:1@sha256:" + "0" * 64 + "'}\n",
]  # fmt: skip


@pytest.mark.parametrize("text", GOOD, ids=range(len(GOOD)))
def test_what_the_decoder_takes_the_schema_takes(look: Look, text: str) -> None:
    assert not refused(look(text))
    assert accepts(text)


def test_the_fullest_file_passes_the_schema() -> None:
    assert accepts(MOST)


CASES = [(BASE + case[0], *case[2:]) for case in ONE_MISTAKE] + [(case[0], *case[2:]) for case in WHOLE_FILES]
BAD = [
    text
    for text, message, hint in CASES
    if len(text) < 4000 and hint != QUOTE and not any(part in message for part in BEYOND_SCHEMA)
]


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_what_the_decoder_refuses_the_schema_refuses(look: Look, text: str) -> None:
    assert refused(look(text))
    assert not accepts(text)


def test_the_corpus_is_not_thin() -> None:
    assert len(BAD) > 50


def test_the_example_loads_as_it_is_and_with_everything_switched_on(folder: Path, golden: Callable) -> None:
    text = example(TABLE)
    golden("example.yml", text)
    (folder / "mlops.yml").write_text(text)
    assert not refused(examine(Path("mlops.yml"), None))
    (folder / "full.yml").write_text(re.sub(r"(?m)^( *)#(?! )", r"\1", text))
    (folder / "golden.jsonl").write_text(GOLDEN)
    for name in ("hook.py", "constraints.txt"):
        (folder / name).touch()
    full = examine(Path("full.yml"), None)
    assert not refused(full)
    given = yaml.safe_load((folder / "full.yml").read_text())
    assert list(given) == [one.key for one in TABLE.fields]
    assert accepts((folder / "full.yml").read_text())


def test_the_example_shows_the_defaults_as_they_are(folder: Path) -> None:
    assert {one.key: one.shown for one in all_fields() if one.key == "port"} == {"port": "8080"}
    (folder / "mlops.yml").write_text(LEAST)
    least = examine(Path("mlops.yml"), None).spec
    shown = {one.key: one.shown for one in all_fields()}
    (folder / "shown.yml").write_text(
        LEAST
        + f"preset: {shown['preset']}\nport: {shown['port']}\nready: {{deadline: 2m}}\n"
        + f"release: {{bake: {shown['bake']}, drain: {shown['drain']}, deadline: 10m}}\n"
    )
    assert examine(Path("shown.yml"), None).spec == least


def test_every_key_is_described() -> None:
    text = reference(TABLE, TITLE)
    for path in TABLE.paths():
        assert f"`{path}`" in text or f"## {path}" in text
    for one in all_fields():
        assert one.doc.endswith(".")
        assert isinstance(one.kind, Table) or one.example


def test_synonyms_name_real_keys() -> None:
    assert set(SYNONYMS.values()) <= set(TABLE.paths())
    assert not set(SYNONYMS) & {one.key for one in TABLE.fields}


class TestDocs:
    def run(self, *args: str) -> str:
        result = CliRunner().invoke(docs, args, catch_exceptions=False)
        assert result.exit_code == 0
        return result.output

    def test_prints_what_was_asked(self) -> None:
        assert self.run() == reference(TABLE, TITLE)
        assert json.loads(self.run("--schema")) == SCHEMA
        assert self.run("--example") == example(TABLE)

    @pytest.mark.parametrize("name", ["release", "release.bake"])
    def test_prints_one_section(self, name: str) -> None:
        assert self.run(name).startswith("## release\n")
        assert "`release.bake`" in self.run(name)
        assert "model" not in self.run(name)

    def test_prints_one_key(self) -> None:
        assert self.run("port").startswith("* `port` (default: 8080)\n")
