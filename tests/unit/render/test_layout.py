import pytest

from mlops_deploy.errors import DeployError, UnusableInputError
from mlops_deploy.render.layout import lay_out, lay_out_objects, read_back, read_objects

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


def test_objects_are_written_in_their_order_and_their_dollars_are_left_alone(tmp_path):
    (tmp_path / "t.j2").write_text("name: {{ first.name }}\n---\nname: {{ second.name }}\n")
    objects = {"first": {"name": "$(A)"}, "second": {"name": "$$"}}
    text = lay_out_objects("t.j2", objects, source=tmp_path)
    assert text == 'name: "$(A)"\n---\nname: "$$"\n'
    assert read_objects(text) == list(objects.values())


@pytest.mark.parametrize(
    "template", ["name: {{ first.name }}\n", "name: {{ first.name }}\n---\nname: b\n---\nmore: 1\n"]
)
def test_an_object_too_few_or_too_many_is_caught(tmp_path, template):
    (tmp_path / "t.j2").write_text(template)
    with pytest.raises(DeployError, match="does not say what it was given"):
        lay_out_objects("t.j2", {"first": {"name": "a"}, "second": {"name": "b"}}, source=tmp_path)


@pytest.mark.parametrize(("value", "what"), [("a\0b", "NUL"), ("a\ud800b", "surrogate")])
@pytest.mark.parametrize("where", [lambda value: value, lambda value: [value], lambda value: {"inner": value}])
def test_what_no_process_can_be_given_is_refused_by_name(tmp_path, value, what, where):
    with pytest.raises(UnusableInputError, match=rf"`(name|inner)` holds .*{what}"):
        laid_out(tmp_path, "", {"name": where(value)})


def laid_out(folder, template, document=None):
    (folder / "t.j2").write_text(template)
    return lay_out("t.j2", document or DOCUMENT, source=folder)
