"""Which lists of files `pull` takes for a model's."""

from dataclasses import replace

import pytest

from mlops_deploy.api.pull import sound
from mlops_deploy.errors import ContentMismatchError
from mlops_deploy.oci.card import Listing
from mlops_deploy.oci.metadata import FileSum, ModelCard, describe
from mlops_deploy.spec.refs import ContentId


def listing(*paths):
    """A list of these paths whose content id is right, whatever they are."""
    files = tuple(FileSum(path=path, size=1, sha256="1" * 64) for path in paths)
    card = ModelCard(name="digits")
    model = describe(card, sorted(files, key=lambda file: file.path.encode()))
    return Listing(card=card, content_id=model.content_id, files=files)


def test_the_files_of_a_model_in_any_order():
    model = sound(listing("b", "a/b", "a/c", "a.b", "ä"))
    assert [file.path for file in model.files] == ["a.b", "a/b", "a/c", "b", "ä"]
    assert model.content_id == sound(listing("ä", "a/c", "a.b", "b", "a/b")).content_id


@pytest.mark.parametrize(
    "paths",
    [
        ("a", "a/b"),
        ("a/b/c", "a/b"),
        ("a", "a"),
        (),
        ("../a",),
        ("a/../b",),
        ("/a",),
        ("a//b",),
        ("a/",),
        ("a/./b",),
        (".",),
        ("",),
        ("a\nb",),
        ("a/" + "n" * 256,),
    ],
)
def test_paths_that_no_model_has(paths):
    with pytest.raises(ContentMismatchError, match="damaged") as refused:
        sound(listing(*paths))
    assert "verify" in refused.value.hint


def test_another_content_id_than_the_files_give():
    with pytest.raises(ContentMismatchError, match="its files give"):
        sound(replace(listing("a"), content_id=ContentId("0" * 64)))
