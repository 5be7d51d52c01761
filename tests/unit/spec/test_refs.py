"""Names that travel: what is accepted, what is refused, and that the published patterns say the same."""

import re

import pytest

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.spec.refs import IMAGE_REF_PATTERN, ContentId, Digest, ImageRef, is_model_name

DIGEST = "sha256:" + "0a" * 32
GOOD = [
    "digits", "digits:1.0", "ml/digits:RC_1", "localhost:5000/digits", "registry.example.com:443/a/b-c__d.e:1",
    f"digits@{DIGEST}", f"a/b:1@{DIGEST}", "[::1]:5000/x:1", "a:65535/b", "a:1/b", "a:9999/b", "a:64999/b",
]  # fmt: skip
BAD = [
    "", ":", "digits:", "Digits", "a//b", "/a", "a/", "-a", "a:b:c", "a@", "a@sha256:00", f"a@{DIGEST}0", f"@{DIGEST}",
    f"a@md5:{'0' * 32}", "a b", "a:-b", "a:" + "t" * 129, "https://a/b", "a\n", "a:1\n", "a$(id)", "é",
    "a.b:99999/c", "a:65536/b", "a:0/b", "a:123456/b", "[::1]:70000/x:1",
]  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_references_are_read_and_written_again(text: str) -> None:
    assert str(ImageRef.parse(text)) == text


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(UnusableInputError):
        ImageRef.parse(text)


@pytest.mark.parametrize("text", GOOD + BAD)
def test_the_pattern_says_the_same(text: str) -> None:
    assert bool(re.fullmatch(IMAGE_REF_PATTERN, text)) == (text in GOOD)


@pytest.mark.parametrize("text", ["a.b:99999/c:1", "[::1]:0/c"])
def test_a_port_that_none_has_is_named(text: str) -> None:
    with pytest.raises(UnusableInputError) as caught:
        ImageRef.parse(text)
    assert caught.value.hint is not None
    assert "port is between 1 and 65535" in caught.value.hint


@pytest.mark.parametrize("text", ["localhost:5000/Team/c", "a.b:65535/c:-"])
def test_a_port_that_is_right_is_not_blamed(text: str) -> None:
    with pytest.raises(UnusableInputError) as caught:
        ImageRef.parse(text)
    assert caught.value.hint == "expected `NAME:TAG`, `NAME@sha256:…` or both; names are lower case"


def test_a_long_evil_reference_is_refused_quickly() -> None:
    with pytest.raises(UnusableInputError):
        ImageRef.parse("a-" * 50_000 + "!")


@pytest.mark.parametrize("text", ["digits", "0", "a.b_c-d", "v1", "vv", "x" * 63])
def test_model_names(text: str) -> None:
    assert is_model_name(text)


@pytest.mark.parametrize("text", ["", "v", "V", "-a", "a-", ".", "..", "a/b", "x" * 64, "a\n", "v\n", "a b", "é"])
def test_what_cannot_name_a_model(text: str) -> None:
    assert not is_model_name(text)


@pytest.mark.parametrize(
    "text", ["", "sha256:", "sha256:" + "0" * 63, "sha256:" + "A" * 64, "md5:" + "0" * 64, "0" * 64]
)
def test_what_is_no_digest(text: str) -> None:
    with pytest.raises(UnusableInputError):
        Digest.parse(text)


def test_the_first_twelve_digits_are_the_short_form() -> None:
    assert Digest.parse(DIGEST).short == ContentId("0a" * 32).short == "0a" * 6


@pytest.mark.parametrize("text", ["d", "d:1.2.0", f"d@{DIGEST}", "d:0a0a0a0a0a0", "d:0a0a0a0a0a0a0", "d:0A0A0A0A0A0A"])
def test_tags_that_are_free(text: str) -> None:
    ImageRef.parse(text).require_free_tag()


def test_the_short_tag_belongs_to_one_carrier_alone() -> None:
    own = ImageRef(name="d", tag="0a" * 6)
    own.require_free_tag(Digest.parse(DIGEST))
    for carrier in (None, Digest("0b" * 32)):
        with pytest.raises(UnusableInputError, match="belongs to one carrier alone"):
            own.require_free_tag(carrier)
