import pytest

from mlops_deploy.errors import DeployError, UnusableInputError
from mlops_deploy.render.layout import lay_out, read_back

DOCUMENT = {"name": "digits", "count": 3, "on": True}


def test_a_document_is_laid_out_as_the_template_says(tmp_path):
    text = laid_out(tmp_path, "# a comment\nname: {{ name }}\n\ncount: {{ count }}\n'on': {{ on }}\n")
    assert text == "# a comment\nname: digits\n\ncount: 3\n'on': true\n"


@pytest.mark.parametrize(
    "template",
    [
        "name: {{ name }}\ncount: {{ count }}\n",  # leaves one out
        "name: {{ name }}\ncount: 3\n'on': 1\n",  # another type
        "name: {{ name }}\ncount: '3'\n'on': true\n",
        "name: {{ name }}\ncount: 3\n'on': true\nmore: 1\n",  # adds one
    ],
)
def test_a_template_that_says_something_else_is_caught(tmp_path, template):
    with pytest.raises(DeployError, match="does not say what it was given") as caught:
        laid_out(tmp_path, template)
    assert caught.value.exit_code == 1


def test_a_template_that_asks_for_what_is_not_there_is_caught(tmp_path):
    with pytest.raises(DeployError, match="cannot be filled: 'nmae' is undefined"):
        laid_out(tmp_path, "name: {{ nmae }}\n")


def test_a_template_that_gives_no_yaml_is_caught(tmp_path):
    with pytest.raises(DeployError, match="cannot be read back"):
        laid_out(tmp_path, "name: [\n")


def test_a_dollar_that_compose_would_interpolate_is_caught():
    with pytest.raises(DeployError, match="stands alone"):
        read_back("name: $$$HOME\n")


@pytest.mark.parametrize(("value", "what"), [("a\0b", "NUL"), ("a\ud800b", "surrogate")])
@pytest.mark.parametrize("where", [lambda value: value, lambda value: [value], lambda value: {"inner": value}])
def test_what_no_process_can_be_given_is_refused_by_name(tmp_path, value, what, where):
    with pytest.raises(UnusableInputError, match=rf"`(name|inner)` holds .*{what}"):
        laid_out(tmp_path, "", {"name": where(value)})


def laid_out(folder, template, document=None):
    (folder / "t.j2").write_text(template)
    return lay_out("t.j2", document or DOCUMENT, source=folder)
