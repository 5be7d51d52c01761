import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlops_deploy.errors import DeployError
from mlops_deploy.render.scalar import as_yaml
from mlops_deploy.render.template import fill

SPEAKABLE = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@pytest.mark.parametrize("loader", [yaml.SafeLoader, yaml.CSafeLoader])
@given(text=SPEAKABLE)
def test_any_text_is_read_as_that_text(loader, text):
    assert yaml.load(f"key: {as_yaml(text)}\n", Loader=loader) == {"key": text}  # noqa: S506


@pytest.mark.parametrize("loader", [yaml.SafeLoader, yaml.CSafeLoader])
@given(items=st.lists(SPEAKABLE))
def test_any_list_is_read_as_that_list(loader, items):
    assert yaml.load(as_yaml(items), Loader=loader) == items  # noqa: S506


@given(text=SPEAKABLE)
def test_a_value_never_takes_more_than_its_line(text):
    assert len(as_yaml(text).splitlines()) == 1


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (True, "true"),
        (64, "64"),
        ("true", '"true"'),
        ("64", '"64"'),
        ("No", '"No"'),
        ("1e5", '"1e5"'),
        ("12:30", '"12:30"'),
        ("", '""'),
        ("~", '"~"'),
        ("ends:", '"ends:"'),
        ("python:3.11", "python:3.11"),
        ("/model/v", "/model/v"),
        ("30s", "30s"),
        ("512Mi", "512Mi"),
        ("$HOME", '"$HOME"'),
        ('{"a": 1}', """'{"a": 1}'"""),
        ('it\'s "quoted"', "'it''s \"quoted\"'"),
        ("a\u2028b", '"a\\u2028b"'),
        (["CMD", "python"], '["CMD", "python"]'),
    ],
)
def test_values_are_quoted_only_where_a_reader_might_take_them_for_something_else(value, written):
    assert as_yaml(value) == written


def test_a_name_that_is_not_there_is_an_error(tmp_path):
    (tmp_path / "file.j2").write_text("key: {{ absent }}")
    with pytest.raises(DeployError, match="absent"):
        fill(tmp_path, "file.j2", {"present": 1})
