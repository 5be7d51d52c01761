"""Whatever stands in a configuration: a spec, or one clear error that points into the file; never anything else."""

import tempfile
import time
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_deploy.config.issues import pointer
from mlops_deploy.config.load import examine, load
from mlops_deploy.errors import ConfigError
from mlops_deploy.spec.deploy import DeploySpec
from tests.unit.config.test_load import MOST

NASTY = st.sampled_from([
    "no", "on", "1_000", "0o17", "2024-01-01", "12:30:45", ".nan", ".inf", "1e999", "~", "null", "true", "''", '"\\0"',
    "${x}", "$$", "%{ if }", "{{ env }}", "`id`", '"; }', "#", ": ", "&a ", "*a", "<<: *a",
    "!!python/object:os.system x", "!x ", "\t", "\ufeff", "---\n", "...\n", "%YAML 9.9\n", "[" * 40, "{a: " * 40,
    "]", "}", "? ", "- ", "|\n", ">-\n ",
    "\r", "\r\n", "\u2028", "\x85", "\0", "\x1b[31m", "🙂", "\u202e", "x" * 70_000, "'", '"', "\\ud800", "\\u0000", ",",
    "service: ", "model: ", "env: ", "ready: ", "x-a: ", "9" * 400, "-", "../x", "a b", "-rf", "=", "@", "%",
])  # fmt: skip
TEXT = st.one_of(NASTY, st.text(max_size=8))
EDIT = st.tuples(st.integers(0, len(MOST)), st.integers(0, 30), TEXT)


def mutate(text: str, edits: list[tuple[int, int, str]]) -> str:
    for at, length, new in edits:
        text = text[:at] + new + text[at + length :]
    return text


def check(raw: bytes, folder: Path) -> None:
    file = folder / "mlops.yml"
    file.write_bytes(raw)
    started = time.process_time()
    outcome = loaded(file)
    if isinstance(outcome, ConfigError):
        assert outcome.message
        assert outcome.hint
        assert all(line.isprintable() for line in (outcome.message, outcome.hint, *outcome.detail))
    assert time.process_time() - started < 10
    for issue in examine_all(file):
        lines = issue.mark.source.lines
        assert 1 <= issue.mark.line <= len(lines)
        assert 1 <= issue.mark.column <= len(lines[issue.mark.line - 1]) + 1
        assert pointer(issue)


def loaded(file: Path) -> DeploySpec | ConfigError:
    try:
        return load(file, None)
    except ConfigError as error:
        return error


def examine_all(file: Path) -> tuple:
    try:
        return examine(file, None).issues
    except ConfigError:
        return ()


@given(st.lists(EDIT, min_size=1, max_size=4))
@settings(max_examples=300, deadline=None)
def test_mutated_files(edits: list[tuple[int, int, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(mutate(MOST, edits).encode("utf-8", errors="surrogatepass"), Path(folder))


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_bytes(raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(raw, Path(folder))


def test_a_billion_laughs_are_not_heard(tmp_path: Path) -> None:
    rows = ['a: &a ["x","x","x","x","x","x","x","x","x"]']
    rows += [f"{b}: &{b} [{','.join(['*' + a] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    check("\n".join(rows).encode(), tmp_path)
    assert [one.message for one in examine_all(tmp_path / "mlops.yml")] == ["the alias `*a` is not supported"]


def test_a_large_file_of_mistakes_is_quick(tmp_path: Path) -> None:
    check(b"".join(b"k%d: [a, {b: c}]\n" % n for n in range(12_000)), tmp_path)
