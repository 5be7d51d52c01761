"""What `inspect` reads: a carrier's own words, from its small blobs, and only when they are whole."""

import pytest

from mlops_deploy.errors import ContentMismatchError
from mlops_deploy.oci.blobs import LayoutBlobs
from mlops_deploy.oci.view import LARGEST_METADATA, view, view_images
from mlops_deploy.spec.refs import Digest
from tests.fakes.crafted import FILES, Crafted, good_carrier, rewritten


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return good_carrier(tmp_path_factory.mktemp("good"))


@pytest.fixture
def crafted(good, tmp_path):
    return Crafted(good, tmp_path / "store")


def seen(crafted, digest=None):
    return view(LayoutBlobs(crafted.path), Digest.parse(digest or crafted.log["digest"]))


def test_what_it_says(crafted):
    carrier = seen(crafted)
    assert [str(image.platform) for image in carrier.images] == ["linux/amd64", "linux/arm64"]
    card = carrier.listing.card
    assert (card.name, card.requires, card.licence) == ("digits", ("numpy>=2",), "MIT")
    assert card.signature == {"inputs": [1.5, "ä"]}
    assert {file.path: file.size for file in carrier.listing.files} == {name: len(data) for name, data in FILES.items()}
    assert carrier.label("content") == str(carrier.listing.content_id) == crafted.log["content_id"]


def test_model_layers_are_not_read(crafted):
    for layer in crafted.manifest["layers"][:-1]:
        (crafted.path / "blobs" / "sha256" / layer["digest"].removeprefix("sha256:")).unlink()
    assert seen(crafted).listing.card.name == "digits"


@pytest.mark.parametrize("which", ["index", "manifest", "config", "metadata"])
@pytest.mark.parametrize("damage", ["missing", "flipped", "longer"])
def test_damage_is_told_instead(crafted, which, damage):
    digest = {
        "index": crafted.log["digest"],
        "manifest": crafted.image["digest"],
        "config": crafted.manifest["config"]["digest"],
        "metadata": crafted.manifest["layers"][-1]["digest"],
    }[which]
    path = crafted.path / "blobs" / "sha256" / digest.removeprefix("sha256:")
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(data + b"x" if damage == "longer" else data.replace(b"a", b"b", 1))
    with pytest.raises(ContentMismatchError, match=f"the carrier's {which}.* is damaged") as told:
        seen(crafted)
    assert "verify" in told.value.hint


def test_a_metadata_layer_that_claims_to_be_huge_is_not_read(crafted):
    crafted.afterwards(lambda c: c.manifest["layers"][-1].update(size=LARGEST_METADATA + 1))
    with pytest.raises(ContentMismatchError, match="expected at most"):
        seen(crafted, crafted.write())


def test_a_metadata_layer_without_a_list(crafted):
    crafted.in_last(lambda info, data: None if info.name == "carrier/manifest.json" else (info, data))
    with pytest.raises(ContentMismatchError, match=r"/carrier/manifest.json is damaged"):
        seen(crafted, crafted.write())


def test_a_metadata_layer_with_a_hard_link(crafted):
    def linked(info, data):
        if info.name == "carrier/SIZES":
            info.type, info.linkname, info.size, data = b"1", "carrier/SHA256SUMS", 0, b""
        return info, data

    crafted.layers[-1] = rewritten(crafted.layers[-1], linked)
    with pytest.raises(ContentMismatchError, match="is a hard link"):
        seen(crafted, crafted.write())


def test_images_alone_need_no_layer(crafted):
    for layer in crafted.manifest["layers"]:
        (crafted.path / "blobs" / "sha256" / layer["digest"].removeprefix("sha256:")).unlink()
    images = view_images(LayoutBlobs(crafted.path), Digest.parse(crafted.log["digest"]))
    assert [len(image.layers) for image in images] == [len(crafted.layers)] * 2
